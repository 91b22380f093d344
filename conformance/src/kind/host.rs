//! The whole environment, in the process that owns it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use kube::Client;
use tokio::sync::OnceCell;

use super::capabilities::capabilities;
use super::cluster::Cluster;
use super::docker::{Docker, NETWORK};
use super::helm::Helm;
use super::install::{self, percona_name};
use super::lease::KindLease;
use super::logs::{self, Logs};
use super::minio::Minio;
use super::operator::Workload;
use super::parts::{Built, databases, workshop};
use super::percona::{Mode, Percona, Presence, chart};
use super::real_faults::RealFaults;
use super::settings::{PerconaKind, Settings};
use crate::controlplane::CustomResources;
use crate::embedded::percona_crds;
use crate::environment::{Capabilities, Capability, Description, Isolation, LeaseRequest};
use crate::hosts::Hosts;
use crate::implementation::Implementation;
use crate::percona::backup::Program;
use crate::percona::{self, CrashScope};
use crate::postgres::Addresses;
use crate::process::Spawner;
use crate::supervisor::{self, DatabasePrograms, FileStamp, Lanes, Lease, Permit};
use crate::tools::{self, Progress, Workshop};

/// What all leases work with.
pub(super) struct Shared {
    pub spawner: Spawner,
    pub docker: Docker,
    pub cluster: Cluster,
    pub client: Client,
    pub parts: DatabasePrograms,
    /// Where servers of this machine listen, so that pods reach them.
    pub addresses: Addresses,
    pub percona: Percona,
    pub real_faults: RealFaults,
    pub minio: Minio,
    pub operator: Workload,
    pub webhook: bool,
    pub logs: Logs,
    /// The containers without which nothing goes on.
    containers: Vec<String>,
    /// Why they have ended: asked once, told to everyone.
    ended: OnceCell<String>,
}

impl Shared {
    /// Waits until a container or the daemon has ended.
    pub async fn broken(&self) -> anyhow::Error {
        let ended = self.ended.get_or_init(|| async { self.docker.ended(&self.containers).await.to_string() });
        anyhow::anyhow!("{}", ended.await)
    }
}

/// The kind environment.
pub struct Host {
    settings: Settings,
    implementation: Implementation,
    /// The operator's program; none: its image was made elsewhere.
    program: Option<PathBuf>,
    /// What the operator is installed from, as it was then.
    installed: Option<Vec<FileStamp>>,
    kubernetes: String,
    lanes: Lanes,
    shared: Arc<Shared>,
}

impl Host {
    /// Brings everything up. Dropped in the middle, it kills what runs here; what Docker holds stands in the ledger.
    ///
    /// # Errors
    /// Something cannot be had or does not start.
    pub async fn start(settings: Settings, spawner: Spawner, progress: Progress) -> anyhow::Result<Self> {
        let implementation = Implementation::load(&settings.implementation)?;
        // Before anything takes long.
        let docker = Docker::connect().await?;
        let workshop = workshop(&spawner, progress)?;
        let (made, parts, built, helm) = tokio::try_join!(
            install::make(&workshop, &settings, &docker),
            databases(&workshop, &settings),
            Built::prepare(&workshop, &settings, implementation),
            async { Ok(tools::helm(&workshop, &settings.tools).await?) },
        )?;
        // Before it is installed: a change in the middle counts.
        let installed = stamps(built.program.as_deref(), &built.implementation);
        let mut archives: Vec<PathBuf> = built.images.archives().map(|archive| archive.path.clone()).collect();
        archives.extend(settings.image_archives.iter().cloned());
        let logs = Logs::start(
            made.client.clone(),
            spawner.run().directory().join("logs"),
            logs::Operator {
                namespace: built.implementation.service_account.namespace.clone(),
                name: built.implementation.cluster.as_ref().map(|it| it.deployment.clone()).unwrap_or_default(),
            },
        )?;
        let helm = Helm { tool: helm, spawner: spawner.clone(), kubeconfig: made.cluster.kubeconfig.clone() };
        let ((operator, webhook), minio) = tokio::try_join!(
            async {
                install::load(&workshop, &made.cluster, &archives).await?;
                let image = built.images.operator.repository_and_tag();
                install::operator(
                    &workshop,
                    helm.clone(),
                    &made.client,
                    &built.implementation,
                    image,
                    &settings.log_level,
                )
                .await
            },
            start_minio(&workshop, &docker, &built.minio, &made.client),
        )?;
        let gateway = docker.gateway(NETWORK).await?.context("kind's network has no address of this machine")?;
        let addresses = Addresses::behind_services(gateway);
        let inside = Inside { settings: &settings, spawner: &spawner, parts: &parts, addresses: &addresses };
        let percona = inside.percona(helm, &made, &minio).await?;
        let mut containers = made.cluster.nodes(&docker).await?;
        containers.push(minio.container().to_owned());
        Ok(Self {
            program: built.program,
            installed,
            implementation: built.implementation,
            kubernetes: made.client.apiserver_version().await?.git_version,
            lanes: Lanes::single(),
            shared: Arc::new(Shared {
                spawner,
                docker,
                cluster: made.cluster,
                real_faults: RealFaults::new(made.client.clone(), operator.clone(), percona.real()),
                client: made.client,
                parts,
                addresses,
                percona,
                minio,
                operator,
                webhook,
                logs,
                containers,
                ended: OnceCell::new(),
            }),
            settings,
        })
    }
}

