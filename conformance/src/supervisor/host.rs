//! What a supervisor supervises.

use std::path::PathBuf;

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::lanes::{Lanes, Permit};
use super::protocol::Granted;
use crate::environment::{
    Capabilities, Container, Database, DatabaseRequest, Description, EnvironmentError, Fault, FaultId, Isolation,
    LeaseRequest, OperatorState,
};

/// An environment, in the process that owns it.
#[async_trait]
pub trait Host: Send + Sync {
    /// What runs here.
    fn description(&self) -> Description;

    /// What can be done here.
    fn capabilities(&self) -> Capabilities;

    /// The administrator's kubeconfig of the shared control plane.
    fn kubeconfig(&self) -> PathBuf;

    /// Control planes that run, the shared one included.
    fn control_planes(&self) -> usize;

    /// Who may use what now.
    fn lanes(&self) -> &Lanes;

    /// How much a scenario needs for itself here.
    fn isolation(&self, request: &LeaseRequest) -> Isolation {
        request.isolation
    }

    /// A site for a scenario that has leave. `number` is unique in this supervisor.
    async fn lease(&self, number: u64, request: &LeaseRequest, permit: Permit) -> anyhow::Result<Box<dyn Lease>>;

    /// Builds the operator under test again; whether it has changed since it was started.
    async fn refresh(&self) -> anyhow::Result<bool>;

    /// Waits until what scenarios share has broken down.
    async fn broken(&self) -> anyhow::Error;

    /// Ends everything that was started.
    async fn end(&self);
}

/// What one scenario has.
#[async_trait]
pub trait Lease: Send + Sync {
    /// What the client needs to know.
    fn granted(&self) -> Granted;

    /// See [`crate::environment::Site::inject`].
    async fn inject(&mut self, namespace: String, fault: Fault) -> Result<FaultId, EnvironmentError>;

    /// See [`crate::environment::Site::clear`].
    async fn clear(&mut self, id: &FaultId) -> Result<(), EnvironmentError>;

    /// See [`crate::environment::Site::database`].
    async fn database(&mut self, namespace: &str, request: &DatabaseRequest) -> Result<Database, EnvironmentError>;

    /// See [`crate::environment::Site::logs`].
    async fn logs(&self, container: &Container) -> Result<String, EnvironmentError>;

    /// See [`crate::environment::Site::operator`].
    async fn operator(&self) -> Result<OperatorState, EnvironmentError>;

    /// Tells when the scenario's control plane has broken down.
    fn broken(&self) -> BoxFuture<'static, anyhow::Error>;

    /// Undoes everything.
    async fn end(self: Box<Self>);
}
