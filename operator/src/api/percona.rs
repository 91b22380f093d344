//! The part of Percona's `PerconaPGCluster` (`pgv2.percona.com/v2`, operator 2.8) that this operator sets and reads.
//!
//! A value read into these types lacks every field that they do not name: it must never be PUT. The operator only
//! POSTs a cluster that it built itself.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaimSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// A PostgreSQL cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "pgv2.percona.com",
    version = "v2",
    kind = "PerconaPGCluster",
    plural = "perconapgclusters",
    namespaced,
    schema = "disabled",
    status = "PerconaPGClusterStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct PerconaPGClusterSpec {
    /// Major version of PostgreSQL.
    pub postgres_version: i32,
    /// Image of PostgreSQL. Not defaulted by Percona 2.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Sets of PostgreSQL instances.
    pub instances: Vec<InstanceSet>,
    /// Users, each with its databases and its Secret.
    pub users: Vec<User>,
    /// The proxy. Percona 2.8 crashes on a cluster without it (observed.md 1.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Backups; required by the CRD also when they are off.
    pub backups: Backups,
}

/// A set of PostgreSQL instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceSet {
    /// Name of the set.
    pub name: String,
    /// How many.
    pub replicas: i32,
    /// The data volume of each.
    pub data_volume_claim_spec: PersistentVolumeClaimSpec,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// Name of the role.
    pub name: String,
    /// Databases that are created for it.
    pub databases: Vec<String>,
}

/// The proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// `PgBouncer`.
    pub pg_bouncer: PgBouncer,
}

/// `PgBouncer`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PgBouncer {
    /// How many.
    pub replicas: i32,
    /// Its image. Not defaulted by Percona 2.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Backups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backups {
    /// Absent counts as true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How they are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pgbackrest: Option<PgBackRest>,
}

/// How backups are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PgBackRest {
    /// Image of pgBackRest. Not defaulted by Percona 2.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Sources that are projected into `/etc/pgbackrest/conf.d`; what ends in `.conf` is read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configuration: Vec<Configuration>,
    /// Options of `[global]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub global: BTreeMap<String, String>,
    /// Repositories.
    pub repos: Vec<Repo>,
}

/// One projected source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    /// A Secret.
    pub secret: ProjectedSecret,
}

/// A projected Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectedSecret {
    /// Its name.
    pub name: String,
    /// Which keys go where; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<KeyToPath>,
}

/// Where a key goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyToPath {
    /// Key of the Secret.
    pub key: String,
    /// File name.
    pub path: String,
}

/// A repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Repo {
    /// `repo1` to `repo4`.
    pub name: String,
    /// When backups are made into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedules: Option<Schedules>,
    /// Where it lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// When backups are made. (`incr` is no field of Percona's: `incremental` is.)
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Schedules {
    /// Full backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<String>,
    /// Incremental backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incremental: Option<String>,
}

/// A place in S3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct S3 {
    /// Bucket.
    pub bucket: String,
    /// `host[:port]`.
    pub endpoint: String,
    /// Region.
    pub region: String,
}

/// What Percona says about a cluster. It can be absent for many seconds (observed.md 1.3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PerconaPGClusterStatus {
    /// `initializing`, `ready`, `paused`, `stopping`, or empty.
    pub state: String,
    /// Backup repositories.
    pub pgbackrest: Option<PgBackRestStatus>,
    /// Only `ReadyForBackup` is kept up to date; the others keep their first value for ever (contract.md 1.7).
    pub conditions: Vec<Condition>,
}

/// Backup repositories.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PgBackRestStatus {
    /// One entry for each.
    pub repos: Vec<RepoStatus>,
}

/// A backup repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepoStatus {
    /// Name.
    pub name: String,
    /// Whether the stanza exists: credentials, endpoint and bucket work.
    pub stanza_created: bool,
}
