//! One cluster: what the operator does when something about it has changed.
//!
//! Two controllers do it in the real operator, and here two halves of one pass, in the order of the traces: [`outer`]
//! keeps the `PostgresCluster` and the status, [`inner`] makes everything else.
//!
//! [`outer`]: Cluster::outer
//! [`inner`]: Cluster::inner

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::core::DynamicObject;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::backup::Backups;
use super::context::{Context, Kind};
use super::names::Key;
use super::outer;
use super::secret::Data;

/// How long the outer controller waits when the first pod does not run.
const GATE_RETRY: Duration = Duration::from_secs(5);

/// What a pass asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something changes.
    Wait,
    /// Another pass after this time, whatever happens.
    After(Duration),
}

impl Next {
    /// The earlier of this and a pass after `pause`.
    pub(super) fn or(self, pause: Option<Duration>) -> Self {
        match (self, pause) {
            (next, None) => next,
            (Self::Wait, Some(pause)) => Self::After(pause),
            (Self::After(first), Some(second)) => Self::After(first.min(second)),
        }
    }
}

/// What the operator's process remembers of a cluster; it forgets it when it is restarted.
pub struct Cluster {
    pub(super) context: Arc<Context>,
    pub(super) key: Key,
    /// Objects that were applied since the inner object last changed: they are not applied again.
    pub(super) applied: BTreeMap<String, Value>,
    /// What of the inner object `applied` belongs to.
    pub(super) applied_for: Value,
    /// How often images have been missing in a row.
    pub(super) missing_images: u32,
    /// How often the databases have refused in a row.
    pub(super) refused: u32,
    /// Whole user Secrets, by name, while a fault withholds them.
    pub(super) withheld: BTreeMap<String, Data>,
    /// Its backups.
    pub(super) backups: Backups,
    /// Whether the first pod ran when the inner controller last looked.
    pub(super) saw_pods_run: bool,
    /// What the outer controller had seen when it last looked.
    reported: Value,
    /// When it found that it could not go on, because of a pod that does not run.
    gated: Option<Instant>,
}

impl Cluster {
    /// A cluster of which nothing is known yet.
    pub fn new(context: Arc<Context>, key: Key) -> Self {
        let backups = Backups::new(Arc::clone(&context), key.clone());
        Self {
            context,
            key,
            applied: BTreeMap::new(),
            applied_for: Value::Null,
            missing_images: 0,
            refused: 0,
            withheld: BTreeMap::new(),
            backups,
            saw_pods_run: true,
            reported: Value::Null,
            gated: None,
        }
    }

    /// Forgets that an object (its kind and name) was applied: it is gone.
    pub fn forget(&mut self, object: &str) {
        self.applied.remove(object);
    }

    /// Brings everything to where it should be, as far as that is possible now.
    pub async fn pass(&mut self) -> anyhow::Result<Next> {
        let Some(cluster) = self.context.get(Kind::CLUSTER, &self.key.namespace, &self.key.name).await? else {
            return self.without_owner().await;
        };
        if deleting(&cluster) {
            self.finalize(&cluster).await?;
            // The inner object goes also while somebody else's finalizer holds the outer one.
            match self.context.get(Kind::INNER, &self.key.namespace, &self.key.name).await? {
                Some(inner) if deleting(&inner) => drop(self.tear_down(&inner).await?),
                Some(_) => self.context.delete(Kind::INNER, &self.key.namespace, &self.key.name).await?,
                None => {}
            }
            return Ok(Next::Wait);
        }
        if !outer::can_compare(&cluster) {
            // The real operator panics at that, again and again; its inner controller knows nothing of it (trace n8).
            return self.inner().await;
        }
        // A spec that the outer controller has not seen yet comes first; else its status follows the inner one's, so
        // that `ready` comes after what the inner controller does in the databases.
        let unseen = cluster.data["status"]["observedGeneration"].as_i64() != cluster.metadata.generation;
        self.outer(cluster, unseen).await?;
        let next = self.inner().await?;
        let mut next = next.or(self.follow().await?);
        if let Some(cluster) = self.current().await? {
            next = next.or(self.backups.outer(&cluster).await?);
        }
        Ok(next)
    }

