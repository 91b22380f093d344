//! The digest of the database credentials in the pod template: new credentials give a new template, which rolls the pods.
//!
//! A digest can be read by everyone who can read pods. It is salted with the uid of the `DittoServer`, so that equal
//! credentials of two servers do not show and no table of digests made beforehand helps. Percona's passwords are 24
//! random characters and cannot be guessed; the password of an external database should not be guessable either.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Digest of `values`, in their order, as 64 hexadecimal characters.
pub fn digest<'a>(salt: &str, values: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(salt.as_bytes());
    for (key, value) in values {
        field(key.as_bytes());
        field(value);
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::digest;

    #[rstest]
    #[case::value("uid-1", &[("password", b"x".as_slice()), ("user", b"dittofs")])]
    #[case::shifted_value("uid-1", &[("password", b"sd".as_slice()), ("user", b"ittofs")])]
    #[case::other_key("uid-1", &[("passwords", b"s".as_slice()), ("user", b"dittofs")])]
    #[case::other_server("uid-2", &[("password", b"s".as_slice()), ("user", b"dittofs")])]
    fn every_change_changes_it(#[case] salt: &str, #[case] values: &[(&str, &[u8])]) {
        let before = digest("uid-1", [("password", b"s".as_slice()), ("user", b"dittofs")]);
        assert_ne!(before, digest(salt, values.iter().copied()));
    }

    #[test]
    fn it_is_stable_and_shows_no_value() {
        let first = digest("uid", [("password", b"secret".as_slice())]);
        insta::assert_snapshot!(first);
        assert!(!first.contains("secret"));
    }
}
