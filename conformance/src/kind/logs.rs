//! The logs of all containers, streamed from their start into files: a pod that is gone has told all that it had to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, Pod};
use kube::api::{ListParams, LogParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::pods::{restarts, statuses};
use crate::environment::Container;
use crate::percona::NODE;

/// How long after a failure a log is asked for again: its container may not have started when its status says so.
const AGAIN: Duration = Duration::from_millis(500);
/// How often that is done.
const ATTEMPTS: usize = 10;

/// The exit code of what SIGKILL has ended.
const KILLED: i32 = 128 + 9;

/// Namespaces whose pods are the cluster's own.
const OF_THE_CLUSTER: [&str; 3] = ["kube-system", "kube-public", "local-path-storage"];

/// The pods of the operator under test: where its one log and its restarts are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Their namespace.
    pub namespace: String,
    /// The beginning of their names: the Deployment's name.
    pub name: String,
}

/// What is known about the pods so far.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Restarts of the operator's containers, by the uid of their pod: those of pods that are gone count on.
    restarts: BTreeMap<String, u32>,
    /// The operator's containers that were killed when their grace period was over, by the uid of their pod and their names.
    killed: BTreeSet<(String, String)>,
}

impl Known {
    /// How often the operator under test has ended by itself.
    pub fn operator_restarts(&self) -> u32 {
        self.restarts.values().sum()
    }

    /// How often the operator under test did not end when it was asked to.
    pub fn operator_killed(&self) -> u32 {
        u32::try_from(self.killed.len()).unwrap_or(u32::MAX)
    }

    fn note(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        self.killed.extend(killed(pod).map(|container| (uid.clone(), container.to_owned())));
        self.restarts.insert(uid, restarts(pod));
    }
}

/// The log files. Dropping it ends the streams.
pub struct Logs {
    directory: PathBuf,
    client: Client,
    known: tokio::sync::watch::Receiver<Known>,
    _watching: AbortOnDropHandle<()>,
}

impl Logs {
    /// Begins to stream into `directory`, which is made.
    pub fn start(client: Client, directory: PathBuf, operator: Operator) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        // It is read also before the operator writes.
        fs::File::create(operator_log(&directory))?;
        let (tell, known) = tokio::sync::watch::channel(Known::default());
        let follower = Follower {
            client: client.clone(),
            directory: directory.clone(),
            operator,
            followed: BTreeSet::new(),
            streams: JoinSet::new(),
            tell,
        };
        Ok(Self { directory, client, known, _watching: AbortOnDropHandle::new(tokio::spawn(follower.watch())) })
    }

    /// What is known about the pods.
    pub fn known(&self) -> tokio::sync::watch::Receiver<Known> {
        self.known.clone()
    }

    /// The operator's log.
    pub fn operator_log(&self) -> PathBuf {
        operator_log(&self.directory)
    }

    /// What a container has written so far.
    pub fn read(&self, container: &Container) -> io::Result<String> {
        let path = file(&self.directory, &container.namespace, &container.pod, &container.container);
        match fs::read(path) {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// Drops the logs of namespaces that are gone: whoever wanted something of them has it in a report.
    pub async fn drop_gone(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let there: BTreeSet<String> = namespaces
            .list_metadata(&ListParams::default())
            .await?
            .items
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let gone = entry.file_name().to_str().is_some_and(|name| !there.contains(name));
            if gone && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

fn operator_log(directory: &Path) -> PathBuf {
    directory.join("operator.log")
}

fn file(directory: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    directory.join(namespace).join(pod).join(format!("{container}.log"))
}

/// Follows all pods.
struct Follower {
    client: Client,
    directory: PathBuf,
    operator: Operator,
    /// Ids of containers whose log is or was streamed.
    followed: BTreeSet<String>,
    streams: JoinSet<()>,
    tell: tokio::sync::watch::Sender<Known>,
}

impl Follower {
    async fn watch(mut self) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => self.seen(&pod),
                // The last state of its containers may come with the end of the pod.
                Ok(Event::Delete(pod)) => self.gone(&pod),
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => tracing::debug!(%error, "the watch of pods broke, opening it again"),
            }
            while self.streams.try_join_next().is_some() {}
        }
    }

    fn seen(&mut self, pod: &Pod) {
        let namespace = pod.namespace().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        // The double's pods have no containers that could write.
        if OF_THE_CLUSTER.contains(&namespace.as_str()) || node == Some(NODE) {
            return;
        }
        let of_operator = self.is_operator(pod);
        if of_operator {
            self.tell.send_modify(|known| known.note(pod));
        }
        for container in statuses(pod) {
            for (id, previous) in started(container) {
                if self.followed.insert(id) {
                    self.follow(pod, &container.name, previous, of_operator);
                }
            }
        }
    }

    fn gone(&self, pod: &Pod) {
        if self.is_operator(pod) {
            self.tell.send_modify(|known| known.note(pod));
        }
    }

    fn is_operator(&self, pod: &Pod) -> bool {
        pod.namespace().as_deref() == Some(self.operator.namespace.as_str())
            && pod.name_any().starts_with(&format!("{}-", self.operator.name))
    }

    fn follow(&mut self, pod: &Pod, container: &str, previous: bool, of_operator: bool) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let path = if of_operator {
            operator_log(&self.directory)
        } else {
            file(&self.directory, &namespace, &name, container)
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let parameters =
            LogParams { container: Some(container.to_owned()), follow: !previous, previous, ..LogParams::default() };
        let stream = Arc::new(Stream { pods, name, parameters, path });
        self.streams.spawn(async move {
            if let Err(error) = stream.copy().await {
                tracing::debug!(pod = stream.name, %error, "a log could not be streamed");
            }
        });
    }
}

