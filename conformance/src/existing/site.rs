//! The cluster as scenarios see it.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client, Config};
use serde_json::Value;

use crate::environment::{
    Container, Database, DatabaseRequest, EnvironmentError, Fault, FaultId, OperatorState, Site, Stream,
};
use crate::reach;

/// See the module.
pub struct Cluster {
    /// Access.
    pub config: Config,
    /// The same, for what is asked here.
    pub client: Client,
    /// Nothing differs by environment here.
    pub bindings: Value,
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
        reach::connect(&self.client, host, port).await
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
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &container.namespace);
        let parameters = LogParams { container: Some(container.container.clone()), ..LogParams::default() };
        match pods.logs(&container.pod, &parameters).await {
            Ok(log) => Ok(log),
            // A container that has not started has no log yet, nor has a pod that is gone, and the API server calls that an error.
            Err(kube::Error::Api(status)) if [400, 404].contains(&status.code) => Ok(String::new()),
            Err(error) => {
                let Container { namespace, pod, .. } = container;
                Err(EnvironmentError::Broken(format!("reading the log of {namespace}/{pod}: {error}")))
            }
        }
    }

    async fn operator(&self) -> Result<OperatorState, EnvironmentError> {
        unsupported("the operator's own state")
    }
}
