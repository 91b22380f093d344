//! The parts of `DittoServer.spec`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Volumes of the server. Kubernetes cannot change the volumes of a StatefulSet that exists.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size of the volume at `/data/metadata`.
    #[schemars(schema_with = "schema::size")]
    pub metadata_size: String,
    /// Size of the volume at `/data/content`; without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_size")]
    pub content_size: Option<String>,
    /// StorageClass of both volumes; the cluster's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub storage_class_name: Option<String>,
}

/// The API that the server serves for its administration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    /// Port of the API, of the Service `<name>-api` and of the probes.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self { port: default_port() }
    }
}

fn default_port() -> i32 {
    8080
}

/// CPU and memory of the server's container.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || \
        quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)")
        .message("a request must not be more than its limit"),
)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::resource_list")]
    pub limits: BTreeMap<String, Quantity>,
    /// What is set aside for the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::resource_list")]
    pub requests: BTreeMap<String, Quantity>,
}

/// Where the control plane keeps its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// `sqlite` keeps it in a file of the metadata volume; `postgres` needs `postgresSecretRef`.
    #[serde(rename = "type", default)]
    pub kind: DatabaseKind,
    /// Where the file lies, for `sqlite`.
    #[serde(default)]
    pub sqlite: Sqlite,
    /// The key of a Secret that holds the connection URI of a PostgreSQL. Given, it is used whatever `type` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres_secret_ref: Option<SecretKeyRef>,
}

/// Kind of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A file of the metadata volume.
    #[default]
    Sqlite,
    /// A PostgreSQL.
    Postgres,
}

/// Where the SQLite file lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sqlite {
    /// Absolute path of the file, below `/data/metadata` to survive the pod.
    #[serde(default = "default_sqlite_path")]
    #[schemars(length(max = 1024), regex(pattern = r"^/.+$"))]
    pub path: String,
}

impl Default for Sqlite {
    fn default() -> Self {
        Self { path: default_sqlite_path() }
    }
}

fn default_sqlite_path() -> String {
    "/data/metadata/controlplane.db".to_owned()
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Its key.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A PostgreSQL cluster of the Percona Operator for PostgreSQL 2.8.
///
/// The `PerconaPGCluster` is created once from these fields and never changed by this operator afterwards:
/// later changes are made in the `PerconaPGCluster` itself.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Percona {
    /// Whether the cluster is made and used.
    #[serde(default)]
    pub enabled: bool,
    /// PostgreSQL instances: one primary, the rest replicas.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: i32,
    /// Size of the data volume of each instance.
    #[serde(default = "default_storage_size")]
    #[schemars(schema_with = "schema::size")]
    pub storage_size: String,
    /// StorageClass of the data volumes; the cluster's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub storage_class_name: Option<String>,
    /// Database that is created for the user `dittofs`.
    #[serde(default = "default_database_name")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_-]*$"))]
    #[x_kube(validation = Rule::new("!(self in ['postgres', 'template0', 'template1'])")
        .message("postgres, template0 and template1 are PostgreSQL's own databases"))]
    pub database_name: String,
    /// Major version of PostgreSQL.
    #[serde(default = "default_postgres_version")]
    #[schemars(range(min = 13, max = 18))]
    pub postgres_version: i32,
    /// Images of the cluster; those of Percona Operator 2.8.2 when absent.
    #[serde(default)]
    pub images: Images,
    /// Backups to S3 by pgBackRest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

fn one() -> i32 {
    1
}

fn default_storage_size() -> String {
    "10Gi".to_owned()
}

fn default_database_name() -> String {
    "dittofs".to_owned()
}

fn default_postgres_version() -> i32 {
    16
}

/// Images of the cluster. Percona 2.8 has no defaults of its own: without images it never reconciles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// PostgreSQL; by default the one of 2.8.2 for `postgresVersion` (`percona-distribution-postgresql:16.11-2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$"))]
    pub postgres: Option<String>,
    /// PgBouncer.
    #[serde(default = "default_pgbouncer")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$"))]
    pub pgbouncer: String,
    /// pgBackRest, used only with backups.
    #[serde(default = "default_pgbackrest")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$"))]
    pub pgbackrest: String,
}

impl Default for Images {
    fn default() -> Self {
        Self { postgres: None, pgbouncer: default_pgbouncer(), pgbackrest: default_pgbackrest() }
    }
}

fn default_pgbouncer() -> String {
    "docker.io/percona/percona-pgbouncer:1.25.0-1".to_owned()
}

fn default_pgbackrest() -> String {
    "docker.io/percona/percona-pgbackrest:2.57.0-1".to_owned()
}

/// Backups to S3 by pgBackRest, which speaks HTTPS only (up to 2.57, the version of Percona 2.8).
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!self.enabled || has(self.credentialsSecretRef)")
        .message("required when enabled is true")
        .field_path(".credentialsSecretRef")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!self.enabled || has(self.bucket)")
        .message("required when enabled is true")
        .field_path(".bucket")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!self.enabled || has(self.endpoint)")
        .message("required when enabled is true")
        .field_path(".endpoint")
        .reason(Reason::FieldValueRequired),
)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Whether backups are made.
    #[serde(default)]
    pub enabled: bool,
    /// Secret with the S3 keys: a data key that ends in `.conf`, holding a section `[global]` with `repo1-s3-key`
    /// and `repo1-s3-key-secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// Bucket, which must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9._-]*[a-z0-9]$"))]
    pub bucket: Option<String>,
    /// `host` or `host:port` of the S3 service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 261))]
    #[x_kube(validation = Rule::new(r"self.matches('^[^\\s/]+$')")
        .message("must be host or host:port, without a scheme or a path (pgBackRest always speaks HTTPS)"))]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub region: String,
    /// When full backups are made: cron in the time of Percona's operator.
    #[serde(default = "default_full_schedule")]
    #[schemars(length(min = 6, max = 128))]
    pub full_schedule: String,
    /// When incremental backups are made: cron in the time of Percona's operator.
    #[serde(default = "default_incr_schedule")]
    #[schemars(length(min = 6, max = 128))]
    pub incr_schedule: String,
    /// Days that full backups are kept.
    #[serde(default = "default_retention_days")]
    #[schemars(range(min = 1, max = 9_999_999))]
    pub retention_days: i32,
    /// Whether the certificate of the S3 service is verified.
    #[serde(default = "yes", rename = "verifyTLS")]
    pub verify_tls: bool,
    /// PEM of the CA that signed the certificate of the S3 service; the system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

impl Backup {
    /// The Secrets that the cluster mounts for its backups.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let credentials = self.credentials_secret_ref.iter().map(|secret| secret.name.as_str());
        credentials.chain(self.ca_secret_ref.iter().map(|ca| ca.name.as_str()))
    }
}

fn default_region() -> String {
    "eu-west-1".to_owned()
}

fn default_full_schedule() -> String {
    "0 2 * * *".to_owned()
}

fn default_incr_schedule() -> String {
    "0 * * * *".to_owned()
}

fn default_retention_days() -> i32 {
    7
}

fn yes() -> bool {
    true
}
