//! Keeps secret values out of everything that a person or a file gets to see.
//!
//! Base layer. Whoever learns a secret value registers it; whoever prints passes the text through [`redact`]. A value is
//! also recognised in base64, percent-encoded and inside a longer word.

use std::collections::BTreeSet;
use std::sync::{OnceLock, PoisonError, RwLock};

use base64::Engine as _;

/// Values shorter than this are not treated as secrets: they would blot out ordinary words.
const SHORTEST: usize = 6;

/// What stands in place of a secret value.
pub const REDACTED: &str = "<redacted>";

fn values() -> &'static RwLock<BTreeSet<String>> {
    static VALUES: OnceLock<RwLock<BTreeSet<String>>> = OnceLock::new();
    VALUES.get_or_init(RwLock::default)
}

/// Registers a secret value and the encodings in which it travels. Values under six bytes are ignored.
pub fn register(value: &str) {
    if value.len() < SHORTEST {
        return;
    }
    let encoded = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string();
    let mut values = values().write().unwrap_or_else(PoisonError::into_inner);
    values.insert(base64::engine::general_purpose::STANDARD.encode(value));
    values.insert(encoded);
    values.insert(value.to_owned());
}

/// `text` with every registered value replaced by [`REDACTED`].
pub fn redact(text: &str) -> String {
    let values = values().read().unwrap_or_else(PoisonError::into_inner);
    // Longest first, so that a value that contains another one leaves nothing of itself.
    let mut found: Vec<&String> = values.iter().filter(|value| text.contains(value.as_str())).collect();
    found.sort_by_key(|value| std::cmp::Reverse(value.len()));
    found.into_iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), REDACTED))
}

/// The first registered value that `text` holds, by its length only: for checks that must not print what they found.
pub fn leaks(text: &str) -> bool {
    values().read().unwrap_or_else(PoisonError::into_inner).iter().any(|value| text.contains(value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_value_disappears_in_every_encoding() {
        register("s3cr3t/Value+");
        for text in ["pw=s3cr3t/Value+ x", "pw=s3cr3t%2FValue%2B x", "pw=czNjcjN0L1ZhbHVlKw== x"] {
            assert!(leaks(text));
            assert_eq!(redact(text), "pw=<redacted> x");
        }
    }

    #[test]
    fn short_values_are_left_alone() {
        register("pg");
        assert_eq!(redact("pg_isready"), "pg_isready");
    }
}
