//! The objects of one kind and namespace, as a watch has told them so far.
//!
//! Pure: fed with events, asked for the present state, the timelines and the gaps.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::timeline::{Timeline, What};

/// Timelines kept of one kind and namespace. When there are more, those of objects that are gone are dropped first.
const MAX_TIMELINES: usize = 512;

/// Which object, within a kind. Ordered by namespace, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of `object`.
    pub fn of(object: &Value) -> Self {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Self { namespace: text("namespace"), name: text("name") }
    }
}

/// How far the watch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The present state is not known yet.
    Starting,
    /// The API server does not serve the kind (its CRD is not installed): there are no objects.
    NotServed,
    /// The present state is known, and events follow.
    Live,
}

/// What a watch tells those who must see every version.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A version of an object, the present one first.
    Version(Arc<Value>),
    /// The object is gone; this was its last version.
    Deleted(Arc<Value>),
    /// Versions may have been missed, and why.
    Gap(String),
}

/// See the module.
#[derive(Debug)]
pub struct Record {
    phase: Phase,
    objects: BTreeMap<Key, Arc<Value>>,
    timelines: BTreeMap<Key, Timeline>,
    list: Option<BTreeMap<Key, Arc<Value>>>,
    trouble: Option<String>,
    seen: u64,
    /// Events up to this version are of the past: a list that was read beside the watch knew of them.
    floor: u64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            phase: Phase::Starting,
            objects: BTreeMap::new(),
            timelines: BTreeMap::new(),
            list: None,
            trouble: None,
            seen: 0,
            floor: 0,
        }
    }
}

impl Record {
    /// How far the watch has come.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The objects that exist, ordered by namespace and name.
    pub fn objects(&self) -> &BTreeMap<Key, Arc<Value>> {
        &self.objects
    }

    /// The timelines of all objects that exist or existed.
    pub fn timelines(&self) -> &BTreeMap<Key, Timeline> {
        &self.timelines
    }

    /// The newest resourceVersion that was seen, deletions included.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The watch's last error, until it works again.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The watch failed, and is being tried again.
    pub fn failed(&mut self, error: String) {
        self.trouble = Some(error);
    }

    /// The watch has delivered what a direct read found.
    pub fn works(&mut self) {
        self.trouble = None;
    }

    /// A list begins: its objects come through [`Self::listed`].
    pub fn list_begins(&mut self) {
        self.list = Some(BTreeMap::new());
    }

    /// An object of the list.
    pub fn listed(&mut self, object: Value) {
        if let Some(list) = &mut self.list {
            list.insert(Key::of(&object), Arc::new(object));
        }
    }

    /// The list is complete. The first one is the present state; every later one means that events were lost.
    pub fn list_ends(&mut self, at: Timestamp) -> Vec<Observation> {
        let list = self.list.take().unwrap_or_default();
        self.trouble = None;
        self.floor = 0;
        let mut observations = Vec::new();
        match std::mem::replace(&mut self.phase, Phase::Live) {
            Phase::Starting => {}
            Phase::Live => observations.push(Observation::Gap("the watch had to list again".to_owned())),
            Phase::NotServed if list.is_empty() => {}
            Phase::NotServed => {
                observations.push(Observation::Gap("objects were made before the new kind was watched".to_owned()));
            }
        }
        let found = observations.is_empty();
        observations.extend(self.replace(list, found, at));
        observations
    }

    /// Takes over a fresh list that was read beside the watch, at version `as_of`, and that is ahead of it. What the watch
    /// still delivers of the time before changes nothing any more.
    pub fn overtaken_by(&mut self, list: Vec<Value>, as_of: u64, at: Timestamp) -> Vec<Observation> {
        self.floor = as_of;
        self.seen = self.seen.max(as_of);
        let list = list.into_iter().map(|object| (Key::of(&object), Arc::new(object))).collect();
        let mut observations = vec![Observation::Gap("a re-read was ahead of the watch".to_owned())];
        observations.extend(self.replace(list, false, at));
        observations
    }

    /// The object was created or changed.
    pub fn applied(&mut self, object: Value, at: Timestamp) -> Vec<Observation> {
        self.trouble = None;
        if self.is_past(&object) {
            return Vec::new();
        }
        self.set(Key::of(&object), Arc::new(object), false, at)
    }

    /// The object was deleted.
    pub fn deleted(&mut self, object: &Value, at: Timestamp) -> Vec<Observation> {
        self.trouble = None;
        if self.is_past(object) {
            return Vec::new();
        }
        self.seen = self.seen.max(resource_version(object));
        self.remove(&Key::of(object), at)
    }

    /// The kind is not served (any more).
    pub fn not_served(&mut self, at: Timestamp) -> Vec<Observation> {
        self.phase = Phase::NotServed;
        self.list = None;
        self.trouble = None;
        self.replace(BTreeMap::new(), false, at)
    }

    /// Whether a list that was read beside the watch knew of this version.
    fn is_past(&self, object: &Value) -> bool {
        self.floor > 0 && resource_version(object) <= self.floor
    }

    fn replace(&mut self, list: BTreeMap<Key, Arc<Value>>, found: bool, at: Timestamp) -> Vec<Observation> {
        let gone: Vec<Key> = self.objects.keys().filter(|key| !list.contains_key(key)).cloned().collect();
        let mut observations: Vec<_> = gone.iter().flat_map(|key| self.remove(key, at)).collect();
        observations.extend(list.into_iter().flat_map(|(key, object)| self.set(key, object, found, at)));
        observations
    }