/// The containers of a pod that was deleted, and given time to end, which have not used it: they were killed (SIGKILL) after it.
fn killed(pod: &Pod) -> impl Iterator<Item = &str> {
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
    let asked = pod.metadata.deletion_timestamp.is_some() && grace > 0;
    let ended = |container: &ContainerStatus| {
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code == KILLED && ended.reason.as_deref() != Some("OOMKilled"))
    };
    statuses(pod).filter(move |container| asked && ended(container)).map(|container| container.name.as_str())
}

/// The containers of a status that have started, by their ids, and whether each is the one before the present one.
fn started(status: &ContainerStatus) -> Vec<(String, bool)> {
    let mut ids = Vec::new();
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if let Some(id) = before.and_then(|ended| ended.container_id.clone()) {
        ids.push((id, true));
    }
    let state = status.state.as_ref();
    let has_started = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
    if let (true, Some(id)) = (has_started, status.container_id.clone()) {
        ids.push((id, false));
    }
    ids
}

struct Stream {
    pods: Api<Pod>,
    name: String,
    parameters: LogParams,
    path: PathBuf,
}

impl Stream {
    async fn copy(&self) -> anyhow::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut attempt = 1;
        let stream = loop {
            match self.pods.log_stream(&self.name, &self.parameters).await {
                Ok(stream) => break stream,
                Err(error) if attempt == ATTEMPTS => return Err(error.into()),
                Err(_) => attempt += 1,
            }
            tokio::time::sleep(AGAIN).await;
        };
        let mut stream = std::pin::pin!(stream);
        let mut file = tokio::fs::OpenOptions::new().append(true).create(true).open(&self.path).await?;
        let mut block = vec![0; 16 << 10];
        loop {
            let length = stream.read(&mut block).await?;
            if length == 0 {
                return Ok(());
            }
            file.write_all(&block[..length]).await?;
            file.flush().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn ended(code: i32, reason: &str, deletion: &Value) -> Pod {
        let mut metadata = json!({ "name": "operator-x", "uid": "u" });
        metadata.as_object_mut().unwrap().extend(deletion.as_object().unwrap().clone());
        let state = json!({ "terminated": { "exitCode": code, "reason": reason } });
        let containers = [status(&state, &json!({}))];
        serde_json::from_value(json!({ "metadata": metadata, "status": { "containerStatuses": containers } })).unwrap()
    }

    #[rstest::rstest]
    #[case::ignores_sigterm(137, "Error", json!({ "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 30 }), 1)]
    #[case::ends(0, "Completed", json!({ "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 30 }), 0)]
    #[case::was_to_be_killed(137, "Error", json!({ "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0 }), 0)]
    #[case::was_not_asked(137, "Error", json!({}), 0)]
    #[case::has_no_memory(137, "OOMKilled", json!({ "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 30 }), 0)]
    fn an_operator_that_outlives_its_grace_was_killed(
        #[case] code: i32,
        #[case] reason: &str,
        #[case] deletion: Value,
        #[case] times: u32,
    ) {
        let mut known = Known::default();
        // Each state is seen more than once.
        for _ in 0..2 {
            known.note(&ended(code, reason, &deletion));
        }
        assert_eq!(known.operator_killed(), times);
    }

    fn status(state: &Value, last: &Value) -> ContainerStatus {
        serde_json::from_value(json!({ "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
            "containerID": "containerd://2", "state": state, "lastState": last }))
        .unwrap()
    }

    #[test]
    fn a_restarted_container_has_two_logs_and_a_waiting_one_none_of_its_own() {
        let ended = json!({ "terminated": { "exitCode": 1, "containerID": "containerd://1" } });
        let running = status(&json!({ "running": {} }), &ended);
        let before = ("containerd://1".to_owned(), true);
        assert_eq!(started(&running), [before.clone(), ("containerd://2".to_owned(), false)]);
        assert_eq!(started(&status(&json!({ "waiting": {} }), &ended)), [before]);
    }
}
