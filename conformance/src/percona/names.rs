//! Names, labels and owners of the objects of one cluster (`contract.md`, 5).
//!
//! Pure.

use kube::core::DynamicObject;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Map, Value, json};

/// Version of the operator that the double stands for.
pub const VERSION: &str = "2.8.2";
/// Version of Patroni that it says to have found in the PostgreSQL image.
pub const PATRONI: &str = "4.0.7";
/// The node on which the double runs the pods of its clusters. Nobody else binds or runs those.
pub const NODE: &str = "percona";

/// Field manager of the outer controller: the cluster's annotations, finalizers, `crVersion` and status (by Update).
pub const OUTER: &str = "postgres-operator";
/// Field manager of the inner controller: everything that a cluster is made of (by Apply, forced).
pub const INNER: &str = "postgrescluster-controller";

/// Prefix of the inner controller's labels and annotations.
pub const CRUNCHY: &str = "postgres-operator.crunchydata.com/";
/// The label that ties an object to its cluster.
pub const CLUSTER_LABEL: &str = "postgres-operator.crunchydata.com/cluster";
/// Finalizer of the inner object.
pub const INNER_FINALIZER: &str = "postgres-operator.crunchydata.com/finalizer";
/// Finalizer that the operator itself puts on a cluster with backups.
pub const STOP_WATCHERS: &str = "internal.percona.com/stop-watchers";

/// Namespace and name of a `PerconaPGCluster`; its `PostgresCluster` has the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Key {
    /// The cluster to which a labelled object belongs.
    pub fn of(object: &DynamicObject) -> Option<Self> {
        let name = object.labels().get(CLUSTER_LABEL)?.clone();
        Some(Self { namespace: object.namespace()?, name })
    }

    /// `<name>-<suffix>`.
    pub fn named(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    /// The host name of one of its Services.
    pub fn host(&self, suffix: &str) -> String {
        format!("{}-{suffix}.{}.svc", self.name, self.namespace)
    }

    /// The one label that every object has.
    pub fn label(&self) -> Map<String, Value> {
        Map::from_iter([(CLUSTER_LABEL.to_owned(), json!(self.name))])
    }

    /// The labels of most objects ("P" in the contract), and those of `more`, which are prefixed with [`CRUNCHY`] unless
    /// they have a slash.
    pub fn labels<'a>(&self, more: impl IntoIterator<Item = (&'a str, &'a str)>) -> Map<String, Value> {
        let mut labels = self.label();
        for (key, value) in [
            ("app.kubernetes.io/instance", self.name.as_str()),
            ("app.kubernetes.io/managed-by", "percona-postgresql-operator"),
            ("app.kubernetes.io/name", "percona-postgresql"),
            ("app.kubernetes.io/part-of", "percona-postgresql"),
        ] {
            labels.insert(key.to_owned(), json!(value));
        }
        for (key, value) in more {
            let key = if key.contains('/') { key.to_owned() } else { format!("{CRUNCHY}{key}") };
            labels.insert(key, json!(value));
        }
        labels
    }
}

/// An owner reference to `owner`; a controller's blocks its owner's deletion, as everywhere in Percona.
pub fn owner(owner: &DynamicObject, controller: bool) -> Value {
    let types = owner.types.clone().unwrap_or_default();
    let mut reference = json!({
        "apiVersion": types.api_version, "kind": types.kind, "name": owner.name_any(), "uid": owner.meta().uid,
    });
    if controller {
        reference["controller"] = json!(true);
        reference["blockOwnerDeletion"] = json!(true);
    }
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_without_a_slash_are_percona_s_own() {
        let key = Key { namespace: "a".into(), name: "demo".into() };
        let labels = key.labels([("role", "primary"), ("app.kubernetes.io/component", "pg")]);
        assert_eq!(labels["postgres-operator.crunchydata.com/role"], "primary");
        assert_eq!(labels["app.kubernetes.io/component"], "pg");
        assert_eq!(labels[CLUSTER_LABEL], "demo");
        assert_eq!(key.host("primary"), "demo-primary.a.svc");
    }
}
