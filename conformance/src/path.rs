//! Where a value stands inside an object.
//!
//! Base layer, pure. A path names list entries by their merge key (`status.conditions[type=Ready].status`), so that it means the
//! same entry in two versions of an object, whatever its index.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// The keys that Kubernetes' own list types merge by, most usual first (`x-kubernetes-list-map-keys` and
/// `patchMergeKey` in the `OpenAPI` document of the core types).
const MERGE_KEYS: [&str; 8] = ["name", "type", "key", "mountPath", "containerPort", "port", "uid", "topologyKey"];

/// The key by which the entries of `list` are told apart: a scalar that all of them have, and no two alike.
/// `None` for an empty list, and for one whose entries have no such key.
pub fn merge_key(list: &[Value]) -> Option<&'static str> {
    if list.is_empty() {
        return None;
    }
    MERGE_KEYS.into_iter().find(|key| {
        let mut seen = BTreeSet::new();
        list.iter().all(|entry| scalar(&entry[*key]).is_some_and(|value| seen.insert(value)))
    })
}

/// The text of a string, number or boolean.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A path, rendered as it is printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Path(String);

impl Path {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The field `name` of what this path names.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        Self(match (plain, self.0.is_empty()) {
            (true, true) => name.to_owned(),
            (true, false) => format!("{}.{name}", self.0),
            (false, _) => format!("{}[{name:?}]", self.0),
        })
    }

    /// The entry of a list whose merge key `key` is `value`.
    #[must_use]
    pub fn entry(&self, key: &str, value: &Value) -> Self {
        Self(format!("{}[{key}={}]", self.0, scalar(value).unwrap_or_default()))
    }

    /// The entry of a list that has no merge key.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// Whether `other` is this path or lies under it.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.is_empty()
            || other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// The path as text; empty for the object itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(the object)" } else { &self.0 })
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::conditions(json!([{"type": "Ready", "status": "True"}, {"type": "Progressing"}]), Some("type"))]
    #[case::containers(json!([{"name": "a", "image": "x"}, {"name": "b"}]), Some("name"))]
    #[case::not_all_have_it(json!([{"name": "a"}, {"image": "b"}]), None)]
    #[case::name_is_not_unique_but_the_port_is(json!([{"name": "a", "port": 1}, {"name": "a", "port": 2}]), Some("port"))]
    #[case::scalars(json!(["a", "b"]), None)]
    #[case::empty(json!([]), None)]
    fn the_merge_key_tells_entries_apart(#[case] list: Value, #[case] key: Option<&str>) {
        assert_eq!(merge_key(list.as_array().unwrap()), key);
    }

    #[test]
    fn a_path_reads_like_the_object() {
        let path = Path::root().field("status").field("conditions").entry("type", &json!("Ready")).field("status");
        assert_eq!(path.as_str(), "status.conditions[type=Ready].status");
        assert_eq!(
            Path::root().field("metadata").field("annotations").field("a.b/c").as_str(),
            r#"metadata.annotations["a.b/c"]"#
        );
    }

    #[rstest]
    #[case("status", "status.phase", true)]
    #[case("status", "status", true)]
    #[case("", "spec", true)]
    #[case("status", "statusText", false)]
    #[case("status.phase", "status", false)]
    #[case("a.b", "a.b[name=c]", true)]
    fn covering_stops_at_a_boundary(#[case] outer: &str, #[case] inner: &str, #[case] covers: bool) {
        assert_eq!(Path::from(outer).covers(&Path::from(inner)), covers);
    }
}
