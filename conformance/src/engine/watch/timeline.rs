//! What happened to one object.
//!
//! Pure. Holds differences, not versions; values of Secrets only as fingerprints; the oldest entries go first when the
//! timeline is full.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde_json::Value;

use crate::engine::difference::{Change, difference};
use crate::engine::secrets;
use crate::path::Path;

/// Entries kept for one object. A status that is written ten times a second is followed for 25 seconds.
const MAX_ENTRIES: usize = 256;

/// Bytes kept of one value.
const MAX_VALUE: usize = 600;

/// Changes kept of one entry: a created subtree may have hundreds of leaves.
const MAX_CHANGES: usize = 64;

/// One version of the object.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When the engine received it.
    pub at: Timestamp,
    /// Its resourceVersion.
    pub resource_version: String,
    /// How it differs from the one before.
    pub what: What,
}

/// How a version of an object differs from the one before.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// It was there when the watch began.
    Found,
    /// It was created.
    Created,
    /// Values changed.
    Changed(Vec<Change>),
    /// It was deleted.
    Deleted,
    /// It was deleted and created again while nobody watched, or between two versions (another uid).
    Replaced,
}

/// The versions of one object, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    entries: VecDeque<Entry>,
    forgotten: usize,
}

impl Timeline {
    /// The entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// How many older entries were dropped to bound memory.
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Since when `path` has had its present value, as far as is known: the last change at, above or under it, or else
    /// the object's first entry. `None` when nothing was ever seen of the object.
    pub fn since(&self, path: &Path) -> Option<Timestamp> {
        let touches = |entry: &&Entry| match &entry.what {
            What::Changed(changes) => {
                changes.iter().any(|change| path.covers(&change.path) || change.path.covers(path))
            }
            What::Found | What::Created | What::Deleted | What::Replaced => true,
        };
        self.entries.iter().rev().find(touches).or(self.entries.front()).map(|entry| entry.at)
    }

    /// Notes that the object now is `after` (`None`: gone), having been `before`. A version that differs in nothing but
    /// bookkeeping leaves no entry.
    pub fn note(&mut self, before: Option<&Value>, after: Option<&Value>, found: bool, at: Timestamp) {
        let what = match (before, after) {
            (None, Some(_)) if found => What::Found,
            (None, Some(_)) => What::Created,
            (Some(old), Some(new)) if old["metadata"]["uid"] != new["metadata"]["uid"] => What::Replaced,
            (Some(old), Some(new)) => {
                let mut changes = difference(&secrets::scrub(old), &secrets::scrub(new));
                if changes.is_empty() {
                    return;
                }
                changes.truncate(MAX_CHANGES);
                changes.iter_mut().for_each(shorten);
                What::Changed(changes)
            }
            (Some(_), None) => What::Deleted,
            (None, None) => return,
        };
        let version = after.or(before).map(|object| &object["metadata"]["resourceVersion"]);
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        let resource_version = version.and_then(Value::as_str).unwrap_or_default().to_owned();
        self.entries.push_back(Entry { at, resource_version, what });
    }
}

fn shorten(change: &mut Change) {
    for value in [&mut change.before, &mut change.after] {
        if let Some(Value::String(text)) = value
            && text.len() > MAX_VALUE
        {
            let end = text.floor_char_boundary(MAX_VALUE);
            *text = format!("{}… ({} bytes)", &text[..end], text.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn cluster(state: &str, ready: i64) -> Value {
        json!({"metadata": {"uid": "u"}, "status": {"state": state, "postgres": {"ready": ready}}})
    }

    #[test]
    fn a_path_is_as_old_as_its_last_change() {
        let mut timeline = Timeline::default();
        timeline.note(None, Some(&cluster("initializing", 0)), false, at(1));
        timeline.note(Some(&cluster("initializing", 0)), Some(&cluster("initializing", 1)), false, at(2));
        timeline.note(Some(&cluster("initializing", 1)), Some(&cluster("ready", 1)), false, at(3));
        assert_eq!(timeline.since(&Path::from("status.postgres.ready")), Some(at(2)));
        assert_eq!(timeline.since(&Path::from("status.state")), Some(at(3)));
        assert_eq!(timeline.since(&Path::from("spec.image")), Some(at(1)), "never changed: since it was created");
    }

    #[test]
    fn a_full_timeline_forgets_the_oldest_and_says_how_many() {
        let mut timeline = Timeline::default();
        for round in 0..300 {
            timeline.note(Some(&cluster("a", round)), Some(&cluster("a", round + 1)), false, at(round));
        }
        assert_eq!((timeline.entries().len(), timeline.forgotten()), (MAX_ENTRIES, 300 - MAX_ENTRIES));
    }

    #[test]
    fn a_version_without_a_visible_change_leaves_no_entry() {
        let (mut before, mut after) = (cluster("a", 1), cluster("a", 1));
        before["metadata"]["resourceVersion"] = json!("1");
        after["metadata"]["resourceVersion"] = json!("2");
        let mut timeline = Timeline::default();
        timeline.note(Some(&before), Some(&after), false, at(1));
        assert_eq!(timeline.entries().len(), 0);
    }

    #[test]
    fn an_object_with_another_uid_was_replaced() {
        let mut timeline = Timeline::default();
        timeline.note(Some(&json!({"metadata": {"uid": "a"}})), Some(&json!({"metadata": {"uid": "b"}})), false, at(1));
        assert_eq!(timeline.entries().next().unwrap().what, What::Replaced);
    }

    #[test]
    fn secret_values_are_never_kept() {
        let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"uid": "u"}, "data": {"password": value}});
        let mut timeline = Timeline::default();
        timeline.note(Some(&secret("b2xkLXNlY3JldA==")), Some(&secret("bmV3LXNlY3JldA==")), false, at(1));
        let text = format!("{timeline:?}");
        assert!(!text.contains("secret") && !text.contains("LXNlY3JldA"), "{text}");
        assert!(text.contains("data.password"), "{text}");
    }
}
