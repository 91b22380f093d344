//! What the engine knows as an environment.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::plan::Plan;
use super::process::{Charge, Life};
use super::protocol::{Granted, Hello, Reply, Request};
use super::start::{Running, Started, end, start};
use crate::environment::{
    AuditLog, Capabilities, Container, Database, DatabaseRequest, Description, Environment, EnvironmentError, Fault,
    FaultId, LeaseRequest, OperatorState, Site, Stream,
};
use crate::tools::Display;
use crate::{hosts, reach, redact};

/// A running environment that a supervisor owns.
pub struct Supervised {
    socket: PathBuf,
    hello: Hello,
    /// The supervisor, when it is ours. Its standard input is open as long as we live.
    running: Mutex<Option<Running>>,
}

impl Supervised {
    /// Starts an environment that ends with this process at the latest.
    ///
    /// # Errors
    /// It cannot be started ([`super::StartError`] in the chain says how the program is to end), or `interrupted` was
    /// cancelled; nothing of it runs any more then.
    pub async fn start(plan: Plan, display: &Display, interrupted: &CancellationToken) -> anyhow::Result<Self> {
        let charge = Charge { plan, life: Life::Owned };
        let Started { socket, running } = start(&charge, display, interrupted).await?;
        let mut environment = Self::attach(socket).await?;
        environment.running = Mutex::new(Some(running));
        Ok(environment)
    }

    /// The environment behind a socket, which stays when we go.
    pub(super) async fn attach(socket: PathBuf) -> anyhow::Result<Self> {
        let (_, hello) = Connection::open(&socket).await?;
        Ok(Self { socket, hello, running: Mutex::new(None) })
    }

    pub(super) fn hello(&self) -> &Hello {
        &self.hello
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        Ok(Connection::open(&self.socket).await?.0)
    }
}

fn broken(error: &anyhow::Error) -> EnvironmentError {
    EnvironmentError::Broken(format!("{error:#}"))
}

#[async_trait]
impl Environment for Supervised {
    fn description(&self) -> &Description {
        &self.hello.description
    }

    fn capabilities(&self) -> &Capabilities {
        &self.hello.capabilities
    }

    async fn lease(&self, request: LeaseRequest) -> Result<Arc<dyn Site>, EnvironmentError> {
        let connection = self.connect().await.map_err(|error| broken(&error))?;
        match connection.ask(Request::Lease(request)).await? {
            Reply::Lease(granted) => {
                granted.secrets.iter().for_each(|secret| redact::register(secret));
                let config = config(&granted).await.map_err(|error| broken(&error))?;
                let client = kube::Client::try_from(config.clone()).map_err(|error| broken(&error.into()))?;
                Ok(Arc::new(LeasedSite { connection, config, client, granted: *granted }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn close(&self) -> Result<(), EnvironmentError> {
        match self.running.lock().await.take() {
            Some(running) => end(running).await,
            None => Ok(()),
        }
    }
}

async fn config(granted: &Granted) -> anyhow::Result<kube::Config> {
    let kubeconfig = Kubeconfig::read_from(&granted.kubeconfig)
        .with_context(|| format!("reading {}", granted.kubeconfig.display()))?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

/// A leased control plane.
struct LeasedSite {
    connection: Connection,
    config: kube::Config,
    client: kube::Client,
    granted: Granted,
}

fn unexpected(reply: &Reply) -> EnvironmentError {
    EnvironmentError::Broken(format!("the supervisor gave another answer than was asked for: {reply:?}"))
}

#[async_trait]
impl Site for LeasedSite {
    fn config(&self) -> kube::Config {
        self.config.clone()
    }

    fn bindings(&self) -> &Value {
        &self.granted.bindings
    }

    async fn connect(&self, host: &str, port: u16) -> std::io::Result<Box<dyn Stream>> {
        let Some(hosts) = &self.granted.hosts else { return reach::connect(&self.client, host, port).await };
        let address = hosts::lookup(hosts, host)?.ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::NotFound, format!("no Service or pod is known as {host}"))
        })?;
        let stream = TcpStream::connect((address, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn inject(&self, namespace: &str, fault: &Fault) -> Result<FaultId, EnvironmentError> {
        let request = Request::Inject { namespace: namespace.to_owned(), fault: fault.clone() };
        match self.connection.ask(request).await? {
            Reply::Fault(id) => Ok(id),
            other => Err(unexpected(&other)),
        }
    }

    async fn clear(&self, fault: &FaultId) -> Result<(), EnvironmentError> {
        match self.connection.ask(Request::Clear(fault.clone())).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn database(&self, namespace: &str, request: &DatabaseRequest) -> Result<Database, EnvironmentError> {
        let request = Request::Database { namespace: namespace.to_owned(), request: request.clone() };
        match self.connection.ask(request).await? {
            Reply::Database(database) => {
                redact::register(&database.password);
                redact::register(&database.uri);
                Ok(*database)
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn logs(&self, container: &Container) -> Result<String, EnvironmentError> {
        match self.connection.ask(Request::Logs(container.clone())).await? {
            Reply::Logs(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    fn audit_log(&self) -> Option<AuditLog> {
        self.granted.audit_log.clone()
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        Some(self.granted.kubeconfig.clone())
    }

    async fn operator(&self) -> Result<OperatorState, EnvironmentError> {
        match self.connection.ask(Request::Operator).await? {
            Reply::Operator(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }
}
