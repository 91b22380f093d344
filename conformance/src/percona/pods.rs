//! The kubelet of the clusters' pods.
//!
//! kube-controller-manager makes the pods from the StatefulSets, Deployments and Jobs of the double; they are bound to
//! [`NODE`], which no kubelet serves. Here each of them gets a task that does what their containers would do: the PostgreSQL
//! pod is a real server, a backup Job runs the real pgBackRest, PgBouncer and the repository host are a status only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backup;
use super::context::{Context, Kind, ignore_another};
use super::machine::{Starts, of_the_machine};
use super::names::{CRUNCHY, Key, NODE};
use super::pod_status::{Stage, pod_status};

/// How long a pod waits before it tries again what the API server refused.
const RETRY: Duration = Duration::from_secs(1);
/// How long containers take to start in which nothing runs, unless the operator has noticed before that they are away.
const START: Duration = Duration::from_secs(2);
/// Field manager of the pods' status.
const KUBELET: &str = "kubelet";

/// The pods that are running, by uid.
#[derive(Default)]
pub struct Kubelet {
    pods: Mutex<BTreeMap<String, Running>>,
}

/// A pod's task, and what tells it about changes of the pod.
type Running = (watch::Sender<DynamicObject>, JoinHandle<()>);

impl Kubelet {
    /// Takes note of a pod that exists.
    pub(super) fn seen(&self, context: &Arc<Context>, pod: DynamicObject) {
        let (Some(uid), Some(key)) = (pod.uid(), Key::of(&pod)) else { return };
        if pod.data["spec"]["nodeName"] != NODE {
            return;
        }
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((changes, _)) = pods.get(&uid) {
            changes.send_replace(pod);
            return;
        }
        // What has ended stays as it is, for example the pod of a Job.
        if matches!(pod.data["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) && !deleting(&pod) {
            return;
        }
        let (changes, receiver) = watch::channel(pod.clone());
        let context = Arc::clone(context);
        let starts = context.machine.starts(format!("{}/{}", key.namespace, pod.name_any()));
        let task = tokio::spawn(async move {
            Runner { context, key, pod, changes: receiver, starts }.run().await;
        });
        pods.insert(uid, (changes, task));
    }

    /// Takes note of a pod that is gone.
    pub(super) fn gone(&self, pod: &DynamicObject) {
        let uid = pod.uid().unwrap_or_default();
        let removed = self.pods.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        if let Some((changes, _task)) = removed {
            // A pod that was deleted without grace: its task stops what it runs, and ends.
            changes.send_modify(|pod| pod.meta_mut().deletion_timestamp = Some(now()));
        }
    }

    /// Ends every task; what they run is ended by whoever owns it.
    pub(super) fn abort(&self) {
        let pods = std::mem::take(&mut *self.pods.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, task) in pods.into_values() {
            task.abort();
        }
    }
}

fn now() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now())
}

fn deleting(pod: &DynamicObject) -> bool {
    pod.meta().deletion_timestamp.is_some()
}

/// One pod.
pub(super) struct Runner {
    pub(super) context: Arc<Context>,
    pub(super) key: Key,
    pub(super) pod: DynamicObject,
    changes: watch::Receiver<DynamicObject>,
    /// Those of its PostgreSQL, if that is what it runs.
    pub(super) starts: Starts,
}

