//! Events, as client-go's recorder writes them: the same message again raises a count.
//!
//! Percona writes Events on `PostgresCluster` only, and none on `PerconaPGCluster` (no trace holds one).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::context::{Context, Kind};
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

impl Recorder {
    /// The Event's name and how often it has now happened; a count of 1 means that it is new.
    fn note(&self, uid: &str, reason: &str, message: &str) -> (Written, String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = all.entry((uid.to_owned(), reason.to_owned())).or_default();
        let combined = !messages.contains_key(message) && messages.len() >= COMBINE_AFTER;
        let (kept, shown) = if combined {
            (String::new(), format!("(combined from similar events): {message}"))
        } else {
            (message.to_owned(), message.to_owned())
        };
        let written = messages
            .entry(kept)
            .or_insert_with(|| Written { name: format!("{:016x}", rand::random::<u64>()), count: 0 });
        written.count += 1;
        (written.clone(), shown)
    }
}

impl Context {
    /// Writes an Event of `kind` (`Normal` or `Warning`) on `object`.
    pub async fn event(&self, object: &DynamicObject, kind: &str, reason: &str, message: &str) -> kube::Result<()> {
        self.event_from(INNER, object, kind, reason, message).await
    }

    /// Writes an Event in the name of another component: the double also stands for the kubelet of its pods.
    pub(super) async fn event_from(
        &self,
        component: &str,
        object: &DynamicObject,
        kind: &str,
        reason: &str,
        message: &str,
    ) -> kube::Result<()> {
        let namespace = object.namespace().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let (written, message) = self.recorder.note(&uid, reason, message);
        let name = format!("{}.{}", object.name_any(), written.name);
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if written.count > 1 {
            let patch = json!({ "count": written.count, "lastTimestamp": now, "message": message });
            self.merge(Kind::EVENT, &namespace, &name, patch).await?;
            return Ok(());
        }
        self.create(body(&namespace, &name, component, object, kind, reason, &message, &now)).await?;
        Ok(())
    }
}

#[allow(clippy::too_many_arguments)] // An Event has that many parts, and nobody else makes one.
fn body(
    namespace: &str,
    name: &str,
    component: &str,
    object: &DynamicObject,
    kind: &str,
    reason: &str,
    message: &str,
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
        "type": kind, "reason": reason, "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now,
        "source": { "component": component }, "reportingComponent": component, "reportingInstance": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_different_message_is_combined() {
        let recorder = Recorder::default();
        for message in 0..10 {
            assert_eq!(recorder.note("uid", "UnableToCreateStanzas", &message.to_string()).0.count, 1);
        }
        assert_eq!(recorder.note("uid", "UnableToCreateStanzas", "3").0.count, 2);
        let (first, text) = recorder.note("uid", "UnableToCreateStanzas", "new");
        assert_eq!((first.count, text.as_str()), (1, "(combined from similar events): new"));
        assert_eq!(recorder.note("uid", "UnableToCreateStanzas", "newer").0.count, 2);
        assert_eq!(recorder.note("uid", "StanzasCreated", "other").0.count, 1);
    }
}
