//! The Patroni of a PostgreSQL pod: which pod leads, its server, and what Patroni writes about both.
//!
//! One server stands for a cluster, on the volume of one of its instances. That instance leads for as long as the
//! cluster and the volume exist; the others are replicas, which are a status only.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::backup;
use super::certificates::data;
use super::cluster::deleting;
use super::context::{Kind, ignore_another};
use super::names::{CLUSTER_LABEL, CRUNCHY, PATRONI};
use super::objects::{claim, patroni};
use super::pod_status::Stage;
use super::pods::Runner;
use super::registry::Instance;
use crate::pki::Identity;
use crate::postgres::{Server, ServerOptions};

/// How long a crashed PostgreSQL that does not come back is left alone before it is started again.
const RESTART_BACK_OFF: Duration = Duration::from_secs(2);
/// How long PostgreSQL is away before its pod is not ready any more: three failed probes, ten seconds apart.
const READINESS: Duration = Duration::from_secs(30);
/// Field manager of what Patroni writes.
const MANAGER: &str = "patroni";

impl Runner {
    /// PostgreSQL under Patroni. Ends only with an error: a deletion interrupts it.
    pub(super) async fn instance(&self) -> anyhow::Result<()> {
        self.report(Stage::Waiting).await?;
        let instance = self.context.registry.instance(&self.key, &self.context.directory)?;
        if self.leads(&instance).await? { self.leader(&instance).await } else { self.replica(&instance).await }
    }

    /// Whether the cluster's server is this pod's. The instance that asks first has it, but none with an empty volume
    /// while that of another, which stays, holds the data.
    async fn leads(&self, instance: &Instance) -> anyhow::Result<bool> {
        let namespace = &self.key.namespace;
        if !self.context.has_data(namespace, self.claim()) {
            let selector = format!("{CLUSTER_LABEL}={},{CRUNCHY}data=postgres", self.key.name);
            let all = self.context.list(Kind::STATEFUL_SET, namespace, &selector).await?;
            let claims = self.context.list(Kind::CLAIM, namespace, &selector).await?;
            let stays = |name: &str| claims.iter().any(|each| each.name_any() == name && !deleting(each));
            let mut names = all.iter().map(|each| claim(&each.name_any()));
            if names.any(|name| stays(&name) && self.context.has_data(namespace, &name)) {
                return Ok(instance.leader().as_deref() == Some(self.claim()));
            }
        }
        Ok(instance.claim_leadership(self.claim()))
    }

    async fn leader(&self, instance: &Instance) -> anyhow::Result<()> {
        let options = self.server(instance).await?;
        backup::restore::begin(&self.context, &self.key, instance, &options).await?;
        self.patroni("uninitialized", None).await?;
        let ready = AtomicBool::new(false);
        let mut away: Option<Instant> = None;
        loop {
            // What takes time in reality are images and init containers, so it is here that a pod is pending; then it
            // runs and is ready. If it ran for long before, the outer controller would see that it is not ready.
            match options.start().await {
                Ok(server) => {
                    self.starts.succeeded();
                    let mut exit = server.exit();
                    let server = Arc::new(server);
                    instance.set_server(Some(Arc::clone(&server)));
                    let lead = async {
                        while let Err(error) = self.lead(instance, &server, ready.load(Ordering::Relaxed)).await {
                            self.not_yet(&error).await;
                        }
                        ready.store(true, Ordering::Relaxed);
                        std::future::pending::<Infallible>().await
                    };
                    let status = tokio::select! {
                        status = exit.wait() => status,
                        never = lead => match never {},
                    };
                    // Patroni starts it again in the same container, so quickly that no probe notices.
                    tracing::info!(cluster = %self.key, %status, "PostgreSQL ended, starting it again");
                    instance.set_server(None);
                    away = Some(Instant::now());
                }
                Err(error) => {
                    tracing::warn!(cluster = %self.key, %error, "PostgreSQL does not start");
                    self.starts.failed(error.is_of_the_machine().then(|| error.to_string()));
                    if away.is_none_or(|since| since.elapsed() >= READINESS) {
                        ready.store(false, Ordering::Relaxed);
                        self.report(Stage::Running { ready: false }).await?;
                    }
                    tokio::time::sleep(RESTART_BACK_OFF).await;
                }
            }
        }
    }

    /// A replica has what the leader has as soon as there is one.
    async fn replica(&self, instance: &Instance) -> anyhow::Result<()> {
        self.report(Stage::Running { ready: false }).await?;
        self.patroni("uninitialized", None).await?;
        instance.has_server().await;
        self.patroni("replica", Some("replica")).await?;
        self.report(Stage::Running { ready: true }).await?;
        std::future::pending().await
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
        let volumes = self.pod.data["spec"]["volumes"].as_array().into_iter().flatten();
        let with_backups = volumes.into_iter().any(|volume| volume["name"] == "pgbackrest-config");
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

    /// What Patroni writes when its PostgreSQL has become the leader: two Endpoints, the pod's annotation and its
    /// label. The pod is ready then, unless it `is_ready` already.
    async fn lead(&self, instance: &Instance, server: &Server, is_ready: bool) -> anyhow::Result<()> {
        let system = server.system_identifier().await?;
        let port = instance.place.listen.port();
        let configuration = json!({ "config": "double", "initialize": system });
        self.patroni_endpoints("ha-config", port, &configuration, None).await?;
        let leader = json!({ "leader": self.pod.name_any(), "ttl": "30", "transitions": "0" });
        self.patroni_endpoints("ha", port, &leader, Some(&instance.place.shown.to_string())).await?;
        self.patroni("primary", Some("primary")).await?;
        if !is_ready {
            self.report(Stage::Running { ready: true }).await?;
        }
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
        let params = PatchParams::apply(MANAGER).force();
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
        // The uid makes sure that it is this pod and not a later one of the same name.
        let (uid, annotations) = (self.pod.uid(), json!({ "status": status.to_string() }));
        let patch = json!({ "metadata": { "uid": uid, "annotations": annotations, "labels": labels } });
        let api = self.context.api(Kind::POD, &self.key.namespace);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        ignore_another(api.patch(&name, &params, &Patch::Merge(patch)).await).map(drop)
    }

    /// Stops PostgreSQL in order, if it is this pod's: the leader is gone, then the server.
    pub(super) async fn shut_down(&self) {
        let Some(instance) = self.context.registry.get(&self.key) else { return };
        if instance.leader().as_deref() != Some(self.claim()) {
            return;
        }
        let Some(server) = instance.server() else {
            self.forget_data(&instance).await;
            return;
        };
        instance.set_server(None);
        server.stop().await;
        self.forget_data(&instance).await;
        // In a namespace that is going away nothing can be written any more, and need not be.
        let _ = self.patroni_endpoints("ha", instance.place.listen.port(), &json!({ "ttl": "30" }), None).await;
        while let Err(error) = self.patroni("primary", None).await {
            self.not_yet(&error.into()).await;
        }
    }

    /// Removes the data of a claim that is gone: while PostgreSQL, or a copy of its first data, still wrote, the claim could
    /// not take it along. Nor does the instance lead any more then, or when the claim goes as soon as this pod is gone.
    async fn forget_data(&self, instance: &Instance) {
        match self.context.get(Kind::CLAIM, &self.key.namespace, self.claim()).await {
            Ok(None) => {
                self.context.forget_volume(&self.key.namespace, self.claim());
                instance.resign(self.claim());
            }
            Ok(Some(claim)) if deleting(&claim) => instance.resign(self.claim()),
            Ok(Some(_)) | Err(_) => {}
        }
    }
}