impl Runner {
    async fn run(self) {
        let label = |name: &str| self.pod.labels().get(&format!("{CRUNCHY}{name}")).cloned();
        let is_instance = label("data").as_deref() == Some("postgres");
        let is_job = label("pgbackrest-backup").is_some();
        let mut deletion = self.deletion();
        if !deleting(&self.pod) {
            // Whatever the API server refuses, the pod is there until it is deleted.
            let work = async {
                while let Err(error) = self.work(is_instance, is_job).await {
                    self.starts.failed(of_the_machine(&error));
                    self.not_yet(&error).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = deletion.wait() => {}
            }
        }
        // What has ended by itself (a Job's pod) waits here for its deletion.
        deletion.wait().await;
        if is_instance {
            self.shut_down().await;
        }
        while let Err(error) = self.remove().await {
            self.not_yet(&error).await;
        }
    }

    /// What the pod's containers do.
    async fn work(&self, is_instance: bool, is_job: bool) -> anyhow::Result<()> {
        self.wait_for_volumes().await?;
        if is_instance {
            self.instance().await
        } else if is_job {
            self.job().await
        } else {
            self.report(Stage::Waiting).await?;
            self.start().await;
            self.report(Stage::Running { ready: true }).await?;
            std::future::pending().await
        }
    }

    /// PgBouncer's or the repository host's containers start. If that took no time, nobody would see that one of them is away
    /// while its pod is replaced (trace l2): so it takes until the inner status says so, which it does from the beginning
    /// when a cluster is new.
    async fn start(&self) {
        let is_bouncer = self.pod.labels().get(&format!("{CRUNCHY}role")).is_some_and(|role| role == "pgbouncer");
        let away = |inner: Option<&DynamicObject>| {
            let status = inner.map_or(&Value::Null, |inner| &inner.data["status"]);
            let bouncer = &status["proxy"]["pgBouncer"];
            if is_bouncer {
                bouncer["readyReplicas"].is_null() || bouncer["readyReplicas"] != bouncer["replicas"]
            } else {
                status["pgbackrest"]["repoHost"]["ready"] != true
            }
        };
        let noticed = await_condition(self.context.api(Kind::INNER, &self.key.namespace), &self.key.name, away);
        // An operator that is stopped notices nothing; containers start all the same.
        let _ = tokio::time::timeout(START, noticed).await;
    }

    /// Takes note of what went wrong, and waits until it is tried again: kubelet and Patroni never give up.
    pub(super) async fn not_yet(&self, error: &anyhow::Error) {
        tracing::info!(cluster = %self.key, pod = self.pod.name_any(), %error, "a pod of the double tries again");
        tokio::time::sleep(RETRY).await;
    }

    fn deletion(&self) -> Deletion {
        Deletion(self.changes.clone())
    }

    pub(super) async fn report(&self, stage: Stage) -> kube::Result<()> {
        let api = self.context.api(Kind::POD, &self.key.namespace);
        let address = self.context.registry.get(&self.key).map(|instance| instance.place.shown.to_string());
        let status = pod_status(&self.pod.data["spec"], stage, address.as_deref());
        // The uid makes sure that it is this pod and not a later one of the same name.
        let patch = json!({ "metadata": { "uid": self.pod.uid() }, "status": status });
        let params = PatchParams { field_manager: Some(KUBELET.to_owned()), ..PatchParams::default() };
        ignore_another(api.patch_status(&self.pod.name_any(), &params, &Patch::Merge(patch)).await).map(drop)
    }

    /// A pod whose volumes name a Secret or a `ConfigMap`, or a key of one, that is not there does not start: neither does
    /// the real one (trace g). The operator's own `ConfigMap` is made while the pod is, and is not waited for.
    async fn wait_for_volumes(&self) -> anyhow::Result<()> {
        let mut all = projected(&self.pod.data["spec"]);
        let own = self.key.named("pgbackrest-config");
        all.retain(|wanted| wanted.kind != Kind::CONFIG_MAP || wanted.name != own);
        for wanted in all {
            let found = self.context.get(wanted.kind, &self.key.namespace, &wanted.name).await?;
            let Some(mut missing) = wanted.missing(found.as_ref()) else { continue };
            self.report(Stage::Waiting).await?;
            let api = self.context.api(wanted.kind, &self.key.namespace);
            let only = watcher::Config::default().fields(&format!("metadata.name={}", wanted.name));
            let mut changes = std::pin::pin!(watcher(api, only).default_backoff().applied_objects());
            loop {
                let message = format!("MountVolume.SetUp failed for volume \"{}\" : {missing}", wanted.volume);
                self.context.event_from(KUBELET, &self.pod, "Warning", "FailedMount", &message).await;
                let Some(found) = changes.try_next().await? else {
                    anyhow::bail!("the watch of {} {} has ended", wanted.kind.name(), wanted.name);
                };
                match wanted.missing(Some(&found)) {
                    Some(still) => missing = still,
                    None => break,
                }
            }
        }
        Ok(())
    }

    async fn remove(&self) -> anyhow::Result<()> {
        self.report(Stage::Terminated { succeeded: false }).await?;
        self.context.delete_pod(&self.pod, Some(0)).await?;
        Ok(())
    }

    /// A backup Job.
    async fn job(&self) -> anyhow::Result<()> {
        self.report(Stage::Running { ready: true }).await?;
        let result = backup::run_job(&self.context, &self.key, &self.pod).await;
        if let Err(failure) = &result {
            tracing::info!(cluster = %self.key, pod = self.pod.name_any(), %failure, "a backup failed");
        }
        // Only this again when it is refused: the backup is made.
        while let Err(error) = self.report(Stage::Terminated { succeeded: result.is_ok() }).await {
            self.not_yet(&error.into()).await;
        }
        Ok(())
    }
}

/// Tells when the pod is to go.
struct Deletion(watch::Receiver<DynamicObject>);

impl Deletion {
    async fn wait(&mut self) {
        // An error means that the kubelet itself is gone; then the pod's task is about to be ended.
        if self.0.wait_for(deleting).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A Secret or a `ConfigMap` in a projected volume.
#[derive(Debug, PartialEq, Eq)]
struct Projected {
    volume: String,
    kind: Kind,
    name: String,
    /// The keys that it must have.
    keys: Vec<String>,
}

impl Projected {
    /// Why the volume cannot be set up, in a kubelet's words.
    fn missing(&self, found: Option<&DynamicObject>) -> Option<String> {
        let is_secret = self.kind == Kind::SECRET;
        let kind = if is_secret { "secret" } else { "configmap" };
        let Some(found) = found else { return Some(format!("{kind} \"{}\" not found", self.name)) };
        let absent = |key: &str| ["data", "binaryData"].iter().all(|field| found.data[field][key].is_null());
        let key = self.keys.iter().find(|key| absent(key))?;
        let lacks =
            if is_secret { "references non-existent secret" } else { "configmap references non-existent config" };
        Some(format!("{lacks} key: {key}"))
    }
}

/// The objects that a pod's projected volumes need.
fn projected(spec: &Value) -> Vec<Projected> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut found = Vec::new();
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
            for (field, kind) in backup::volume::KINDS {
                let source = &source[field];
                let items = source["items"].as_array().into_iter().flatten();
                if let (Some(volume), Some(name)) = (text(&volume["name"]), text(&source["name"]))
                    && source["optional"] != true
                {
                    let keys = items.filter_map(|item| text(&item["key"])).collect();
                    found.push(Projected { volume, kind, name, keys });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_needs_the_objects_and_the_keys_that_it_names() {
        let items = json!([{ "key": "ca.crt", "path": "trust.crt" }]);
        let spec = json!({ "volumes": [{ "name": "config", "projected": { "sources": [
            { "secret": { "name": "keys", "items": items } },
            { "secret": { "name": "optional", "optional": true } },
            { "configMap": { "name": "options", "items": items } },
            { "configMap": { "name": "optional", "optional": true } },
        ] } }] });
        let wanted = projected(&spec);
        let needs = |kind, name: &str| Projected {
            volume: "config".to_owned(),
            kind,
            name: name.to_owned(),
            keys: vec!["ca.crt".to_owned()],
        };
        assert_eq!(wanted, [needs(Kind::SECRET, "keys"), needs(Kind::CONFIG_MAP, "options")]);
        let object = |field: &str, key: &str| -> DynamicObject {
            serde_json::from_value(json!({ "metadata": { "name": "x" }, field: { key: "" } })).unwrap()
        };
        let missing = |index: usize, found: Option<DynamicObject>| wanted[index].missing(found.as_ref());
        assert_eq!(missing(0, None).as_deref(), Some("secret \"keys\" not found"));
        assert_eq!(missing(1, None).as_deref(), Some("configmap \"options\" not found"));
        let without = |index| missing(index, Some(object("data", "s3.conf")));
        assert_eq!(without(0).as_deref(), Some("references non-existent secret key: ca.crt"));
        assert_eq!(without(1).as_deref(), Some("configmap references non-existent config key: ca.crt"));
        assert_eq!(missing(0, Some(object("data", "ca.crt"))), None);
        assert_eq!(missing(1, Some(object("binaryData", "ca.crt"))), None);
    }
}
