//! What changed between two versions of an object.
//!
//! Pure. Only leaves are reported: a subtree that appears or goes is listed value by value.

use serde_json::{Map, Value};

use crate::path::{Path, merge_key, scalar};

/// One value that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Where.
    pub path: Path,
    /// What stood there; `None` when nothing did.
    pub before: Option<Value>,
    /// What stands there now; `None` when nothing does.
    pub after: Option<Value>,
}

/// The leaves in which `after` differs from `before`, in the order of the object. Bookkeeping that changes with
/// every write (`managedFields`, `resourceVersion`) is left out.
pub fn difference(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&Path::root(), Some(before), Some(after), &mut changes);
    changes
}

fn compare(path: &Path, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after || matches!(path.as_str(), "metadata.managedFields" | "metadata.resourceVersion") {
        return;
    }
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => compare_maps(path, old, new, changes),
        (Some(Value::Object(old)), None) if !old.is_empty() => compare_maps(path, old, &Map::new(), changes),
        (None, Some(Value::Object(new))) if !new.is_empty() => compare_maps(path, &Map::new(), new, changes),
        (Some(Value::Array(old)), Some(Value::Array(new))) => compare_lists(path, old, new, changes),
        (Some(Value::Array(old)), None) if !old.is_empty() => compare_lists(path, old, &[], changes),
        (None, Some(Value::Array(new))) if !new.is_empty() => compare_lists(path, &[], new, changes),
        _ => changes.push(Change { path: path.clone(), before: before.cloned(), after: after.cloned() }),
    }
}

fn compare_maps(path: &Path, old: &Map<String, Value>, new: &Map<String, Value>, changes: &mut Vec<Change>) {
    for (name, value) in old {
        compare(&path.field(name), Some(value), new.get(name), changes);
    }
    for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        compare(&path.field(name), None, Some(value), changes);
    }
}

fn compare_lists(path: &Path, old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    let key = match (merge_key(old), merge_key(new)) {
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(a), None) if new.is_empty() => Some(a),
        (None, Some(b)) if old.is_empty() => Some(b),
        _ => None,
    };
    let Some(key) = key else {
        for index in 0..old.len().max(new.len()) {
            compare(&path.index(index), old.get(index), new.get(index), changes);
        }
        return;
    };
    let find =
        |list: &'_ [Value], entry: &Value| list.iter().position(|other| scalar(&other[key]) == scalar(&entry[key]));
    for entry in old {
        let other = find(new, entry).map(|index| &new[index]);
        compare(&path.entry(key, &entry[key]), Some(entry), other, changes);
    }
    for entry in new.iter().filter(|entry| find(old, entry).is_none()) {
        compare(&path.entry(key, &entry[key]), None, Some(entry), changes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(before: &Value, after: &Value) -> Vec<String> {
        difference(before, after).iter().map(|change| change.path.to_string()).collect()
    }

    #[test]
    fn equal_objects_do_not_differ() {
        let object = json!({"a": [1, {"b": null}]});
        assert_eq!(difference(&object, &object), []);
    }

    #[test]
    fn a_condition_is_followed_by_its_type_even_when_it_moves() {
        let before =
            json!({"status": {"conditions": [{"type": "A", "status": "False"}, {"type": "B", "status": "True"}]}});
        let after =
            json!({"status": {"conditions": [{"type": "B", "status": "True"}, {"type": "A", "status": "True"}]}});
        let changes = difference(&before, &after);
        assert_eq!(
            changes,
            [Change {
                path: Path::from("status.conditions[type=A].status"),
                before: Some(json!("False")),
                after: Some(json!("True"))
            }]
        );
    }

    #[test]
    fn a_subtree_that_appears_is_listed_by_its_leaves() {
        let after = json!({"status": {"state": "ready", "pg": {"size": 1}, "conditions": [{"type": "A"}]}});
        assert_eq!(paths(&json!({}), &after), ["status.state", "status.pg.size", "status.conditions[type=A].type"]);
    }

    #[test]
    fn bookkeeping_is_left_out() {
        let before = json!({"metadata": {"resourceVersion": "1", "managedFields": [{}], "generation": 1}});
        let after = json!({"metadata": {"resourceVersion": "2", "managedFields": [], "generation": 2}});
        assert_eq!(paths(&before, &after), ["metadata.generation"]);
    }

    #[test]
    fn lists_without_a_key_are_compared_by_index() {
        assert_eq!(paths(&json!({"a": ["x", "y"]}), &json!({"a": ["x", "z", "w"]})), ["a[1]", "a[2]"]);
    }
}
