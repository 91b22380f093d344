//! `DittoServer`: the root object and its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::spec::{ControlPlane, Database, Percona, Resources, Storage};

/// A DittoFS server, with its database.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "dittofs.dittofs.com",
    version = "v1alpha1",
    kind = "DittoServer",
    plural = "dittoservers",
    shortname = "ditto",
    shortname = "dittofs",
    namespaced,
    status = "DittoServerStatus",
    derive = "PartialEq",
    doc = "A DittoFS server, with its database.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Database", type_ = "string", json_path = r#".status.conditions[?(@.type=="DatabaseReady")].reason"#),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".status.perconaClusterName", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be at most 52 characters of a-z, 0-9 and '-', and begin with a letter: Services and pods are named after it"),
    validation = Rule::new("!has(self.spec.percona) || !self.spec.percona.enabled || self.metadata.name.size() <= 28")
        .message("metadata.name must be at most 28 characters when spec.percona.enabled is true: Percona names StatefulSets after <name>-postgres-instance1"),
)]
#[x_kube(
    validation = Rule::new("self.database.type != 'postgres' || has(self.database.postgresSecretRef) || (has(self.percona) && self.percona.enabled)")
        .message("database.type postgres needs database.postgresSecretRef, or percona.enabled")
        .field_path(".database.postgresSecretRef")
        .reason(Reason::FieldValueRequired),
)]
#[serde(rename_all = "camelCase")]
pub struct DittoServerSpec {
    /// Image of the DittoFS server.
    #[serde(default = "default_image")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$"))]
    pub image: String,
    /// How many pods run: 1, or 0 to stop the server and keep its data.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1))]
    pub replicas: i32,
    /// Volumes of the server.
    pub storage: Storage,
    /// The API that the server serves for its administration.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// CPU and memory of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the control plane keeps its data. Ignored altogether while `percona.enabled` is true.
    #[serde(default)]
    pub database: Database,
    /// A PostgreSQL cluster made for this server by the Percona Operator for PostgreSQL. Wins over `database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percona: Option<Percona>,
}

/// Version of DittoFS that is run unless `spec.image` says otherwise.
pub fn default_image() -> String {
    "ghcr.io/marmos91/dittofs:0.1.0".to_owned()
}

fn one() -> i32 {
    1
}

/// What the operator last saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DittoServerStatus {
    /// The server in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// The `PerconaPGCluster` that belongs to this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percona_cluster_name: Option<String>,
    /// `Ready`, `DatabaseReady`, `BackupReady` (only when backups are on) and `Progressing`.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The server in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Waits for its database or its pods.
    Pending,
    /// All wanted pods are ready.
    Running,
    /// `spec.replicas` is 0.
    Stopped,
    /// Cannot go on by itself; the conditions say why.
    Failed,
    /// Is being deleted.
    Deleting,
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;

    #[test]
    fn the_crd_is_this_one() {
        insta::assert_yaml_snapshot!(DittoServer::crd());
    }
}