async fn start_minio(workshop: &Workshop, docker: &Docker, image: &str, client: &Client) -> anyhow::Result<Minio> {
    let step = workshop.progress.begin(format!("starting {image}"), None);
    let minio = Minio::start(docker, image, workshop.spawner.run().id()).await?;
    minio.publish(client).await?;
    step.done();
    Ok(minio)
}

/// What Percona is made from.
struct Inside<'a> {
    settings: &'a Settings,
    spawner: &'a Spawner,
    parts: &'a DatabasePrograms,
    addresses: &'a Addresses,
}

impl Inside<'_> {
    async fn percona(&self, helm: Helm, made: &install::Made, minio: &Minio) -> anyhow::Result<Percona> {
        let client = made.client.clone();
        let (percona, crds) = match self.settings.percona {
            PerconaKind::Real => {
                let chart = chart(self.settings.percona_chart.as_deref());
                let text = helm.crds(&chart).await.context("reading the CRDs of Percona's chart")?;
                (Mode::Real { helm: Box::new(helm), chart }, CustomResources::default().text("Percona's chart", &text))
            }
            PerconaKind::Double => {
                let options = self.double(made.cluster.config().await?, minio)?;
                (Mode::Double { options }, percona_crds(self.settings.percona_crds.as_deref())?)
            }
        };
        Ok(Percona::new(client, percona, crds, made.percona))
    }

    /// What the double is started with.
    fn double(
        &self,
        config: kube::Config,
        minio: &Minio,
    ) -> anyhow::Result<Box<dyn Fn() -> percona::Options + Send + Sync>> {
        let run = self.spawner.run().directory();
        let hosts = Hosts::create(run.join("hosts")).context("creating the hosts file")?;
        let (name, address) = minio.alias();
        hosts.set([name], (*address.ip()).into())?;
        let directory = run.join("percona");
        create(&directory)?;
        let installation =
            self.parts.postgresql.clone().map_err(|reason| {
                anyhow::anyhow!("the double of Percona needs PostgreSQL on this machine: {reason}")
            })?;
        let pgbackrest = self.parts.pgbackrest.as_ref().ok();
        let pgbackrest = pgbackrest.map(|tool| Program { path: tool.path.clone(), environment: tool.env.clone() });
        let (spawner, addresses) = (self.spawner.clone(), self.addresses.clone());
        Ok(Box::new(move || percona::Options {
            config: config.clone(),
            hosts: hosts.clone(),
            spawner: spawner.clone(),
            directory: directory.clone(),
            installation: installation.clone(),
            pgbackrest: pgbackrest.clone(),
            addresses: addresses.clone(),
            crash: CrashScope::Namespace,
        }))
    }
}

#[async_trait]
impl supervisor::Host for Host {
    fn description(&self) -> Description {
        let implementation = &self.implementation;
        Description {
            environment: "kind".to_owned(),
            kubernetes: self.kubernetes.clone(),
            percona: percona_name(&self.settings),
            implementation: implementation.name.clone(),
            implementation_version: implementation.version.clone(),
            about: implementation.about(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(&self.settings, &self.shared.parts, &self.implementation, self.shared.webhook)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.shared.cluster.kubeconfig.clone()
    }

    fn control_planes(&self) -> usize {
        1
    }

    fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    fn isolation(&self, request: &LeaseRequest) -> Isolation {
        let real = self.settings.percona == PerconaKind::Real;
        // All scenarios share one object storage, and some faults of the real operator are made by stopping it
        // (`real_faults`).
        let alone = request.needs.contains(&Capability::S3Control)
            || real && request.needs.contains(&Capability::PerconaControl);
        request.isolation.max(if alone { Isolation::Operator } else { Isolation::Namespace })
    }

    async fn lease(&self, number: u64, _request: &LeaseRequest, permit: Permit) -> anyhow::Result<Box<dyn Lease>> {
        // The one before may have taken Percona away.
        self.shared.percona.ensure(Presence::Installed).await?;
        // It may have ended by itself, and be backing off.
        self.shared.operator.running().await.context("the operator under test had ended by itself")?;
        Ok(Box::new(KindLease::new(number, Arc::clone(&self.shared), permit).await?))
    }

    async fn refresh(&self) -> anyhow::Result<bool> {
        if self.program.is_some() {
            let log = self.shared.spawner.run().directory().join("build.log");
            self.implementation.build(&self.shared.spawner, &log, &self.settings.log_level).await?;
        }
        let now = stamps(self.program.as_deref(), &self.implementation);
        Ok(now.is_none() || now != self.installed)
    }

    async fn broken(&self) -> anyhow::Error {
        self.shared.broken().await
    }

    async fn end(&self) {
        self.shared.percona.end().await;
    }
}

/// What the operator is installed from: its program, where its image is made here, and its chart. `None`: one of them is gone.
fn stamps(program: Option<&Path>, implementation: &Implementation) -> Option<Vec<FileStamp>> {
    let chart = implementation.chart();
    FileStamp::of_each(program.into_iter().chain(chart.as_deref()))
}

/// A directory of the run that everyone may pass through, for what runs as another user in it.
pub(super) fn create(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let created = std::fs::create_dir(directory)
        .and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)));
    created.with_context(|| format!("creating {}", directory.display()))
}
