//! Faults of the real Percona Operator, which has no switches for them: what a fault is in the double is made here of what
//! anyone can do to a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{AttachParams, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::not_ready;
use super::operator::Workload;
use super::real::RealOperator;
use crate::percona::Kind;

/// How long a cluster that is to lose its Secret may take to be made and to get ready: the deadline of a slow machine.
const READY_WITHIN: Duration = Duration::from_mins(5);
/// The user of whom a cluster has a Secret (`contract.md`, 2.1): the one that scenarios use.
const PGUSER: &str = "postgres-operator.crunchydata.com/role=pguser";
const CLUSTER: &str = "postgres-operator.crunchydata.com/cluster";

/// The task that waits for a cluster and takes its Secret away.
type Withholding = JoinHandle<anyhow::Result<()>>;

/// See the module.
pub struct RealFaults {
    hands: Hands,
    /// Clusters whose Secret is to go when they are there, by namespace and name.
    waiting: Mutex<BTreeMap<(String, String), Withholding>>,
}

/// What a fault is made with.
#[derive(Clone)]
struct Hands {
    client: Client,
    /// The operator under test.
    operator: Workload,
    percona: RealOperator,
}

impl RealFaults {
    /// Faults in one cluster.
    pub fn new(client: Client, operator: Workload, percona: RealOperator) -> Self {
        Self { hands: Hands { client, operator, percona }, waiting: Mutex::default() }
    }

    /// Takes the user Secret of a cluster, or some of its keys, away; see [`Hands::withhold`]. A cluster that is not there yet
    /// loses it as soon as it is ready.
    pub async fn hold_secret(&self, namespace: &str, cluster: &str, keys: &[String]) -> anyhow::Result<()> {
        let hands = self.hands.clone();
        if hands.api(Kind::CLUSTER, namespace).get_opt(cluster).await?.is_some() {
            return hands.withhold(namespace, cluster, keys).await;
        }
        let (key, keys) = ((namespace.to_owned(), cluster.to_owned()), keys.to_vec());
        let (namespace, cluster) = key.clone();
        let task = tokio::spawn(async move {
            let withheld = hands.withhold(&namespace, &cluster, &keys).await;
            // The scenario waits for what does not come; this says why.
            withheld.inspect_err(|error| tracing::error!(namespace, cluster, "withholding the Secret: {error:#}"))
        });
        self.waiting.lock().await.insert(key, task);
        Ok(())
    }

    /// Lets Percona make it again. Returns when Percona works.
    pub async fn release_secret(&self, namespace: &str, cluster: &str) -> anyhow::Result<()> {
        let task = self.waiting.lock().await.remove(&(namespace.to_owned(), cluster.to_owned()));
        let withheld = match task {
            None => Ok(()),
            Some(task) if task.is_finished() => task.await.context("withholding the Secret")?,
            Some(task) => {
                task.abort();
                Ok(())
            }
        };
        self.hands.operator.start().await?;
        self.hands.percona.start().await?;
        withheld
    }

    /// Keeps a cluster from getting ready: none of its PostgreSQL pods may be made. One that runs is deleted.
    pub async fn hold_ready(&self, namespace: &str, cluster: &str) -> anyhow::Result<()> {
        let hands = &self.hands;
        not_ready::forbid(&hands.client, namespace, cluster).await?;
        let pods: Api<Pod> = Api::namespaced(hands.client.clone(), namespace);
        let mine = ListParams::default().labels(&not_ready::selector(cluster));
        pods.delete_collection(&DeleteParams::default(), &mine).await.map(drop).context("deleting PostgreSQL's pods")
    }

    /// Lets it get ready.
    pub async fn release_ready(&self, namespace: &str, cluster: &str) -> anyhow::Result<()> {
        not_ready::allow(&self.hands.client, namespace, cluster).await
    }

    /// Kills the PostgreSQL server of a cluster's primary. Patroni starts it again.
    pub async fn kill_postgres(&self, namespace: &str, cluster: &str) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.hands.client.clone(), namespace);
        let found = pods.list(&ListParams::default().labels(&not_ready::selector(cluster))).await?;
        let pod = found.items.first().with_context(|| format!("{namespace}/{cluster} has no pod of PostgreSQL"))?;
        let kill = ["bash", "-c", "kill -KILL \"$(head -1 \"$PGDATA/postmaster.pid\")\""];
        let mut running = pods.exec(&pod.name_any(), kill, &AttachParams::default().container("database")).await?;
        let status = running.take_status().context("the command's status is not told")?.await;
        match status.and_then(|status| status.status) {
            Some(word) if word == "Success" => Ok(()),
            other => bail!("PostgreSQL in pod {} could not be killed: {other:?}", pod.name_any()),
        }
    }
}

impl Hands {
    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// The operator under test must not see the Secret of a cluster that is ready, and Percona must not bring it back: both
    /// are stopped meanwhile, Percona until the fault is cleared.
    async fn withhold(&self, namespace: &str, cluster: &str, keys: &[String]) -> anyhow::Result<()> {
        let clusters = self.api(Kind::CLUSTER, namespace);
        let exists = |found: Option<&DynamicObject>| found.is_some();
        wait(&clusters, cluster, "be made", exists).await?;
        // Pods take seconds, so that this comes before the cluster is ready.
        self.operator.stop().await?;
        let ready = |found: Option<&DynamicObject>| found.is_some_and(|found| found.data["status"]["state"] == "ready");
        wait(&clusters, cluster, "get ready", ready).await?;
        self.percona.stop().await?;
        self.take(namespace, cluster, keys).await?;
        self.operator.start().await
    }

    async fn take(&self, namespace: &str, cluster: &str, keys: &[String]) -> anyhow::Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = secrets.list(&ListParams::default().labels(&format!("{PGUSER},{CLUSTER}={cluster}"))).await?;
        for secret in found.items.iter().map(kube::ResourceExt::name_any) {
            if keys.is_empty() {
                secrets.delete(&secret, &DeleteParams::default()).await.map(drop)
            } else {
                let data: Map<String, Value> = keys.iter().map(|key| (key.clone(), Value::Null)).collect();
                let patch = Patch::Merge(json!({ "data": data }));
                secrets.patch(&secret, &PatchParams::default(), &patch).await.map(drop)
            }
            .with_context(|| format!("taking Secret {secret} away"))?;
        }
        Ok(())
    }
}

async fn wait(
    clusters: &Api<DynamicObject>,
    cluster: &str,
    what: &str,
    holds: impl Fn(Option<&DynamicObject>) -> bool,
) -> anyhow::Result<()> {
    let awaited = tokio::time::timeout(READY_WITHIN, await_condition(clusters.clone(), cluster, holds)).await;
    let late = || format!("PerconaPGCluster {cluster} did not {what} within {} s", READY_WITHIN.as_secs());
    awaited.with_context(late)?.map(drop).with_context(|| format!("watching PerconaPGCluster {cluster}"))
}
