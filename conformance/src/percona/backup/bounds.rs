//! That pgBackRest stays where it may be: on S3, or in the double's own directories. It runs on the machine itself here, and
//! takes a repository of which it is not told otherwise for a directory, `/var/lib/pgbackrest`.
//!
//! Pure.

use std::collections::BTreeSet;

use super::config::{Config, is_read};

/// Why pgBackRest is not run with this configuration; `None` when it may be.
pub(super) fn refusal(config: &Config) -> Option<String> {
    if !config.unusable.is_empty() {
        return Some(config.unusable.join(", "));
    }
    if config.repos.is_empty() && config.volumes.is_empty() {
        return Some("there is no repository".to_owned());
    }
    let breaks = |text: &str| text.trim_end().contains(['\n', '\r']);
    if let Some((key, _)) = config.global.iter().find(|(key, value)| breaks(key) || breaks(value)) {
        return Some(format!("the option {key:?} of spec.backups.pgbackrest.global has several lines"));
    }
    given(config).into_iter().find_map(|Given { repo, option, value, projected }| {
        let wanted = if config.volumes.contains_key(&repo) { "posix" } else { "s3" };
        if option == "type" && value != wanted {
            Some(format!("{repo} would be a repository of the type {value:?}"))
        } else if option == "path" && projected && !is_on_s3(config, &repo) {
            Some(format!("a projected file says where {repo} is"))
        } else {
            None
        }
    })
}

/// The repositories of which there is an option, but neither a storage in the spec nor a type in `global`.
pub(super) fn elsewhere(config: &Config) -> BTreeSet<String> {
    let given = given(config).into_iter().map(|given| given.repo);
    given.filter(|repo| !config.volumes.contains_key(repo) && !is_on_s3(config, repo)).collect()
}

/// Whether an option on the command line says what a repository is, or where.
pub(super) fn moves_a_repository(argument: &str) -> bool {
    let key = argument.trim_start_matches('-').split('=').next().unwrap_or_default();
    of_repository(key).is_some_and(|(_, option)| matches!(option, "type" | "path"))
}

fn is_on_s3(config: &Config, repo: &str) -> bool {
    let in_global = || config.global.get(&format!("{repo}-type")).is_some_and(|value| value.trim() == "s3");
    config.repos.iter().any(|each| each.name == repo) || in_global()
}

/// An option of one repository that the cluster's spec has, or a file that it projects.
struct Given {
    repo: String,
    option: String,
    value: String,
    /// Whether a file has it.
    projected: bool,
}

fn given(config: &Config) -> Vec<Given> {
    let mut given = Vec::new();
    let mut note = |key: &str, value: &str, projected: bool| {
        if let Some((repo, option)) = of_repository(key.trim()) {
            given.push(Given { repo, option: option.to_owned(), value: value.trim().to_owned(), projected });
        }
    };
    for (key, value) in &config.global {
        note(key, value, false);
    }
    for (_, content) in config.files.iter().filter(|(name, _)| is_read(name)) {
        let text = String::from_utf8_lossy(content);
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            note(key, value, true);
        }
    }
    given
}

/// The repository of an option such as `repo1-path`, and the rest of the option's name. In the names of former versions,
/// which have no number, it is the first one.
fn of_repository(key: &str) -> Option<(String, &str)> {
    let (number, option) = key.strip_prefix("repo")?.split_once('-')?;
    let number: u16 = if number.is_empty() { 1 } else { number.parse().ok()? };
    Some((format!("repo{number}"), option))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::config::Repo;
    use super::*;

    /// `repo1` is on S3, `repo2` on a volume.
    fn config(global: &[(&str, &str)], file: &str) -> Config {
        let on_s3 = Repo {
            name: "repo1".to_owned(),
            bucket: "b".to_owned(),
            endpoint: "e".to_owned(),
            here: None,
            region: "r".to_owned(),
        };
        Config {
            repos: vec![on_s3],
            volumes: [("repo2".to_owned(), "/double/demo-repo2".into())].into(),
            unusable: Vec::new(),
            global: global.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            files: [("s3.conf".to_owned(), file.as_bytes().to_vec())].into(),
        }
    }

    #[rstest]
    #[case::what_percona_says(&[("repo1-path", "/p"), ("repo2-path", "/pgbackrest/repo2"), ("start-fast", "y")], "")]
    #[case::credentials(&[], "[global]\nrepo1-s3-key=k\nrepo3-s3-key=k\n")]
    #[case::the_same_again(&[("repo1-type", "s3"), ("repo2-type", "posix")], "")]
    #[case::another_one_on_s3(&[("repo3-type", "s3"), ("repo3-path", "/p")], "")]
    #[case::last_line(&[("repo1-retention-full", "7\n")], "")]
    #[case::remark(&[], "# repo2-path=/etc\n")]
    fn what_stays_within_is_run(#[case] global: &[(&str, &str)], #[case] file: &str) {
        assert_eq!(refusal(&config(global, file)), None);
    }

    #[rstest]
    #[case::s3_that_is_a_directory(&[("repo1-type", "posix")], "", "repo1 would be a repository of the type \"posix\"")]
    #[case::another_directory(&[("repo3-type", "posix")], "", "repo3 would be")]
    #[case::another_machine(&[("repo3-type", "sftp")], "", "repo3 would be")]
    #[case::a_section_of_a_file(&[], "[db]\n repo1-type = posix\n", "repo1 would be")]
    #[case::the_place_of_a_volume(&[], "[global:backup]\nrepo2-path=/etc\n", "a projected file says where repo2 is")]
    #[case::a_place_of_its_own(&[], "[global]\nrepo3-path=/etc\n", "where repo3 is")]
    #[case::the_name_of_former_versions(&[], "repo-type=posix\n", "repo1 would be")]
    #[case::more_than_one_option(&[("start-fast", "y\nrepo3-path=/etc")], "", "has several lines")]
    fn what_leads_out_is_not_run(#[case] global: &[(&str, &str)], #[case] file: &str, #[case] why: &str) {
        let refused = refusal(&config(global, file)).unwrap();
        assert!(refused.contains(why), "{refused}");
    }

    #[test]
    fn a_storage_that_the_double_cannot_use_is_named() {
        assert_eq!(refusal(&Config::default()).unwrap(), "there is no repository");
        let unusable = Config { unusable: vec!["repo3 is on gcs".to_owned()], ..config(&[], "") };
        assert_eq!(refusal(&unusable).unwrap(), "repo3 is on gcs");
    }

    #[test]
    fn a_repository_without_a_storage_is_elsewhere() {
        let config = config(&[("repo3-type", "s3"), ("repo4-s3-bucket", "b")], "repo1-s3-key=k\nrepo5-s3-key=k\n");
        assert_eq!(elsewhere(&config), BTreeSet::from(["repo4".to_owned(), "repo5".to_owned()]));
    }

    #[rstest]
    #[case("--repo1-path=/etc", true)]
    #[case("--repo1-type", true)]
    #[case("--repo-path=/etc", true)]
    #[case("--repo=1", false)]
    #[case("--repo1-retention-full=1", false)]
    #[case("--type=full", false)]
    fn a_repository_is_moved_by_its_type_and_its_path(#[case] argument: &str, #[case] expected: bool) {
        assert_eq!(moves_a_repository(argument), expected);
    }
}
