//! One control plane with everything that acts on it: the doubles and the operator under test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};

use super::shared::Shared;
use crate::controlplane::ControlPlane;
use crate::environment::{Container, EnvironmentError, Fault};
use crate::hosts::Hosts;
use crate::implementation::{self, Operator};

/// The group of Percona's CRDs: without them, Percona is not installed.
const PERCONA: &str = ".pgv2.percona.com";

/// A control plane that is in use.
pub(super) struct Stack {
    shared: Arc<Shared>,
    directory: PathBuf,
    plane: ControlPlane,
    client: Client,
    hosts: Hosts,
    operator: Operator,
}

impl Stack {
    /// Puts everything onto `plane`: installs and starts the operator, and starts the doubles. Returns when objects can
    /// be applied.
    pub async fn assemble(shared: Arc<Shared>, mut plane: ControlPlane, directory: &Path) -> anyhow::Result<Self> {
        let client = Client::try_from(plane.config())?;
        let hosts = Hosts::create(directory.join("hosts")).context("creating the hosts file")?;
        shared.prepared.install(&client).await?;
        let options = implementation::Options {
            access: plane.access().clone(),
            directory: directory.join("operator"),
            spawner: shared.spawner.clone(),
        };
        let operator = Operator::start(Arc::clone(&shared.prepared), options);
        let (operator, ()) = tokio::try_join!(operator, plane.start_controllers())?;
        Ok(Self { shared, directory: directory.to_owned(), plane, client, hosts, operator })
    }

    /// A second control plane, from nothing.
    pub async fn start(shared: Arc<Shared>, directory: &Path) -> anyhow::Result<Self> {
        create(directory)?;
        let plane = shared.parts.control_plane(&shared.spawner, &shared.percona, &directory.join("plane")).await?;
        Self::assemble(shared, plane, directory).await
    }

    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Injects a fault. Returns when it is in force.
    pub async fn inject(&self, _namespace: &str, fault: &Fault) -> Result<(), EnvironmentError> {
        let outcome = match fault {
            Fault::StopOperator {} => self.operator.stop().await,
            Fault::PerconaAbsent {} => self.remove_percona().await,
            Fault::S3Outage { bucket } => {
                self.shared.s3.begin_outage(bucket);
                Ok(())
            }
            Fault::HoldSecret { .. } | Fault::HoldReady { .. } | Fault::KillPostgres { .. } | Fault::StopPercona {} => {
                return Err(EnvironmentError::Unsupported("the Percona double is not here yet".to_owned()));
            }
        };
        outcome.map_err(|error| EnvironmentError::Broken(format!("{error:#}")))
    }

    /// Clears a fault. Returns when normal operation has begun.
    pub async fn clear(&self, _namespace: &str, fault: &Fault) -> Result<(), EnvironmentError> {
        let outcome = match fault {
            Fault::StopOperator {} => self.operator.resume().await,
            Fault::PerconaAbsent {} => self.shared.percona.install(&self.client).await,
            Fault::S3Outage { bucket } => {
                self.shared.s3.end_outage(bucket);
                Ok(())
            }
            Fault::HoldSecret { .. } | Fault::HoldReady { .. } | Fault::KillPostgres { .. } | Fault::StopPercona {} => {
                Ok(())
            }
        };
        outcome.map_err(|error| EnvironmentError::Broken(format!("{error:#}")))
    }

    /// The operator is to find a cluster without Percona when it starts.
    async fn remove_percona(&self) -> anyhow::Result<()> {
        self.operator.stop().await?;
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in crds.list_metadata(&ListParams::default()).await?.items {
            let name = crd.name_any();
            if name.ends_with(PERCONA) {
                let uid = crd.uid().unwrap_or_default();
                crds.delete(&name, &DeleteParams::default()).await?;
                await_condition(crds.clone(), &name, is_deleted(&uid)).await?;
            }
        }
        self.operator.resume().await
    }

    /// What a container has written.
    #[allow(clippy::unused_self, reason = "the node double is not here yet")]
    pub fn logs(&self, container: &Container) -> Result<String, EnvironmentError> {
        Err(EnvironmentError::Unsupported(format!("no pods run here: {} has no log", container.pod)))
    }

    /// Ends everything at once.
    pub async fn stop(&self) {
        if let Err(error) = self.operator.stop().await {
            tracing::warn!("stopping the operator under test: {error:#}");
        }
        self.plane.stop().await;
    }
}

/// A directory of the run that everyone may pass through, for what runs as another user in it.
pub(super) fn create(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let created = std::fs::create_dir(directory)
        .and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)));
    created.with_context(|| format!("creating {}", directory.display()))
}
