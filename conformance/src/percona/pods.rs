//! The kubelet, and the Patroni, of the clusters' pods.
//!
//! kube-controller-manager makes the pods from the StatefulSets, Deployments and Jobs of the double; they are bound to
//! [`NODE`], which no kubelet serves. Here each of them gets a task that does what their containers would do: the PostgreSQL
//! pod is a real server, a backup Job runs the real pgBackRest, PgBouncer and the repository host are a status only.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backup;
use super::certificates::data;
use super::context::{Context, Kind, ignore_absent};
use super::names::{CRUNCHY, Key, NODE, PATRONI};
use super::objects::patroni;
use super::pod_status::{Stage, pod_status};
use super::registry::Instance;
use crate::pki::Identity;
use crate::postgres::{Server, ServerOptions};

/// How long a crashed PostgreSQL that does not come back is left alone before it is started again.
const RESTART_BACK_OFF: Duration = Duration::from_secs(2);
/// How long a pod waits before it tries again what the API server refused.
const RETRY: Duration = Duration::from_secs(1);
/// Field manager of the pods' status.
const KUBELET: &str = "kubelet";
/// Field manager of what Patroni writes.
const PATRONI_MANAGER: &str = "patroni";

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
        let task = tokio::spawn(async move {
            let name = format!("{}/{}", key.namespace, pod.name_any());
            let runner = Runner { context, key, pod, changes: receiver };
            if let Err(error) = runner.run().await {
                tracing::warn!(pod = name, %error, "a pod of the Percona double ended");
            }
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
struct Runner {
    context: Arc<Context>,
    key: Key,
    pod: DynamicObject,
    changes: watch::Receiver<DynamicObject>,
}

impl Runner {
    async fn run(self) -> anyhow::Result<()> {
        let label = |name: &str| self.pod.labels().get(&format!("{CRUNCHY}{name}")).cloned();
        let is_instance = label("data").as_deref() == Some("postgres");
        let is_job = label("pgbackrest-backup").is_some();
        let mut deletion = self.deletion();
        if !deleting(&self.pod) {
            // Whatever the API server refuses, the pod is there until it is deleted.
            let work = async {
                while let Err(error) = self.work(is_instance, is_job).await {
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
            self.shut_down().await?;
        }
        self.remove().await
    }

    /// What the pod's containers do.
    async fn work(&self, is_instance: bool, is_job: bool) -> anyhow::Result<()> {
        self.wait_for_secrets().await?;
        if is_instance {
            self.instance().await
        } else if is_job {
            self.job().await
        } else {
            self.report(Stage::Running { ready: true, restarts: 0 }).await?;
            std::future::pending().await
        }
    }

    /// Takes note of what went wrong, and waits until it is tried again: kubelet and Patroni never give up.
    async fn not_yet(&self, error: &anyhow::Error) {
        tracing::info!(cluster = %self.key, pod = self.pod.name_any(), %error, "a pod of the double tries again");
        tokio::time::sleep(RETRY).await;
    }

    fn deletion(&self) -> Deletion {
        Deletion(self.changes.clone())
    }

    async fn report(&self, stage: Stage) -> kube::Result<()> {
        let api = self.context.api(Kind::POD, &self.key.namespace);
        let address = self.context.registry.get(&self.key).map(|instance| instance.place.shown.to_string());
        let status = json!({ "status": pod_status(&self.pod.data["spec"], stage, address.as_deref()) });
        let params = PatchParams { field_manager: Some(KUBELET.to_owned()), ..PatchParams::default() };
        ignore_absent(api.patch_status(&self.pod.name_any(), &params, &Patch::Merge(status)).await).map(drop)
    }

    /// A pod whose volumes name a Secret that is not there does not start: neither does the real one (trace g).
    async fn wait_for_secrets(&self) -> anyhow::Result<()> {
        for (volume, name) in projected(&self.pod.data["spec"]) {
            if self.context.get(Kind::SECRET, &self.key.namespace, &name).await?.is_some() {
                continue;
            }
            self.report(Stage::Waiting).await?;
            let message = format!("MountVolume.SetUp failed for volume \"{volume}\" : secret \"{name}\" not found");
            self.context.event_from(KUBELET, &self.pod, "Warning", "FailedMount", &message).await;
            let api = self.context.api(Kind::SECRET, &self.key.namespace);
            let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let mut stream = std::pin::pin!(watcher(api, only).default_backoff().applied_objects());
            while stream.try_next().await?.is_none() {}
        }
        Ok(())
    }

    /// PostgreSQL under Patroni. Ends only with an error: a deletion interrupts it.
    async fn instance(&self) -> anyhow::Result<()> {
        self.report(Stage::Waiting).await?;
        let instance = self.context.registry.instance(&self.key, &self.context.directory)?;
        if instance.server().is_some() {
            // One server stands for the cluster: further replicas are a status only.
            self.report(Stage::Running { ready: true, restarts: 0 }).await?;
            return std::future::pending().await;
        }
        let options = self.server(&instance).await?;
        backup::restore::begin(&self.context, &self.key, &instance, &options).await?;
        for restarts in 0.. {
            self.report(Stage::Running { ready: false, restarts }).await?;
            self.patroni("uninitialized", None).await?;
            match options.start().await {
                Ok(server) => {
                    let mut exit = server.exit();
                    let server = Arc::new(server);
                    instance.set_server(Some(Arc::clone(&server)));
                    let lead = async {
                        while let Err(error) = self.lead(&instance, &server, restarts).await {
                            self.not_yet(&error).await;
                        }
                        std::future::pending::<Infallible>().await
                    };
                    let status = tokio::select! {
                        status = exit.wait() => status,
                        never = lead => match never {},
                    };
                    tracing::info!(cluster = %self.key, %status, "PostgreSQL ended, starting it again");
                    instance.set_server(None);
                }
                Err(error) => {
                    tracing::warn!(cluster = %self.key, %error, "PostgreSQL does not start");
                    tokio::time::sleep(RESTART_BACK_OFF).await;
                }
            }
        }
        Ok(())
    }

    /// The claim of the volume that holds the data.
    fn claim(&self) -> &str {
        let mut volumes = self.pod.data["spec"]["volumes"].as_array().into_iter().flatten();
        volumes.find_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str()).unwrap_or_default()
    }

    async fn server(&self, instance: &Instance) -> anyhow::Result<ServerOptions> {
        let certificate = self.context.get(Kind::SECRET, &self.key.namespace, &self.key.named("cluster-cert")).await?;
        let certificate = data(certificate.as_ref());
        let text = |key: &str| String::from_utf8_lossy(certificate.get(key).map_or(&[], Vec::as_slice)).into_owned();
        let mut options = ServerOptions {
            name: format!("PostgreSQL of {}", self.key),
            installation: self.context.installation.clone(),
            data: self.context.volume(&self.key.namespace, self.claim())?,
            directory: instance.directory.clone(),
            address: instance.place.listen,
            identity: Identity { certificate: text("tls.crt"), key: text("tls.key") },
            archive_command: "true".to_owned(),
            spawner: self.context.spawner.clone(),
        };
        let with_backups = projected(&self.pod.data["spec"]).iter().any(|(volume, _)| volume == "pgbackrest-config");
        let repository = if with_backups {
            backup::create(&self.context, instance, "pgbackrest", options.data.clone(), options.socket())?
        } else {
            None
        };
        if let Some(repository) = &repository {
            options.archive_command = repository.archive_command();
        }
        instance.set_repository(repository);
        Ok(options)
    }

    /// What Patroni writes when its PostgreSQL has become the leader: two Endpoints, the pod's annotation and its label.
    /// The pod is ready then.
    async fn lead(&self, instance: &Instance, server: &Server, restarts: u32) -> anyhow::Result<()> {
        let system = server.system_identifier().await?;
        let port = instance.place.listen.port();
        let configuration = json!({ "config": "double", "initialize": system });
        self.patroni_endpoints("ha-config", port, &configuration, None).await?;
        let leader = json!({ "leader": self.pod.name_any(), "ttl": "30", "transitions": "0" });
        self.patroni_endpoints("ha", port, &leader, Some(&instance.place.shown.to_string())).await?;
        self.patroni("primary", Some("primary")).await?;
        self.report(Stage::Running { ready: true, restarts }).await?;
        Ok(())
    }

    async fn patroni_endpoints(
        &self,
        suffix: &str,
        port: u16,
        annotations: &Value,
        leader: Option<&str>,
    ) -> kube::Result<()> {
        let object = patroni(&self.key, suffix, port, annotations, leader);
        let api = self.context.api(Kind::ENDPOINTS, &self.key.namespace);
        let params = PatchParams::apply(PATRONI_MANAGER).force();
        api.patch(&self.key.named(suffix), &params, &Patch::Apply(object)).await.map(drop)
    }

    async fn patroni(&self, role: &str, label: Option<&str>) -> kube::Result<()> {
        let (name, state) = (self.pod.name_any(), if label.is_some() { "running" } else { "stopped" });
        let host = format!("{name}.{}", self.key.named("pods"));
        let status = json!({
            "conn_url": format!("postgres://{host}:5432/postgres"), "api_url": format!("https://{host}:8008/patroni"),
            "state": state, "role": role, "version": PATRONI,
        });
        let mut labels = serde_json::Map::new();
        labels.insert(format!("{CRUNCHY}role"), json!(label));
        let patch = json!({ "metadata": { "annotations": { "status": status.to_string() }, "labels": labels } });
        let api = self.context.api(Kind::POD, &self.key.namespace);
        let params = PatchParams { field_manager: Some(PATRONI_MANAGER.to_owned()), ..PatchParams::default() };
        ignore_absent(api.patch(&name, &params, &Patch::Merge(patch)).await).map(drop)
    }

    /// Stops PostgreSQL in order: the leader is gone, then the server.
    async fn shut_down(&self) -> anyhow::Result<()> {
        let Some(instance) = self.context.registry.get(&self.key) else { return Ok(()) };
        let Some(server) = instance.server() else { return Ok(()) };
        instance.set_server(None);
        server.stop().await;
        // A claim that was deleted while PostgreSQL still wrote could not take its data along.
        if self.context.get(Kind::CLAIM, &self.key.namespace, self.claim()).await.is_ok_and(|claim| claim.is_none()) {
            self.context.forget_volume(&self.key.namespace, self.claim());
        }
        // In a namespace that is going away nothing can be written any more, and need not be.
        let _ = self.patroni_endpoints("ha", instance.place.listen.port(), &json!({ "ttl": "30" }), None).await;
        self.patroni("primary", None).await?;
        Ok(())
    }

    async fn remove(&self) -> anyhow::Result<()> {
        self.report(Stage::Terminated { succeeded: false }).await?;
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        ignore_absent(self.context.api(Kind::POD, &self.key.namespace).delete(&self.pod.name_any(), &params).await)?;
        Ok(())
    }

    /// A backup Job.
    async fn job(&self) -> anyhow::Result<()> {
        self.report(Stage::Running { ready: true, restarts: 0 }).await?;
        let result = backup::run_job(&self.context, &self.key, &self.pod).await;
        if let Err(failure) = &result {
            tracing::info!(cluster = %self.key, pod = self.pod.name_any(), %failure, "a backup failed");
        }
        self.report(Stage::Terminated { succeeded: result.is_ok() }).await?;
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

/// The Secrets that a pod's projected volumes need, with the names of the volumes.
fn projected(spec: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut found = Vec::new();
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
            if let (Some(volume), Some(name)) = (text(&volume["name"]), text(&source["secret"]["name"]))
                && source["secret"]["optional"] != true
            {
                found.push((volume, name));
            }
        }
    }
    found
}
