//! Secret objects without their values.
//!
//! Every Secret that the engine sees or sends passes through here: its values are registered for redaction, and only
//! fingerprints of them are remembered or printed.

use std::sync::OnceLock;

use base64::Engine as _;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::redact;

/// Keys whose values stand in plain sight elsewhere (a Service name in a Service, a bucket in a spec). To treat them
/// as secrets would blot them out of every message.
const IN_PLAIN_SIGHT: [&str; 11] = [
    "host",
    "port",
    "user",
    "username",
    "dbname",
    "pgbouncer-host",
    "pgbouncer-port",
    "bucket",
    "endpoint",
    "region",
    "ca.crt",
];

/// Whether `object` is a Secret.
pub fn is_secret(object: &Value) -> bool {
    object["kind"] == "Secret" && object["apiVersion"] == "v1"
}

/// Registers the values of `object` for redaction, if it is a Secret. Certificates are public and are left out.
pub fn register(object: &Value) {
    if !is_secret(object) {
        return;
    }
    for (key, bytes) in values(object) {
        let plain = IN_PLAIN_SIGHT.contains(&key.as_str()) || key.rsplit('.').next() == Some("crt");
        if let (false, Ok(text)) = (plain, String::from_utf8(bytes)) {
            redact::register(text.trim());
        }
    }
}

/// `object` with a fingerprint in place of each value, if it is a Secret.
pub fn scrub(object: &Value) -> Value {
    if !is_secret(object) {
        return object.clone();
    }
    let prints: Map<String, Value> =
        values(object).map(|(key, bytes)| (key, Value::String(fingerprint(&bytes)))).collect();
    let mut scrubbed = object.clone();
    if let Some(fields) = scrubbed.as_object_mut() {
        fields.remove("stringData");
        if object.get("data").is_some() || !prints.is_empty() {
            fields.insert("data".to_owned(), Value::Object(prints));
        }
    }
    scrubbed
}

/// What is printed in place of `value`, a value of a Secret's `data`.
pub fn fingerprint_of(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    fingerprint(&decode(text))
}

/// Tells values apart without telling them: salted for each process, so that it can be compared within one report and
/// cannot be tried out against a word list.
fn fingerprint(bytes: &[u8]) -> String {
    static SALT: OnceLock<[u8; 16]> = OnceLock::new();
    let digest = Sha256::new().chain_update(SALT.get_or_init(rand::random)).chain_update(bytes).finalize();
    format!("<{} bytes, print {}>", bytes.len(), hex::encode(&digest[..4]))
}

fn decode(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn values(secret: &Value) -> impl Iterator<Item = (String, Vec<u8>)> {
    let data = secret["data"].as_object().into_iter().flatten();
    let plain = secret["stringData"].as_object().into_iter().flatten();
    data.map(|(key, value)| (key.clone(), decode(value.as_str().unwrap_or_default())))
        .chain(plain.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().as_bytes().to_vec())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(password: &str) -> Value {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        json!({"apiVersion": "v1", "kind": "Secret", "data": {
            "password": encode(password), "host": encode("secrets-test-primary.a.svc"),
        }})
    }

    #[test]
    fn values_become_fingerprints_that_tell_them_apart() {
        let (one, same, other) =
            (scrub(&secret("pa55word-1")), scrub(&secret("pa55word-1")), scrub(&secret("pa55word-2")));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert!(!one.to_string().contains("cGE1NXdvcmQtMQ"), "{one}");
        assert!(one["data"]["password"].as_str().unwrap().starts_with("<10 bytes, print "), "{one}");
    }

    #[test]
    fn a_password_is_registered_and_a_host_is_not() {
        register(&secret("pa55word-registered"));
        assert!(redact::leaks("pw pa55word-registered"));
        assert!(!redact::leaks("secrets-test-primary.a.svc"));
    }

    #[test]
    fn values_that_were_applied_as_text_are_registered_and_scrubbed() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"uri": "postgresql://a:bcdefg@h"}});
        register(&secret);
        assert!(redact::leaks("x postgresql://a:bcdefg@h"));
        assert!(!scrub(&secret).to_string().contains("bcdefg"));
    }

    #[test]
    fn other_kinds_are_left_as_they_are() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}});
        assert_eq!(scrub(&object), object);
    }
}