    fn set(&mut self, key: Key, object: Arc<Value>, found: bool, at: Timestamp) -> Vec<Observation> {
        self.seen = self.seen.max(resource_version(&object));
        let before = self.objects.insert(key.clone(), object.clone());
        if before.as_ref().is_some_and(|before| resource_version(before) == resource_version(&object)) {
            return Vec::new();
        }
        self.timelines.entry(key).or_default().note(before.as_deref(), Some(&object), found, at);
        self.forget_timelines();
        vec![Observation::Version(object)]
    }

    fn remove(&mut self, key: &Key, at: Timestamp) -> Vec<Observation> {
        let Some(before) = self.objects.remove(key) else { return Vec::new() };
        self.timelines.entry(key.clone()).or_default().note(Some(&before), None, false, at);
        vec![Observation::Deleted(before)]
    }

    fn forget_timelines(&mut self) {
        if self.timelines.len() <= MAX_TIMELINES {
            return;
        }
        let gone = |timeline: &Timeline| timeline.entries().last().is_some_and(|entry| entry.what == What::Deleted);
        let last = |timeline: &Timeline| timeline.entries().last().map(|entry| entry.at);
        let oldest = self.timelines.iter().min_by_key(|(_, timeline)| (!gone(timeline), last(timeline)));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.timelines.remove(&key);
        }
    }
}

/// The resourceVersion of `object` as a number: the API server compares them so (KEP-5504), and etcd's are.
pub fn resource_version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, version: u64) -> Value {
        json!({"metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": version.to_string()}, "v": version})
    }

    fn live(objects: &[Value]) -> (Record, Vec<Observation>) {
        let mut record = Record::default();
        record.list_begins();
        for object in objects {
            record.listed(object.clone());
        }
        let observations = record.list_ends(Timestamp::UNIX_EPOCH);
        (record, observations)
    }

    #[test]
    fn the_first_list_is_the_present_state_and_no_gap() {
        let (record, observations) = live(&[object("x", 1)]);
        assert_eq!(observations, [Observation::Version(Arc::new(object("x", 1)))]);
        assert_eq!(record.phase(), Phase::Live);
        let timeline = record.timelines().values().next().unwrap();
        assert_eq!(timeline.entries().next().unwrap().what, What::Found);
    }

    #[test]
    fn a_second_list_is_a_gap_and_tells_what_changed_meanwhile() {
        let (mut record, _) = live(&[object("x", 1), object("y", 2), object("z", 3)]);
        record.list_begins();
        record.listed(object("x", 1));
        record.listed(object("y", 5));
        let observations = record.list_ends(Timestamp::UNIX_EPOCH);
        assert!(matches!(observations[0], Observation::Gap(_)), "{observations:?}");
        assert_eq!(
            observations[1..],
            [Observation::Deleted(Arc::new(object("z", 3))), Observation::Version(Arc::new(object("y", 5)))]
        );
    }

    #[test]
    fn what_a_watch_delivers_late_does_not_roll_a_newer_list_back() {
        let (mut record, _) = live(&[object("x", 1), object("y", 2)]);
        let at = Timestamp::UNIX_EPOCH;
        let observations = record.overtaken_by(vec![object("x", 7)], 9, at);
        assert!(matches!(observations[0], Observation::Gap(_)), "{observations:?}");
        assert_eq!(record.applied(object("x", 5), at), []);
        assert_eq!(record.deleted(&object("x", 6), at), []);
        assert_eq!(record.applied(object("y", 8), at), []);
        assert_eq!((record.objects().len(), record.seen()), (1, 9));
        assert_eq!(record.objects().values().next().unwrap()["v"], 7);
        assert_eq!(record.applied(object("x", 10), at).len(), 1);
    }

    #[test]
    fn a_list_that_does_not_end_changes_nothing() {
        let (mut record, _) = live(&[object("x", 1)]);
        record.list_begins();
        record.failed("connection refused".to_owned());
        assert_eq!(record.objects().len(), 1);
        assert_eq!(record.trouble(), Some("connection refused"));
    }

    #[test]
    fn a_kind_that_appears_empty_is_watched_from_its_first_object() {
        let mut record = Record::default();
        assert_eq!(record.not_served(Timestamp::UNIX_EPOCH), []);
        record.list_begins();
        assert_eq!(record.list_ends(Timestamp::UNIX_EPOCH), []);
        assert_eq!(record.applied(object("x", 1), Timestamp::UNIX_EPOCH).len(), 1);
    }

    #[test]
    fn a_kind_that_appears_with_objects_was_not_watched_from_their_first_version() {
        let mut record = Record::default();
        record.not_served(Timestamp::UNIX_EPOCH);
        record.list_begins();
        record.listed(object("x", 1));
        assert!(matches!(record.list_ends(Timestamp::UNIX_EPOCH)[0], Observation::Gap(_)));
    }

    #[test]
    fn a_kind_that_goes_takes_its_objects_with_it() {
        let (mut record, _) = live(&[object("x", 1)]);
        assert_eq!(record.not_served(Timestamp::UNIX_EPOCH), [Observation::Deleted(Arc::new(object("x", 1)))]);
        assert_eq!((record.phase(), record.objects().len()), (Phase::NotServed, 0));
    }

    #[test]
    fn memory_is_bounded_and_living_objects_are_kept() {
        let (mut record, _) = live(&[object("kept", 1)]);
        for round in 0..1_000u64 {
            let object = object(&format!("o{round}"), round + 2);
            record.applied(object.clone(), Timestamp::UNIX_EPOCH);
            record.deleted(&object, Timestamp::UNIX_EPOCH);
        }
        assert!(record.timelines().len() <= MAX_TIMELINES, "{}", record.timelines().len());
        assert!(record.timelines().keys().any(|key| key.name == "kept"));
    }
}
