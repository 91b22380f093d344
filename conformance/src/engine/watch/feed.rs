//! One watch, shared by everybody who wants to know about a kind in a namespace.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::watcher::Event;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::record::{Observation, Phase, Record};
use crate::engine::secrets;

/// An API kind as a scenario writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `StatefulSet`.
    pub kind: String,
}

impl Kind {
    /// The kind of `object`, from its `apiVersion` and `kind`.
    pub fn of(object: &Value) -> Self {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        Self { api_version: text("apiVersion"), kind: text("kind") }
    }

    /// A kind by its two names.
    pub fn new(api_version: &str, kind: &str) -> Self {
        Self { api_version: api_version.to_owned(), kind: kind.to_owned() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.api_version)
    }
}

/// See the module. The hub feeds it; everybody else reads.
#[derive(Debug)]
pub struct Feed {
    kind: Kind,
    namespace: Option<String>,
    inner: Mutex<Inner>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    record: Record,
    resource: Option<(ApiResource, bool)>,
    subscribers: Vec<mpsc::UnboundedSender<Observation>>,
}

impl Feed {
    /// A feed that nothing has been heard of yet.
    pub fn new(kind: Kind, namespace: Option<String>) -> Self {
        Self { kind, namespace, inner: Mutex::default(), revision: watch::Sender::new(0) }
    }

    /// The kind that is watched.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The namespace that is watched; `None` for all of them.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Reads what is known at this moment.
    pub fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.lock().record)
    }

    /// A receiver that wakes whenever something has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Waits until the present state is known (or that the kind is not served).
    pub async fn known(&self) {
        let mut changes = self.changes();
        while self.read(Record::phase) == Phase::Starting {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Every version from now on, the present ones first. Nothing is lost between the two.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Observation> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        for object in inner.record.objects().values() {
            // The receiver is in this function's hand: sending to it cannot fail.
            let _ = sender.send(Observation::Version(object.clone()));
        }
        inner.subscribers.push(sender);
        receiver
    }

    /// How the API server names the kind, and whether it is namespaced; `None` while it is not served.
    pub fn resource(&self) -> Option<(ApiResource, bool)> {
        self.lock().resource.clone()
    }

    pub(super) fn served(&self, resource: ApiResource, namespaced: bool) {
        self.lock().resource = Some((resource, namespaced));
    }

    pub(super) fn not_served(&self) {
        self.change(|inner| {
            inner.resource = None;
            inner.record.not_served(Timestamp::now())
        });
    }

    pub(in crate::engine) fn failed(&self, error: String) {
        self.change(|inner| {
            inner.record.failed(error);
            Vec::new()
        });
    }

    pub(in crate::engine) fn observe(&self, event: Event<DynamicObject>) {
        let now = Timestamp::now();
        let event = match event {
            Event::Apply(object) => Event::Apply(self.value(object)),
            Event::Delete(object) => Event::Delete(self.value(object)),
            Event::InitApply(object) => Event::InitApply(self.value(object)),
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        };
        self.change(|Inner { record, .. }| match event {
            Event::Init => {
                record.list_begins();
                Vec::new()
            }
            Event::InitApply(object) => {
                record.listed(object);
                Vec::new()
            }
            Event::InitDone => record.list_ends(now),
            Event::Apply(object) => record.applied(object, now),
            Event::Delete(object) => record.deleted(&object, now),
        });
    }

    pub(super) fn works(&self) {
        self.lock().record.works();
    }

    pub(super) fn overtaken_by(&self, list: Vec<Value>, as_of: u64) {
        self.change(|inner| inner.record.overtaken_by(list, as_of, Timestamp::now()));
    }

    /// The object as JSON. Entries of a list have no `apiVersion` and `kind` of their own.
    pub(super) fn value(&self, object: DynamicObject) -> Value {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("apiVersion".to_owned(), self.kind.api_version.clone().into());
            fields.insert("kind".to_owned(), self.kind.kind.clone().into());
        }
        secrets::register(&value);
        value
    }

    fn change(&self, edit: impl FnOnce(&mut Inner) -> Vec<Observation>) {
        let mut inner = self.lock();
        let observations = edit(&mut inner);
        inner
            .subscribers
            .retain(|subscriber| observations.iter().all(|observation| subscriber.send(observation.clone()).is_ok()));
        drop(inner);
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, version: &str) -> DynamicObject {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": version}
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_subscriber_sees_the_present_state_and_then_every_version() {
        let feed = Feed::new(Kind::new("v1", "Pod"), Some("a".to_owned()));
        feed.observe(Event::Init);
        feed.observe(Event::InitApply(object("x", "1")));
        feed.observe(Event::InitDone);
        let mut versions = feed.subscribe();
        feed.observe(Event::Apply(object("x", "2")));
        feed.observe(Event::Apply(object("x", "3")));
        feed.observe(Event::Delete(object("x", "4")));
        let mut seen = Vec::new();
        while let Ok(observation) = versions.try_recv() {
            seen.push(match observation {
                Observation::Version(object) => object["metadata"]["resourceVersion"].as_str().unwrap().to_owned(),
                Observation::Deleted(_) => "deleted".to_owned(),
                Observation::Gap(why) => why,
            });
        }
        assert_eq!(seen, ["1", "2", "3", "deleted"]);
    }

    #[tokio::test]
    async fn what_is_listed_names_its_kind() {
        let feed = Feed::new(Kind::new("apps/v1", "StatefulSet"), None);
        feed.observe(Event::Init);
        feed.observe(Event::InitApply(object("x", "1")));
        feed.observe(Event::InitDone);
        feed.known().await;
        let kinds: Vec<_> = feed.read(|record| record.objects().values().map(|object| Kind::of(object)).collect());
        assert_eq!(kinds, [Kind::new("apps/v1", "StatefulSet")]);
    }
}
