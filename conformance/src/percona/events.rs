//! Events, as client-go's recorder writes them: the same message again raises a count.
//!
//! Percona writes Events on `PostgresCluster` only, and none on `PerconaPGCluster` (no trace holds one).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::context::{Context, Kind, ignore_absent};
use super::names::INNER;

/// How many different messages of one reason there are before client-go combines the rest into one Event.
const COMBINE_AFTER: usize = 10;

/// What has been written so far: by object and reason, then by message.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<BTreeMap<(String, String), BTreeMap<String, Written>>>);

#[derive(Clone, Debug)]
struct Written {
    name: String,
    count: u32,
}

/// An Event that is to be written.
struct Due {
    object: (String, String),
    /// The message under which it is counted.
    counted_as: String,
    /// The message that it shows.
    shown: String,
    written: Written,
}

impl Recorder {
    /// The Event that says this; a count of 1 means that it is new.
    fn due(&self, uid: &str, reason: &str, message: &str) -> Due {
        let object = (uid.to_owned(), reason.to_owned());
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&object);
        let is_known = known.is_some_and(|messages| messages.contains_key(message));
        let combined = !is_known && known.is_some_and(|messages| messages.len() >= COMBINE_AFTER);
        let (counted_as, shown) = if combined {
            (String::new(), format!("(combined from similar events): {message}"))
        } else {
            (message.to_owned(), message.to_owned())
        };
        let before = known.and_then(|messages| messages.get(&counted_as)).cloned();
        let mut written =
            before.unwrap_or_else(|| Written { name: format!("{:016x}", rand::random::<u64>()), count: 0 });
        written.count += 1;
        Due { object, counted_as, shown, written }
    }

    /// Counts an Event that was written.
    fn count(&self, due: Due) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(due.object).or_default().insert(due.counted_as, due.written);
    }
}

impl Context {
    /// Writes an Event of `kind` (`Normal` or `Warning`) on `object`.
    pub async fn event(&self, object: &DynamicObject, kind: &str, reason: &str, message: &str) {
        self.event_from(INNER, object, kind, reason, message).await;
    }

    /// Writes an Event in the name of another component: the double also stands for the kubelet of its pods. One that
    /// cannot be written is only logged, as by client-go: what it tells about has happened all the same.
    pub(super) async fn event_from(
        &self,
        component: &str,
        object: &DynamicObject,
        kind: &str,
        reason: &str,
        message: &str,
    ) {
        let due = self.recorder.due(&object.uid().unwrap_or_default(), reason, message);
        match self.write_event(component, object, kind, reason, &due).await {
            Ok(()) => self.recorder.count(due),
            Err(error) => tracing::warn!(object = object.name_any(), reason, %error, "an Event cannot be written"),
        }
    }

    async fn write_event(
        &self,
        component: &str,
        object: &DynamicObject,
        kind: &str,
        reason: &str,
        due: &Due,
    ) -> kube::Result<()> {
        let namespace = object.namespace().unwrap_or_default();
        let (count, message) = (due.written.count, &due.shown);
        let name = format!("{}.{}", object.name_any(), due.written.name);
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if count > 1 {
            let patch = json!({ "count": count, "lastTimestamp": now, "message": message });
            if ignore_absent(self.merge(Kind::EVENT, &namespace, &name, patch).await)?.is_some() {
                return Ok(());
            }
            // It has expired, or was deleted: client-go writes it anew, and goes on counting.
        }
        self.create(body(&namespace, &name, component, object, kind, reason, message, count, &now)).await?;
        Ok(())
    }
}

#[allow(clippy::too_many_arguments, reason = "an Event has that many parts, and nobody else makes one")]
fn body(
    namespace: &str,
    name: &str,
    component: &str,
    object: &DynamicObject,
    kind: &str,
    reason: &str,
    message: &str,
    count: u32,
    now: &str,
) -> Value {
    let types = object.types.clone().unwrap_or_default();
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "namespace": namespace, "name": name },
        "involvedObject": {
            "apiVersion": types.api_version, "kind": types.kind, "namespace": namespace,
            "name": object.name_any(), "uid": object.uid(), "resourceVersion": object.meta().resource_version,
        },
        "type": kind, "reason": reason, "message": message, "count": count,
        "firstTimestamp": now, "lastTimestamp": now,
        "source": { "component": component }, "reportingComponent": component, "reportingInstance": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes an Event successfully; the result is its count and its message.
    fn write(recorder: &Recorder, reason: &str, message: &str) -> (u32, String) {
        let due = recorder.due("uid", reason, message);
        let written = (due.written.count, due.shown.clone());
        recorder.count(due);
        written
    }

    #[test]
    fn the_eleventh_different_message_is_combined() {
        let recorder = Recorder::default();
        for message in 0..10 {
            assert_eq!(write(&recorder, "UnableToCreateStanzas", &message.to_string()).0, 1);
        }
        assert_eq!(write(&recorder, "UnableToCreateStanzas", "3").0, 2);
        let combined = (1, "(combined from similar events): new".to_owned());
        assert_eq!(write(&recorder, "UnableToCreateStanzas", "new"), combined);
        assert_eq!(write(&recorder, "UnableToCreateStanzas", "newer").0, 2);
        assert_eq!(write(&recorder, "StanzasCreated", "other").0, 1);
    }

    #[test]
    fn what_could_not_be_written_is_not_counted() {
        let recorder = Recorder::default();
        assert_eq!(recorder.due("uid", "StanzasCreated", "done").written.count, 1);
        assert_eq!(recorder.due("uid", "StanzasCreated", "done").written.count, 1, "the first write failed");
        assert_eq!(write(&recorder, "StanzasCreated", "done").0, 1);
        assert_eq!(write(&recorder, "StanzasCreated", "done").0, 2);
    }
}
