//! A cluster that is already there, reached through a kubeconfig: `--env existing`.
//!
//! Environments layer. It only talks to the API server: nothing is started, broken, or reached from inside, so the
//! scenarios that need more than objects are skipped with the reason.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::environment::{
    About, Capabilities, Capability, Container, Database, DatabaseRequest, Description, Environment, EnvironmentError,
    Fault, FaultId, LeaseRequest, OperatorState, Site, Stream,
};

/// See the module.
pub struct Existing {
    description: Description,
    capabilities: Capabilities,
    site: Arc<Cluster>,
}

impl Existing {
    /// Connects to the cluster of `kubeconfig`, or of the usual one (`KUBECONFIG`, `~/.kube/config`).
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, EnvironmentError> {
        let broken =
            |error: &dyn std::fmt::Display| EnvironmentError::Broken(format!("the cluster cannot be used: {error}"));
        let options = KubeConfigOptions::default();
        let config = match kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| broken(&error))?;
                Config::from_custom_kubeconfig(file, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config = config.map_err(|error| broken(&error))?;
        let client = Client::try_from(config.clone()).map_err(|error| broken(&error))?;
        let version = client.apiserver_version().await.map_err(|error| broken(&error))?;
        Ok(Self {
            description: Description {
                environment: "existing".to_owned(),
                kubernetes: version.git_version,
                percona: "whatever is there".to_owned(),
                implementation: "whatever is there".to_owned(),
                implementation_version: "unknown".to_owned(),
                about: About::default(),
            },
            capabilities: capabilities(),
            site: Arc::new(Cluster { config, bindings: json!({}) }),
        })
    }
}

fn capabilities() -> Capabilities {
    let absent = [
        Capability::Percona,
        Capability::Pods,
        Capability::S3,
        Capability::Backups,
        Capability::Databases,
        Capability::OperatorControl,
        Capability::PerconaControl,
        Capability::ControlPlanes,
        Capability::AbsoluteMounts,
        Capability::ResourceLimits,
        Capability::NetworkPolicy,
    ];
    let reason = "an existing cluster is only reached through its API server; use --env embedded";
    Capabilities {
        absent: absent.into_iter().map(|capability| (capability, reason.to_owned())).collect(),
        ..Capabilities::default()
    }
}

#[async_trait]
impl Environment for Existing {
    fn description(&self) -> &Description {
        &self.description
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn lease(&self, _request: LeaseRequest) -> Result<Arc<dyn Site>, EnvironmentError> {
        Ok(self.site.clone())
    }

    async fn close(&self) -> Result<(), EnvironmentError> {
        Ok(())
    }
}

struct Cluster {
    config: Config,
    bindings: Value,
}

fn unsupported<T>(what: &str) -> Result<T, EnvironmentError> {
    Err(EnvironmentError::Unsupported(format!("{what} in an existing cluster")))
}

#[async_trait]
impl Site for Cluster {
    fn config(&self) -> Config {
        self.config.clone()
    }

    fn bindings(&self) -> &Value {
        &self.bindings
    }

    async fn connect(&self, host: &str, port: u16) -> std::io::Result<Box<dyn Stream>> {
        let reason = format!("{host}:{port} cannot be reached from outside of the cluster");
        Err(std::io::Error::new(std::io::ErrorKind::Unsupported, reason))
    }

    async fn inject(&self, _namespace: &str, _fault: &Fault) -> Result<FaultId, EnvironmentError> {
        unsupported("faults")
    }

    async fn clear(&self, _fault: &FaultId) -> Result<(), EnvironmentError> {
        unsupported("faults")
    }

    async fn database(&self, _namespace: &str, _request: &DatabaseRequest) -> Result<Database, EnvironmentError> {
        unsupported("databases")
    }

    async fn logs(&self, container: &Container) -> Result<String, EnvironmentError> {
        let client =
            Client::try_from(self.config.clone()).map_err(|error| EnvironmentError::Broken(error.to_string()))?;
        let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(client, &container.namespace);
        let parameters = kube::api::LogParams { container: Some(container.container.clone()), ..Default::default() };
        // A container that has not started has no log yet, and the API server calls that an error.
        Ok(pods.logs(&container.pod, &parameters).await.unwrap_or_default())
    }

    async fn operator(&self) -> Result<OperatorState, EnvironmentError> {
        unsupported("the operator's own state")
    }
}
