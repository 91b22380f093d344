//! One control plane with everything that acts on it: the doubles and the operator under test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use tokio::sync::RwLock;

use super::shared::Shared;
use crate::controlplane::{self, ControlPlane};
use crate::environment::{Container, EnvironmentError, Fault};
use crate::hosts::Hosts;
use crate::implementation::{self, Operator, Unusable};
use crate::node::{self, Node};
use crate::percona::backup::Program;
use crate::percona::{self, CrashScope, Double};

/// The group of Percona's CRDs: without them, Percona is not installed. The inner `PostgresCluster`s stay.
const PERCONA: &str = "pgv2.percona.com";

/// How long each double may take to end; what still runs then is killed with the supervisor.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A control plane that is in use.
pub(super) struct Stack {
    shared: Arc<Shared>,
    directory: PathBuf,
    plane: ControlPlane,
    client: Client,
    hosts: Hosts,
    operator: Operator,
    /// Absent when there is no PostgreSQL, and at the end.
    percona: RwLock<Option<Double>>,
    /// Absent at the end.
    node: RwLock<Option<Node>>,
    node_directory: PathBuf,
}

impl Stack {
    /// Puts everything onto `plane`: installs and starts the operator, and starts the doubles. Returns when objects can
    /// be applied.
    pub async fn assemble(
        shared: Arc<Shared>,
        plane: ControlPlane,
        directory: &Path,
        crash: CrashScope,
    ) -> anyhow::Result<Self> {
        let components = shared.components(&plane);
        tokio::select! {
            biased;
            error = components.ended() => Err(error),
            // On the heap: it holds the futures of all parts.
            assembled = Box::pin(Self::put_together(shared, plane, directory, crash)) => assembled,
        }
    }

    async fn put_together(
        shared: Arc<Shared>,
        mut plane: ControlPlane,
        directory: &Path,
        crash: CrashScope,
    ) -> anyhow::Result<Self> {
        let client = Client::try_from(plane.config())?;
        let hosts = Hosts::create(directory.join("hosts")).context("creating the hosts file")?;
        shared.prepared.install(&client).await.map_err(Unusable::blame)?;
        tracing::info!("the manifests are installed");
        let options = implementation::Options {
            access: plane.access().clone(),
            directory: directory.join("operator"),
            spawner: shared.spawner.clone(),
        };
        let node_directory = directory.join("node");
        let node = Node::start(node::Options {
            config: plane.config(),
            spawner: shared.spawner.clone(),
            hosts: hosts.clone(),
            directory: node_directory.clone(),
            images: shared.images(),
            back_off: node::BackOffLimits::default(),
        });
        let percona_directory = directory.join("percona");
        let percona = percona(&shared, plane.config(), &hosts, &percona_directory, crash);
        let operator = async {
            let operator = Operator::start(Arc::clone(&shared.prepared), options).await?;
            tracing::info!("the operator under test is ready");
            Ok(operator)
        };
        let (operator, (), node, percona) = tokio::try_join!(operator, plane.start_controllers(), node, percona)?;
        Ok(Self {
            shared,
            directory: directory.to_owned(),
            plane,
            client,
            hosts,
            operator,
            percona: RwLock::new(percona),
            node: RwLock::new(Some(node)),
            node_directory,
        })
    }

