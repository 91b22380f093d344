//! Watches a namespace and writes what it sees in the format of the recordings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use conformance::percona::Kind;
use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::trace::Trace;
use crate::view::{Numbers, view};

/// The kinds that are recorded, by the names that the recordings use.
pub const KINDS: [(&str, Kind); 16] = [
    ("PerconaPGCluster", Kind::CLUSTER),
    ("PerconaPGBackup", Kind::BACKUP),
    ("PostgresCluster", Kind::INNER),
    ("Secret", Kind::SECRET),
    ("Service", Kind::SERVICE),
    ("ConfigMap", Kind::CONFIG_MAP),
    ("ServiceAccount", Kind::SERVICE_ACCOUNT),
    ("Role", Kind::ROLE),
    ("RoleBinding", Kind::ROLE_BINDING),
    ("Endpoints", Kind::ENDPOINTS),
    ("PersistentVolumeClaim", Kind::CLAIM),
    ("StatefulSet", Kind::STATEFUL_SET),
    ("Deployment", Kind::DEPLOYMENT),
    ("Job", Kind::JOB),
    ("Pod", Kind::POD),
    ("Event", Kind::EVENT),
];

/// What exists, by kind and name.
pub type Cache = BTreeMap<(&'static str, String), DynamicObject>;

struct State {
    cache: Cache,
    views: BTreeMap<(&'static str, String), Map<String, Value>>,
    numbers: Numbers,
    lines: Vec<Value>,
    began: Instant,
}

/// A running recorder.
#[derive(Clone)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Recorder {
    /// Starts watching. Returns once everything that exists has been seen.
    pub async fn start(client: &kube::Client, namespace: &str) -> (Self, Vec<JoinHandle<()>>) {
        let state = State {
            cache: Cache::new(),
            views: BTreeMap::new(),
            numbers: Numbers::default(),
            lines: Vec::new(),
            began: Instant::now(),
        };
        let recorder = Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(0) };
        let (seen, mut all) = watch::channel(0);
        let tasks = KINDS
            .map(|(name, kind)| {
                let api = kube::Api::namespaced_with(client.clone(), namespace, &kind.resource());
                let (recorder, seen) = (recorder.clone(), seen.clone());
                tokio::spawn(async move {
                    let mut stream = std::pin::pin!(watcher(api, watcher::Config::default()).chain(stream::pending()));
                    while let Some(event) = stream.next().await {
                        match event {
                            Ok(Event::Apply(object) | Event::InitApply(object)) => recorder.changed(name, object),
                            Ok(Event::Delete(object)) => recorder.deleted(name, &object),
                            Ok(Event::InitDone) => seen.send_modify(|count| *count += 1),
                            Ok(Event::Init) => {}
                            Err(error) => panic!("the recorder's watch of {name} broke: {error}"),
                        }
                    }
                })
            })
            .into();
        all.wait_for(|count| *count == KINDS.len()).await.expect("the watches run");
        (recorder, tasks)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no watch has panicked")
    }

    /// Forgets what was recorded: the recording begins now, with what is there.
    pub fn begin(&self, namespace: &str) {
        let mut state = self.state();
        state.began = Instant::now();
        state.lines = vec![json!({ "t_ms": 0, "mark": "recorder-start", "ns": namespace })];
        let existing: Vec<Value> =
            state.views.iter().map(|((kind, name), view)| line(0, "", kind, name, "EXISTING", json!(view))).collect();
        state.lines.extend(existing.into_iter().filter(|line| line["kind"] != "Event"));
    }

    /// Writes a line of the driver's own.
    pub fn write(&self, mut line: Value) {
        let mut state = self.state();
        line["t_ms"] = json!(state.began.elapsed().as_millis());
        state.lines.push(line);
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// What a probe has found last: whether it logs in. Nothing before its first try has ended.
    pub fn probed(&self, label: &str) -> Option<bool> {
        self.state().lines.iter().rev().find(|line| line["probe"] == label).and_then(|line| line["ok"].as_bool())
    }

    /// Looks at what exists.
    pub fn look<T>(&self, look: impl FnOnce(&Cache) -> T) -> T {
        look(&self.state().cache)
    }

    /// Tells when something has changed, or a line was written.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What was recorded, and nothing else: the raw lines.
    pub fn text(&self) -> String {
        self.state().lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
    }

    /// What was recorded.
    pub fn trace(&self) -> Trace {
        Trace::parse(&self.text())
    }

    fn changed(&self, kind: &'static str, object: DynamicObject) {
        let mut state = self.state();
        let key = (kind, object.name_any());
        let t = state.began.elapsed().as_millis();
        let rv = object.resource_version().unwrap_or_default();
        if kind == "Event" {
            let data = &object.data;
            let on = format!("{}/{}", text(&data["involvedObject"]["kind"]), text(&data["involvedObject"]["name"]));
            let event = if state.cache.contains_key(&key) { "MODIFIED" } else { "ADDED" };
            state.lines.push(json!({
                "t_ms": t, "rv": rv, "kind": "Event", "ev": event, "on": on, "type": data["type"],
                "reason": data["reason"], "message": data["message"], "count": data["count"],
                "source": data["source"]["component"],
            }));
        } else {
            let view = view(kind, &object, &mut state.numbers);
            let line = match state.views.get(&key) {
                None => Some(line(t, &rv, kind, &key.1, "ADDED", json!(view))),
                Some(before) => {
                    let gone = before.keys().filter(|field| !view.contains_key(*field));
                    let mut changed: Map<String, Value> = gone.map(|field| (field.clone(), Value::Null)).collect();
                    let differs = |field: &&String| before.get(*field) != view.get(*field);
                    changed.extend(view.keys().filter(differs).map(|field| (field.clone(), view[field].clone())));
                    let changed = (!changed.is_empty()).then(|| json!({ "changed": changed }));
                    changed.map(|changed| line(t, &rv, kind, &key.1, "MODIFIED", changed))
                }
            };
            state.lines.extend(line);
            state.views.insert(key.clone(), view);
        }
        state.cache.insert(key, object);
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    fn deleted(&self, kind: &'static str, object: &DynamicObject) {
        let mut state = self.state();
        let key = (kind, object.name_any());
        let (t, rv) = (state.began.elapsed().as_millis(), object.resource_version().unwrap_or_default());
        state.cache.remove(&key);
        if state.views.remove(&key).is_some() {
            state.lines.push(line(t, &rv, kind, &key.1, "DELETED", json!({})));
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn line(t: u128, rv: &str, kind: &str, name: &str, event: &str, view: Value) -> Value {
    let mut line = json!({ "t_ms": t, "kind": kind, "ev": event, "name": name, "rv": rv });
    if let (Value::Object(line), Value::Object(view)) = (&mut line, view) {
        line.extend(view);
    }
    line
}
