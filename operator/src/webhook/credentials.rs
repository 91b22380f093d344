//! Whether Secrets hold what pgBackRest needs to log in to S3, and to trust it. Pure.

use std::path::Path;

use k8s_openapi::api::core::v1::Secret;

/// Options without which pgBackRest cannot use repo1.
const NEEDED: [&str; 2] = ["repo1-s3-key", "repo1-s3-key-secret"];

/// What such a Secret holds.
const FORMAT: &str = "a key that ends in .conf, with repo1-s3-key and repo1-s3-key-secret in a section [global]";

/// What is wrong with `secret`, in a fragment that reads after its name. Never a value.
pub fn complaint(secret: Option<&Secret>) -> Option<String> {
    let Some(secret) = secret else {
        return Some(format!("does not exist: PostgreSQL itself cannot start without it; it needs {FORMAT}"));
    };
    let data = secret.data.iter().flatten();
    let files: Vec<_> = data.filter(|(key, _)| Path::new(key).extension().is_some_and(|end| end == "conf")).collect();
    if files.is_empty() {
        return Some(format!("lacks {FORMAT}"));
    }
    // pgBackRest reads all files together.
    let found: Vec<_> = files.iter().flat_map(|(_, value)| global_options(&value.0)).collect();
    let missing: Vec<_> = NEEDED.into_iter().filter(|needed| !found.iter().any(|option| option == needed)).collect();
    if missing.is_empty() {
        return None;
    }
    let names: Vec<_> = files.iter().map(|(key, _)| key.as_str()).collect();
    Some(format!("sets no {} in the section [global] of {}", missing.join(" and no "), names.join(", ")))
}

/// What is wrong with the Secret of a CA, likewise.
pub fn ca_complaint(secret: Option<&Secret>, key: &str) -> Option<String> {
    let Some(secret) = secret else {
        return Some(format!(
            "does not exist: PostgreSQL itself cannot start without it; it needs the PEM of the CA in key {key}"
        ));
    };
    let there = secret.data.iter().flatten().any(|(name, _)| name == key);
    (!there).then(|| format!("has no key {key}: PostgreSQL itself cannot start without it"))
}

/// Names of the options of `[global]` that have a value.
fn global_options(file: &[u8]) -> Vec<String> {
    let mut section = String::new();
    let mut options = Vec::new();
    for line in String::from_utf8_lossy(file).lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((name, value)) = line.split_once('=')
            && section == "global"
            && !value.trim().is_empty()
        {
            options.push(name.trim().to_owned());
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use rstest::rstest;

    use super::{ca_complaint, complaint};
    use crate::testing::secret;

    const KEYS: &str = "repo1-s3-key=AKIA\nrepo1-s3-key-secret = hunter2\n";

    #[rstest]
    #[case::usable(&[("s3.conf", format!("[global]\n{KEYS}"))], None)]
    #[case::any_name(&[("cloud.conf", format!("# keys\n\n[global]\n{KEYS}"))], None)]
    #[case::two_files(&[("a.conf", "[global]\nrepo1-s3-key=A".to_owned()), ("b.conf", "[global]\nrepo1-s3-key-secret=B".to_owned())], None)]
    #[case::no_conf(&[("s3.txt", format!("[global]\n{KEYS}"))], Some("lacks a key that ends in .conf"))]
    #[case::empty(&[], Some("lacks a key that ends in .conf"))]
    #[case::no_section(&[("s3.conf", KEYS.to_owned())], Some("repo1-s3-key and no repo1-s3-key-secret"))]
    #[case::other_section(&[("s3.conf", format!("[db]\n{KEYS}"))], Some("repo1-s3-key and no repo1-s3-key-secret"))]
    #[case::one_key(&[("s3.conf", "[global]\nrepo1-s3-key=A\n".to_owned())], Some("sets no repo1-s3-key-secret in"))]
    #[case::no_value(&[("s3.conf", "[global]\nrepo1-s3-key=A\nrepo1-s3-key-secret=\n".to_owned())], Some("sets no repo1-s3-key-secret in"))]
    fn what_pgbackrest_could_not_use(#[case] values: &[(&str, String)], #[case] expected: Option<&str>) {
        let values: Vec<_> = values.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let said = complaint(Some(&secret(&values)));
        match expected {
            Some(words) => assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{said:?}"),
            None => assert_eq!(said, None),
        }
        assert!(!said.unwrap_or_default().contains("hunter2"));
    }

    #[rstest]
    #[case::missing(None, Some("does not exist"))]
    #[case::other_key(Some(secret(&[("tls.crt", "")])), Some("has no key ca.crt"))]
    #[case::there(Some(secret(&[("ca.crt", "")])), None)]
    fn what_cannot_be_mounted(#[case] secret: Option<Secret>, #[case] expected: Option<&str>) {
        let said = ca_complaint(secret.as_ref(), "ca.crt");
        assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
        assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()));
    }

    #[test]
    fn a_missing_secret() {
        assert!(complaint(None).unwrap().contains("does not exist"));
    }
}