    /// A second control plane, from nothing.
    pub async fn start(shared: Arc<Shared>, directory: &Path, crash: CrashScope) -> anyhow::Result<Self> {
        create(directory)?;
        let plane = shared.parts.control_plane(&shared.spawner, &shared.percona, &directory.join("plane")).await?;
        Self::assemble(shared, plane, directory, crash).await
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

    /// Waits until a process has ended without which no scenario goes on here, and says which.
    pub async fn ended(&self) -> anyhow::Error {
        self.shared.components(&self.plane).ended().await
    }

    /// As [`Self::ended`], and until the machine keeps databases from starting.
    pub async fn broken(&self) -> anyhow::Error {
        let machine = self.percona.read().await.as_ref().map(Double::machine);
        let fails = async {
            match machine {
                Some(machine) => machine.fails().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            error = self.ended() => error,
            error = fails => error,
        }
    }

    /// Injects a fault. Returns when it is in force.
    pub async fn inject(&self, namespace: &str, fault: &Fault) -> Result<(), EnvironmentError> {
        match fault {
            Fault::StopOperator {} => self.operator.stop().await.map_err(Unusable::or_broken),
            Fault::KillOperator {} => self.operator.kill().await.map_err(Unusable::or_broken),
            Fault::KillOperatorAtWrites {} => {
                self.operator.kill_at_writes(namespace).await.map_err(Unusable::or_broken)
            }
            Fault::FailOperatorRequests { how } => self.operator.fail_requests(*how).await.map_err(Unusable::or_broken),
            Fault::LeaderElection {} => self.operator.elect().await.map_err(Unusable::or_broken),
            Fault::SuspendLeader {} => self.operator.suspend_leader().await.map_err(Unusable::or_broken),
            Fault::PreviousRelease {} => self.downgrade().await,
            Fault::PerconaAbsent {} => self.remove_percona().await.map_err(Unusable::or_broken),
            Fault::S3Outage { bucket } => {
                self.shared.s3.begin_outage(bucket);
                Ok(())
            }
            Fault::HoldSecret { cluster, keys } => {
                let keys = keys.iter().cloned().collect();
                self.with_percona(async |double| double.hold_secret(namespace, cluster, keys).await).await
            }
            Fault::HoldReady { cluster } => {
                self.with_percona(async |double| double.hold_ready(namespace, cluster).await).await
            }
            Fault::StopPercona {} => self.with_percona(async |double| double.stop_operator().await).await,
            Fault::KillPostgres { cluster } => {
                if self.with_percona(async |double| double.kill_postgres(namespace, cluster).await).await? {
                    return Ok(());
                }
                Err(EnvironmentError::Broken(format!(
                    "no PostgreSQL of {namespace}/{cluster} runs that could be killed"
                )))
            }
        }
    }

    /// Clears a fault. Returns when normal operation has begun.
    pub async fn clear(&self, namespace: &str, fault: &Fault) -> Result<(), EnvironmentError> {
        match fault {
            Fault::StopOperator {} => self.operator.resume().await.map_err(Unusable::or_broken),
            Fault::KillOperatorAtWrites {} => self.leave_operator_alone(namespace).await,
            Fault::FailOperatorRequests { .. } => self.let_requests_pass().await,
            Fault::LeaderElection {} => self.end_election().await,
            Fault::SuspendLeader {} => self.operator.wake_leader().await.map_err(Unusable::or_broken),
            Fault::PreviousRelease {} => self.operator.upgrade().await.map_err(Unusable::or_broken),
            Fault::PerconaAbsent {} => self.shared.percona.install(&self.client).await.map_err(Unusable::or_broken),
            Fault::S3Outage { bucket } => {
                self.shared.s3.end_outage(bucket);
                Ok(())
            }
            Fault::HoldSecret { cluster, .. } => {
                self.with_percona(async |double| double.release_secret(namespace, cluster).await).await
            }
            Fault::HoldReady { cluster } => {
                self.with_percona(async |double| double.release_ready(namespace, cluster).await).await
            }
            Fault::StopPercona {} => self.with_percona(async |double| double.start_operator()).await,
            // It has come back by itself.
            Fault::KillPostgres { .. } | Fault::KillOperator {} => Ok(()),
        }
    }

    async fn leave_operator_alone(&self, namespace: &str) -> Result<(), EnvironmentError> {
        match self.operator.leave_alone().await.map_err(Unusable::or_broken)? {
            0 => Err(EnvironmentError::Broken(format!(
                "the operator was never killed at a write: none of its writes in {namespace} came through the relay"
            ))),
            times => {
                tracing::info!(times, "the operator was killed at its writes");
                Ok(())
            }
        }
    }

    async fn let_requests_pass(&self) -> Result<(), EnvironmentError> {
        let failed = self.operator.let_requests_pass().await.map_err(Unusable::or_broken)?;
        tracing::info!(?failed, "the requests of the operator failed");
        if failed.is_empty() {
            return Err(EnvironmentError::Broken(
                "the operator asked nothing while its requests would have failed".to_owned(),
            ));
        }
        match failed.hurry() {
            Some(hurry) => Err(EnvironmentError::Violated(hurry)),
            None => Ok(()),
        }
    }

    async fn end_election(&self) -> Result<(), EnvironmentError> {
        let handover = self.operator.end_election().await.map_err(Unusable::or_broken)?;
        if let Some(breach) = handover.breach() {
            return Err(EnvironmentError::Violated(breach));
        }
        if !handover.has_happened() {
            return Err(EnvironmentError::Broken(
                "the standby has written nothing after the leader was suspended: no leadership was handed over"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// What the previous release cannot do is not held against the one under test.
    async fn downgrade(&self) -> Result<(), EnvironmentError> {
        let broken = |error| EnvironmentError::Broken(format!("the previous release cannot be had: {error:#}"));
        self.operator.downgrade().await.map_err(broken)
    }

    async fn with_percona<T>(&self, act: impl AsyncFnOnce(&Double) -> T) -> Result<T, EnvironmentError> {
        match &*self.percona.read().await {
            Some(double) => Ok(act(double).await),
            None => Err(EnvironmentError::Unsupported("there is no Percona here without PostgreSQL".to_owned())),
        }
    }

    /// The operator is to find a cluster without Percona when it starts.
    async fn remove_percona(&self) -> anyhow::Result<()> {
        self.operator.stop().await?;
        controlplane::remove(&self.client, PERCONA).await?;
        self.operator.resume().await
    }

    /// What a container has written, in all its runs.
    pub fn logs(&self, container: &Container) -> Result<String, EnvironmentError> {
        let Container { namespace, pod, container } = container;
        let mut text = String::new();
        let read = node::log_files(&self.node_directory, namespace, pod, container).and_then(|files| {
            files.iter().try_for_each(|file| {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(file)?));
                Ok(())
            })
        });
        read.map_err(|error| EnvironmentError::Broken(format!("reading the log of {namespace}/{pod}: {error}")))?;
        Ok(text)
    }

    /// Ends everything at once.
    pub async fn stop(&self) {
        let operator = async {
            if let Err(error) = self.operator.stop().await {
                tracing::warn!("stopping the operator under test: {error:#}");
            }
        };
        let node = async {
            if let Some(node) = self.node.write().await.take() {
                node.stop().await;
            }
        };
        let percona = async {
            if let Some(double) = self.percona.write().await.take() {
                double.stop().await;
            }
        };
        let all = async { tokio::join!(operator, node, percona, self.plane.stop()) };
        if tokio::time::timeout(END_WITHIN, all).await.is_err() {
            tracing::warn!("a control plane did not end within {} s", END_WITHIN.as_secs());
        }
    }
}

/// Starts the double of Percona; `None` without PostgreSQL.
async fn percona(
    shared: &Shared,
    config: kube::Config,
    hosts: &Hosts,
    directory: &Path,
    crash: CrashScope,
) -> anyhow::Result<Option<Double>> {
    let Ok(installation) = &shared.parts.postgresql else { return Ok(None) };
    create(directory)?;
    let double = Double::start(percona::Options {
        config,
        hosts: hosts.clone(),
        spawner: shared.spawner.clone(),
        directory: directory.to_owned(),
        installation: installation.clone(),
        pgbackrest: shared
            .parts
            .pgbackrest
            .as_ref()
            .ok()
            .map(|tool| Program { path: tool.path.clone(), environment: tool.env.clone() }),
        addresses: shared.addresses.clone(),
        crash,
    });
    Ok(Some(double.await.context("starting the double of Percona")?))
}

/// Removes the directory of a control plane that is used no more. What cannot be removed goes with the run's directory.
pub(super) fn remove(directory: &Path) {
    // A process that has just been killed may have put a file into a directory that was being removed.
    const ATTEMPTS: u32 = 3;
    let mut removed = std::fs::remove_dir_all(directory);
    for _ in 1..ATTEMPTS {
        if removed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::DirectoryNotEmpty) {
            removed = std::fs::remove_dir_all(directory);
        }
    }
    if let Err(error) = removed {
        tracing::warn!(directory = %directory.display(), %error, "what a control plane has left could not be removed");
    }
}

/// A directory of the run that everyone may pass through, for what runs as another user in it.
pub(super) fn create(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let created = std::fs::create_dir(directory)
        .and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)));
    created.with_context(|| format!("creating {}", directory.display()))
}
