//! Pods of a control plane that the node double runs: one namespace for each part of a test.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use conformance::hosts::Hosts;
use conformance::node::log_files;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Bounds every wait of these tests; only a defect lets one reach it.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Fixture {
    pub client: Client,
    pub hosts: Hosts,
    pub directory: PathBuf,
}

/// One namespace of the control plane.
pub struct Site<'a> {
    fixture: &'a Fixture,
    pub namespace: String,
}

impl Fixture {
    pub async fn site(&self, namespace: &str) -> Site<'_> {
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &object).await.unwrap();
        Site { fixture: self, namespace: namespace.to_owned() }
    }
}

impl Site<'_> {
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.fixture.client.clone(), &self.namespace)
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// A pod of one container that runs a shell script.
    pub async fn shell(&self, name: &str, script: &str, spec: Value, container: Value) -> Pod {
        let mut main = json!({"name": "main", "image": "shell:1", "command": ["/bin/sh", "-c", script]});
        json_patch::merge(&mut main, &container);
        let mut pod =
            json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 5, "containers": [main]}});
        json_patch::merge(&mut pod["spec"], &spec);
        self.create(pod).await
    }

    /// Waits until the pod is as `condition` wants it; an absent pod is `null`.
    pub async fn pod(&self, name: &str, what: &str, condition: impl Fn(&Value) -> bool + Send + Sync) -> Value {
        let seen = std::sync::Mutex::new(Value::Null);
        let wait = await_condition(self.api::<Pod>(), name, |pod: Option<&Pod>| {
            let pod = serde_json::to_value(pod).unwrap();
            let holds = condition(&pod);
            *seen.lock().unwrap() = pod;
            holds
        });
        let outcome = tokio::time::timeout(DEADLINE, wait).await;
        let last = seen.into_inner().unwrap();
        assert!(matches!(outcome, Ok(Ok(_))), "{name}: not {what} within {DEADLINE:?}: {:#}", last["status"]);
        last
    }

    /// Waits until the first container of the pod is in a state, such as `waiting/CrashLoopBackOff`.
    pub async fn state(&self, name: &str, state: &str) -> Value {
        let (kind, reason) = state.split_once('/').unwrap_or((state, ""));
        let condition = |pod: &Value| {
            let state = &pod["status"]["containerStatuses"][0]["state"][kind];
            state.is_object() && (reason.is_empty() || state["reason"] == reason)
        };
        self.pod(name, state, condition).await
    }

    /// Waits until an event says this.
    pub async fn told(&self, reason: &str, message: &str) {
        let only = watcher::Config::default().fields(&format!("reason={reason}"));
        let mut others = Vec::new();
        let wait = async {
            let mut events = pin!(watcher(self.api::<Event>(), only).default_backoff().applied_objects());
            while let Some(event) = events.next().await {
                let Ok(event) = event else { continue };
                let said = event.message.unwrap_or_default();
                if said == message {
                    return;
                }
                others.push(said);
            }
        };
        let outcome = tokio::time::timeout(DEADLINE, wait).await;
        assert!(outcome.is_ok(), "{reason}: no event says {message:?} within {DEADLINE:?}, but: {others:?}");
    }

    pub fn log(&self, pod: &str, container: &str) -> String {
        let files = log_files(&self.fixture.directory, &self.namespace, pod, container).unwrap();
        files.into_iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
    }

    /// Waits until the hosts file knows a name, or does not.
    pub async fn known(&self, name: &str, known: bool) {
        let name = format!("{name}.{}.svc", self.namespace);
        let wait = async {
            // The node writes it a moment after the watch event that we have seen too.
            while self.fixture.hosts.get(&name).is_some() != known {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{name} is known: {}", !known));
    }
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

pub fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// Lets the container that reads from the pipe go on.
pub async fn release(path: PathBuf) {
    tokio::task::spawn_blocking(move || std::fs::write(path, "go\n").unwrap()).await.unwrap();
}