    /// The outer controller's look at what has become of the cluster. It reads pods but does not watch them: what makes
    /// it look is a change of the outer object or of the inner one's status, and while the gate is closed, time (trace
    /// l). The result is when it looks again, whatever happens.
    async fn follow(&mut self) -> anyhow::Result<Option<Duration>> {
        let Some(cluster) = self.current().await? else { return Ok(None) };
        let inner = self.context.get(Kind::INNER, &self.key.namespace, &self.key.name).await?;
        let inner = inner.map(|inner| json!([inner.uid(), deleting(&inner), inner.data["status"]]));
        let seen = json!([signature(&cluster), inner, self.context.faults.holds_ready(&self.key)]);
        let left = self.gated.map(|since| GATE_RETRY.saturating_sub(since.elapsed()));
        if seen == self.reported && left.is_none_or(|left| !left.is_zero()) {
            return Ok(left);
        }
        // Both controllers look at the same moment: in reality a pod takes longer to start than either of them.
        let open = self.saw_pods_run && self.outer(cluster, true).await?;
        self.reported = seen;
        self.gated = (!open).then(Instant::now);
        Ok(self.gated.map(|_| GATE_RETRY))
    }

    /// The outer object as it is now, unless it is being deleted.
    async fn current(&self) -> kube::Result<Option<DynamicObject>> {
        let cluster = self.context.get(Kind::CLUSTER, &self.key.namespace, &self.key.name).await?;
        Ok(cluster.filter(|cluster| !deleting(cluster)))
    }

    /// The outer object is gone: the inner one follows, and when that is gone too, nothing of the cluster runs any more.
    async fn without_owner(&mut self) -> anyhow::Result<Next> {
        let (namespace, name) = (self.key.namespace.clone(), self.key.name.clone());
        self.backups.without_cluster().await?;
        match self.context.get(Kind::INNER, &namespace, &name).await? {
            Some(inner) if deleting(&inner) => {
                self.tear_down(&inner).await?;
            }
            Some(_) => self.context.delete(Kind::INNER, &namespace, &name).await?,
            None => {
                let names: Vec<String> = self.host_names();
                self.context.hosts.remove(names.iter().map(String::as_str))?;
                self.context.registry.remove(&self.key);
                *self = Self::new(Arc::clone(&self.context), self.key.clone());
            }
        }
        Ok(Next::Wait)
    }

    /// The names under which the server is reached.
    pub(super) fn host_names(&self) -> Vec<String> {
        ["primary", "ha", "pgbouncer"]
            .iter()
            .flat_map(|service| {
                let host = self.key.host(service);
                [format!("{host}.cluster.local"), host]
            })
            .collect()
    }

    /// The cluster's pods whose label `data` is `postgres`.
    pub(super) async fn postgres_pods(&self) -> kube::Result<Vec<DynamicObject>> {
        self.labelled(Kind::POD, ",postgres-operator.crunchydata.com/data=postgres").await
    }

    /// The cluster's objects of a kind; `more` is the rest of the selector.
    pub(super) async fn labelled(&self, kind: Kind, more: &str) -> kube::Result<Vec<DynamicObject>> {
        let selector = format!("{}={}{more}", super::names::CLUSTER_LABEL, self.key.name);
        self.context.list(kind, &self.key.namespace, &selector).await
    }
}

/// Everything about an outer or inner object but its status.
pub fn signature(object: &DynamicObject) -> Value {
    let metadata = object.meta();
    json!([
        metadata.generation,
        metadata.labels,
        metadata.annotations,
        metadata.finalizers,
        metadata.deletion_timestamp,
        metadata.owner_references,
    ])
}

/// Whether the object is being deleted.
pub fn deleting(object: &DynamicObject) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Whether a pod's condition `Ready` holds.
pub fn is_ready(pod: &DynamicObject) -> bool {
    pod.data["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The value of one of the inner controller's labels.
pub fn label(object: &DynamicObject, name: &str) -> String {
    object.labels().get(&format!("{}{name}", super::names::CRUNCHY)).cloned().unwrap_or_default()
}

/// Now, as Kubernetes writes it.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
