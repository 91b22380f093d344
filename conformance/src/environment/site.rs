//! The two traits that an environment implements.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{About, Capabilities, Capability, Fault, FaultId};

/// How much of an environment a scenario has for itself. Ordered: a later one includes the earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    /// A namespace; other scenarios run beside it.
    #[default]
    Namespace,
    /// A namespace, and nothing else runs on that control plane meanwhile.
    Operator,
    /// A control plane of its own.
    Cluster,
}

/// What is running: printed at the start, and part of every report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// `embedded`, `kind` or `existing`.
    pub environment: String,
    /// Version of the API server, such as `v1.34.4`.
    pub kubernetes: String,
    /// Percona's version, and whether it is the real one or the double.
    pub percona: String,
    /// Name of the implementation under test.
    pub implementation: String,
    /// Its version.
    pub implementation_version: String,
    /// Who makes it.
    #[serde(default)]
    pub about: About,
}

/// A request for a [`Site`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRequest {
    /// Path of the scenario without `.yaml`, such as `gate/secret_delayed_holds_the_pods`.
    pub scenario: String,
    /// How much it needs for itself.
    pub isolation: Isolation,
    /// What it needs.
    #[serde(default)]
    pub needs: BTreeSet<Capability>,
    /// With [`Isolation::Operator`]: on the control plane beside the shared one, see [`Capabilities::aside`].
    #[serde(default)]
    pub aside: bool,
}

/// Where scenarios run. Closing one ends everything that it started.
#[async_trait]
pub trait Environment: Send + Sync {
    /// What is running here.
    fn description(&self) -> &Description;

    /// What can be done here.
    fn capabilities(&self) -> &Capabilities;

    /// Waits until the site is free and takes it. It is given back when the last handle is dropped.
    async fn lease(&self, request: LeaseRequest) -> Result<Arc<dyn Site>, EnvironmentError>;

    /// Ends the environment, if this process started it. Never called before all sites are given back.
    async fn close(&self) -> Result<(), EnvironmentError>;
}

/// One control plane, leased to one scenario.
#[async_trait]
pub trait Site: Send + Sync {
    /// Administrator's access to the API server. The engine sets its own user agent and namespace.
    fn config(&self) -> kube::Config;

    /// What differs by environment, by name: `$env` in a scenario (`$env.s3.endpoint`, `$env.s3.bucket`, …).
    ///
    /// Values that are secret are registered with [`crate::redact`] by the environment before it returns them.
    fn bindings(&self) -> &serde_json::Value;

    /// Opens a TCP connection to a Service (`name.namespace.svc`) or pod (`pod.service.namespace.svc`).
    async fn connect(&self, host: &str, port: u16) -> std::io::Result<Box<dyn Stream>>;

    /// Injects a fault into `namespace`. Returns once it is in force.
    async fn inject(&self, namespace: &str, fault: &Fault) -> Result<FaultId, EnvironmentError>;

    /// Clears a fault. Returns once normal operation has begun again (not: once everything has recovered).
    async fn clear(&self, fault: &FaultId) -> Result<(), EnvironmentError>;

    /// Makes one more real PostgreSQL, reachable by a Service name in `namespace`, and keeps it until the lease ends.
    async fn database(&self, namespace: &str, request: &DatabaseRequest) -> Result<Database, EnvironmentError>;

    /// What the container has written so far (both streams), oldest first; empty when it has not started.
    async fn logs(&self, container: &Container) -> Result<String, EnvironmentError>;

    /// The API server's audit log, where it can be read.
    fn audit_log(&self) -> Option<AuditLog> {
        None
    }

    /// The administrator's kubeconfig, where there is a file of it.
    fn kubeconfig(&self) -> Option<PathBuf> {
        None
    }

    /// State and log of the operator under test.
    async fn operator(&self) -> Result<OperatorState, EnvironmentError>;
}

/// What the API server notes about the requests that it has answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditLog {
    /// Lines of `audit.k8s.io/v1` events, each written before its request is answered. All requests of the operator under
    /// test are in it.
    pub path: PathBuf,
    /// The operator's user name.
    pub operator: String,
}

/// A connection to a Service.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container or init container.
    pub container: String,
}

/// What [`Site::database`] is to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseRequest {
    /// Its Service name in the namespace.
    pub name: String,
    /// The database that is created, owned by `user`.
    pub dbname: String,
    /// The role that is created, with a generated password.
    pub user: String,
}

/// A real PostgreSQL beside Percona's. Its password is registered with [`crate::redact`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Service name, `<name>.<namespace>.svc`.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Database.
    pub dbname: String,
    /// `postgresql://user:password@host:port/dbname`, escaped like Percona's.
    pub uri: String,
    /// PEM of the CA that signed the server's certificate.
    pub ca: String,
}

/// The process (or Deployment) of the operator under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorState {
    /// How often it ended without being asked to.
    pub unexpected_exits: u32,
    /// How often it was asked to end (SIGTERM), did not, and was killed.
    #[serde(default)]
    pub killed: u32,
    /// Whether it runs now.
    pub running: bool,
    /// Its log since the environment came up.
    pub log: PathBuf,
}

/// The environment failed: never a verdict about the implementation under test.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvironmentError {
    /// This environment cannot do that; the scenario is skipped with this reason.
    #[error("not supported here: {0}")]
    Unsupported(String),
    /// Something of the environment itself is broken.
    #[error("{0}")]
    Broken(String),
    /// The environment saw the operator under test do what it must not: the scenario fails.
    #[error("{0}")]
    Violated(String),
}
