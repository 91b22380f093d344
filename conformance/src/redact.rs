//! Keeps secret values out of everything that a person or a file gets to see.
//!
//! Base layer. Whoever learns a secret value registers it; whoever prints passes the text through [`redact`]. A value is
//! also recognised in base64, percent-encoded and inside a longer word.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{OnceLock, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::escape::{COMPONENT, PATH, PATH_SEGMENT, UNRESERVED, URL_CRATE_USERINFO, USERINFO};

/// Values shorter than this are not treated as secrets: they would blot out ordinary words.
const SHORTEST: usize = 6;

/// What stands in place of a secret value.
pub const REDACTED: &str = "<redacted>";

/// The registered values.
///
/// A run learns some fifty of them with every scenario, and looks for all of them in every log and object. So each is
/// found by the bytes in its middle, where keys and URIs differ from each other; an automaton over all values would have to
/// be built again whenever one comes.
#[derive(Default)]
struct Values {
    /// What was registered.
    registered: HashSet<String>,
    /// The same in all encodings.
    known: HashSet<String>,
    /// Values by the bytes at their middle, with the place of these bytes.
    index: HashMap<[u8; SHORTEST], Vec<(usize, String)>>,
}

impl Values {
    fn add(&mut self, value: String) {
        let middle = (value.len() - SHORTEST) / 2;
        let Some(bytes) = window(value.as_bytes(), middle) else { return };
        if self.known.insert(value.clone()) {
            self.index.entry(bytes).or_default().push((middle, value));
        }
    }

    /// Where values stand in `text`, in the order of their middles; they may overlap.
    fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        let bytes = text.as_bytes();
        (0..bytes.len()).filter_map(|at| Some((at, self.index.get(&window(bytes, at)?)?))).flat_map(
            move |(at, values)| {
                values.iter().filter_map(move |(middle, value)| {
                    let start = at.checked_sub(*middle)?;
                    bytes[start..].starts_with(value.as_bytes()).then(|| start..start + value.len())
                })
            },
        )
    }
}

fn window(bytes: &[u8], at: usize) -> Option<[u8; SHORTEST]> {
    bytes.get(at..at + SHORTEST)?.try_into().ok()
}

fn values() -> &'static RwLock<Values> {
    static VALUES: OnceLock<RwLock<Values>> = OnceLock::new();
    VALUES.get_or_init(RwLock::default)
}

/// Registers a secret value and the encodings in which it travels. Values under six bytes are ignored.
pub fn register(value: &str) {
    if value.len() < SHORTEST {
        return;
    }
    let mut values = values().write().unwrap_or_else(PoisonError::into_inner);
    // A watch tells of the same Secret again and again.
    if values.registered.insert(value.to_owned()) {
        for encoded in encodings(value) {
            values.add(encoded);
        }
    }
}

/// `value` as it may stand in a URI, in JSON and in a Secret.
fn encodings(value: &str) -> Vec<String> {
    let engines = [&general_purpose::STANDARD, &general_purpose::STANDARD_NO_PAD, &general_purpose::URL_SAFE];
    let mut encodings: Vec<String> = engines.into_iter().map(|engine| engine.encode(value)).collect();
    for set in [NON_ALPHANUMERIC, UNRESERVED, USERINFO, COMPONENT, URL_CRATE_USERINFO, PATH_SEGMENT, PATH] {
        let escaped = utf8_percent_encode(value, set).to_string();
        encodings.extend([in_lower_case(&escaped), escaped]);
    }
    // In a form, and in the query of a `jdbc-uri`, a space is a plus.
    encodings.push(utf8_percent_encode(value, UNRESERVED).to_string().replace("%20", "+"));
    let json = serde_json::Value::from(value).to_string();
    let json = &json[1..json.len() - 1];
    // Go's encoder also escapes what HTML would read.
    let html = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    encodings.extend([html, json.to_owned(), value.to_owned()]);
    encodings
}

/// Percent-encoded text with its hexadecimal digits in lower case.
fn in_lower_case(escaped: &str) -> String {
    let mut parts = escaped.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        format!("{text}%{}{rest}", digits.to_lowercase())
    })
}

/// `text` with every registered value replaced by [`REDACTED`]; values that overlap are replaced as one.
pub fn redact(text: &str) -> String {
    let values = values().read().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<Range<usize>> = values.find(text).collect();
    found.sort_by_key(|range| range.start);
    let mut redacted = String::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        if range.start >= done {
            redacted.push_str(&text[done..range.start]);
            redacted.push_str(REDACTED);
        }
        done = done.max(range.end);
    }
    redacted.push_str(&text[done..]);
    redacted
}

/// Whether `text` holds a registered value: for checks that must not print what they found.
pub fn leaks(text: &str) -> bool {
    values().read().unwrap_or_else(PoisonError::into_inner).find(text).next().is_some()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

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
    fn a_value_that_contains_another_one_leaves_nothing_of_itself() {
        register("inner-v4lue");
        register("postgresql://u:inner-v4lue@host/db");
        register("v4lue@host/db?x=1");
        assert_eq!(redact("a postgresql://u:inner-v4lue@host/db b inner-v4lue."), "a <redacted> b <redacted>.");
        assert_eq!(redact("a inner-v4lue@host/db?x=1 b"), "a <redacted> b", "they overlap");
        assert_eq!(redact("inner-v4lueinner-v4lue"), "<redacted><redacted>");
    }

    #[rstest]
    #[case::go_userinfo("a+b-c<d&e;f", "a+b-c%3Cd&e;f")]
    #[case::go_query("a+b-c<d&e;f", "a%2Bb-c%3Cd%26e%3Bf")]
    #[case::form("a b+c<d", "a+b%2Bc%3Cd")]
    #[case::go_path("p@ss:w+<d;e", "p@ss:w+%3Cd%3Be")]
    #[case::python("a/b+c<d", "a/b%2Bc%3Cd")]
    #[case::everything("a+b-c<d&e;f", "a%2Bb%2Dc%3Cd%26e%3Bf")]
    #[case::lower_case("a+b-c<d&e;f", "a%2bb-c%3cd%26e%3bf")]
    #[case::javascript("a+b(c)*<!'", "a%2Bb(c)*%3C!'")]
    #[case::json_of_go("a+b\"c<d>e&f", "a+b\\\"c\\u003cd\\u003ee\\u0026f")]
    #[case::json("a+b\"c<d\\e", "a+b\\\"c<d\\\\e")]
    #[case::url_safe("???>>>~~", "Pz8_Pj4-fn4=")]
    #[case::unpadded("s3cr3t+", "czNjcjN0Kw")]
    fn every_way_in_which_a_value_is_written_is_known(#[case] value: &str, #[case] written: &str) {
        assert!(encodings(value).contains(&written.to_owned()), "{:?}", encodings(value));
    }

    #[test]
    fn values_may_hold_any_character() {
        register("pässwörd-ü");
        assert_eq!(redact("é pässwörd-ü é"), "é <redacted> é");
        assert!(!leaks("pässwörd-u"));
    }

    #[test]
    fn short_values_are_left_alone() {
        register("pg");
        assert_eq!(redact("pg_isready"), "pg_isready");
    }
}
