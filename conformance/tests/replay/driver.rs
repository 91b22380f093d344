//! Does to the double what the traces' driver did to the real operator.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use conformance::percona::Kind;
use conformance::percona::secret::Data;
use conformance::postgres::{Rows, Target, Trust};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::recorder::{KINDS, Recorder};
use crate::support::Lab;
use crate::trace::Trace;

/// Bounds every wait: the slowest thing waited for is a first backup.
const DEADLINE: Duration = Duration::from_mins(1);
/// How often a login is tried by a probe.
const PROBE: Duration = Duration::from_millis(25);

/// How long nothing changes in a namespace that has come to rest.
const SETTLED: Duration = Duration::from_secs(2);

/// The cluster of all traces.
pub const CLUSTER: &str = "demo-postgres";
/// Its user Secret.
pub const SECRET: &str = "demo-postgres-pguser-dittofs";

/// One case's namespace, and the recorder in it.
pub struct Driver {
    pub lab: Arc<Lab>,
    pub namespace: String,
    pub recorder: Recorder,
    client: kube::Client,
    tasks: Vec<JoinHandle<()>>,
}

impl Driver {
    pub async fn new(lab: Arc<Lab>, case: &str) -> Self {
        let client = kube::Client::try_from(lab.plane.config()).unwrap();
        let namespace = format!("replay-{case}");
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let (recorder, tasks) = Recorder::start(&client, &namespace).await;
        recorder.begin(&namespace);
        Self { lab, namespace, recorder, client, tasks }
    }

    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// The traces' custom resource, without backups.
    pub fn cluster(&self) -> Value {
        json!({
            "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGCluster",
            "metadata": { "namespace": self.namespace, "name": CLUSTER },
            "spec": {
                "crVersion": "2.8.2", "postgresVersion": 17, "imagePullPolicy": "IfNotPresent", "port": 5432,
                "image": "docker.io/percona/percona-distribution-postgresql:17.7-2",
                "users": [{ "name": "dittofs", "databases": ["dittofs"] }],
                "instances": [{ "name": "instance1", "replicas": 1, "dataVolumeClaimSpec": {
                    "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }],
                "proxy": { "pgBouncer": {
                    "replicas": 1, "port": 5432, "image": "docker.io/percona/percona-pgbouncer:1.25.0-1" } },
                "backups": { "enabled": false },
                "extensions": { "builtin": { "pg_stat_monitor": false, "pg_audit": false } },
            },
        })
    }

    pub async fn create(&self, object: Value) -> anyhow::Result<()> {
        let kind = KINDS.iter().find(|(name, _)| object["kind"] == *name).context("a recorded kind")?.1;
        self.api(kind).create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    pub async fn patch(&self, kind: Kind, name: &str, patch: Value) -> anyhow::Result<()> {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    pub async fn delete(&self, kind: Kind, name: &str) -> anyhow::Result<()> {
        self.api(kind).delete(name, &DeleteParams::background()).await?;
        Ok(())
    }

    pub fn mark(&self, name: &str, fields: Value) {
        let mut line = json!({ "mark": name });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        self.recorder.write(line);
    }

    /// The recording begins now.
    pub fn record(&self) {
        self.recorder.begin(&self.namespace);
    }

    /// Waits until an object (or its absence) is as it should be; writes the mark `wait:<what>`.
    pub async fn wait(
        &self,
        what: &str,
        kind: &'static str,
        name: &str,
        holds: impl Fn(Option<&DynamicObject>) -> bool,
    ) -> anyhow::Result<()> {
        let mut changes = self.recorder.changes();
        let key = (kind, name.to_owned());
        let reached = tokio::time::timeout(DEADLINE, async {
            while !self.recorder.look(|cache| holds(cache.get(&key))) {
                changes.changed().await.expect("the recorder runs");
            }
        })
        .await;
        let last = || self.recorder.look(|cache| cache.get(&key).map(|object| object.data["status"].to_string()));
        ensure!(reached.is_ok(), "{what}: not within {DEADLINE:?}; {kind} {name} was last {:?}", last());
        self.mark(&format!("wait:{what}"), json!({}));
        Ok(())
    }

    pub async fn wait_state(&self, what: &str, state: &str) -> anyhow::Result<()> {
        self.wait(what, "PerconaPGCluster", CLUSTER, |cluster| {
            cluster.is_some_and(|cluster| cluster.data["status"]["state"] == state)
        })
        .await
    }

    pub async fn wait_secret(&self, what: &str, holds: impl Fn(&Data) -> bool) -> anyhow::Result<()> {
        self.wait(what, "Secret", SECRET, |secret| secret.is_some_and(|secret| holds(&decode(secret)))).await
    }

    pub async fn wait_gone(&self, what: &str, kind: &'static str, name: &str) -> anyhow::Result<()> {
        self.wait(what, kind, name, |object| object.is_none()).await
    }

    /// Waits until no pod is left.
    pub async fn wait_no_pods(&self, what: &str) -> anyhow::Result<()> {
        let mut changes = self.recorder.changes();
        let gone = async {
            while self.recorder.look(|cache| cache.keys().any(|(kind, _)| *kind == "Pod")) {
                changes.changed().await.expect("the recorder runs");
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.with_context(|| format!("{what}: pods are left"))?;
        self.mark(&format!("wait:{what}"), json!({}));
        Ok(())
    }

    /// Waits until a probe has recorded that it logs in, or that it does not.
    pub async fn wait_probe(&self, label: &str, ok: bool) -> anyhow::Result<()> {
        let mut changes = self.recorder.changes();
        let reached = tokio::time::timeout(DEADLINE, async {
            while self.recorder.probed(label) != Some(ok) {
                changes.changed().await.expect("the recorder runs");
            }
        })
        .await;
        let last = || self.recorder.probed(label);
        ensure!(reached.is_ok(), "{label}: not {ok} within {DEADLINE:?}; it was last {:?}", last());
        Ok(())
    }

    /// Nothing is to happen now: there is no event to wait for, so time has to pass. The recordings watched longer; the
    /// double has no timer that this would miss.
    pub async fn nothing_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// A cluster that is ready, before the recording begins.
    pub async fn ready_cluster(&self) -> anyhow::Result<()> {
        self.create(self.cluster()).await?;
        self.wait_state("ready", "ready").await?;
        self.settle().await
    }

    /// Waits until nothing has changed for a while: what follows `ready` (statuses of workloads) wakes the operator too.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let mut changes = self.recorder.changes();
        let quiet = async { while tokio::time::timeout(SETTLED, changes.changed()).await.is_ok() {} };
        tokio::time::timeout(DEADLINE, quiet).await.context("the namespace does not come to rest")
    }

    /// What the user Secret holds now.
    pub fn secret(&self) -> Data {
        self.recorder.look(|cache| cache.get(&("Secret", SECRET.to_owned())).map(decode)).unwrap_or_default()
    }

    /// One of its values.
    pub fn secret_text(&self, key: &str) -> String {
        String::from_utf8_lossy(self.secret().get(key).map_or(&[], Vec::as_slice)).into_owned()
    }

    /// Logs in and runs a statement.
    pub async fn sql(&self, uri: &str, sql: &str) -> Result<Rows, conformance::postgres::Error> {
        let target: Target = uri.parse()?;
        target.dial(Some(self.lab.hosts.path()), &Trust::Any).await?.query(sql).await
    }

    pub async fn logs_in(&self, uri: &str) -> bool {
        self.sql(uri, "select 1").await.is_ok()
    }

    /// Tries to log in, again and again, and records every change of the outcome. With no `uri`, with that of the Secret.
    pub fn probe(&mut self, label: &str, uri: Option<String>) {
        let (recorder, hosts, label) = (self.recorder.clone(), self.lab.hosts.path().to_owned(), label.to_owned());
        self.tasks.push(tokio::spawn(async move {
            let mut last = String::new();
            loop {
                let now = uri.clone().unwrap_or_else(|| {
                    let secret = recorder
                        .look(|cache| cache.get(&("Secret", SECRET.to_owned())).map(decode))
                        .unwrap_or_default();
                    String::from_utf8_lossy(secret.get("uri").map_or(&[], Vec::as_slice)).into_owned()
                });
                if let Ok(target) = now.parse::<Target>() {
                    let outcome = target.dial(Some(&hosts), &Trust::Any).await;
                    let text = outcome.as_ref().map_or_else(ToString::to_string, |_| "dittofs".to_owned());
                    if text != last {
                        recorder.write(json!({ "probe": label, "ok": outcome.is_ok(), "output": text }));
                        last = text;
                    }
                }
                tokio::time::sleep(PROBE).await;
            }
        }));
    }

    /// Names of the objects of these kinds that exist, as the recordings list them.
    pub fn objects(&self, kinds: &[&str]) -> Vec<String> {
        self.recorder.look(|cache| {
            let listed = cache.keys().filter(|(kind, name)| kinds.contains(kind) && name != "kube-root-ca.crt");
            listed.map(|(kind, name)| format!("{kind}/{name}")).collect()
        })
    }

    /// Ends the recording and removes the namespace.
    pub async fn finish(self) -> Trace {
        for task in &self.tasks {
            task.abort();
        }
        let trace = self.recorder.trace();
        if let Ok(directory) = std::env::var("REPLAY_DUMP") {
            let path = std::path::Path::new(&directory).join(format!("{}.jsonl", self.namespace));
            std::fs::write(path, self.recorder.text()).unwrap();
        }
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
        trace
    }
}

fn decode(secret: &DynamicObject) -> Data {
    use base64::Engine as _;
    let value = |text: &Value| base64::engine::general_purpose::STANDARD.decode(text.as_str()?).ok();
    let fields = secret.data["data"].as_object();
    fields.into_iter().flatten().filter_map(|(key, text)| Some((key.clone(), value(text)?))).collect()
}
