//! What all control planes of one supervisor share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::settings::{Settings, Storage};
use crate::controlplane::{self, Audit, Binaries, Components, ControlPlane, CustomResources};
use crate::implementation::{Implementation, Prepared};
use crate::node::{Image, ImageTable, libpq};
use crate::postgres::{Addresses, Installation};
use crate::process::Spawner;
use crate::s3;
use crate::supervisor::DatabasePrograms;
use crate::tools::{self, Cache, Clients, Needs, Progress, Tool, Workshop};

/// The programs. An error is the reason why one cannot be had.
pub(super) struct Parts {
    binaries: Binaries,
    cache: PathBuf,
    audit: Audit,
    pub postgresql: Result<Installation, String>,
    pub clients: Result<Clients, String>,
    pub pgbackrest: Result<Tool, String>,
    minio: Result<Tool, String>,
}

/// Everything that is made once.
pub(super) struct Shared {
    pub spawner: Spawner,
    pub settings: Settings,
    pub parts: Arc<Parts>,
    pub prepared: Arc<Prepared>,
    pub s3: s3::Server,
    pub addresses: Addresses,
    /// Percona's CRDs.
    pub percona: CustomResources,
}

impl Parts {
    /// Finds, fetches or builds the programs.
    pub async fn prepare(settings: &Settings, spawner: &Spawner, progress: Progress) -> anyhow::Result<Self> {
        let cache = Cache::open(Cache::default_root()?)?;
        let root = cache.root().to_owned();
        let workshop = Workshop { cache, spawner: spawner.clone(), progress };
        let needs = Needs { postgresql: true, backups: true, minio: settings.storage == Storage::Minio };
        let (plane, toolbox) = tokio::try_join!(
            tools::ControlPlane::prepare(&workshop, &settings.tools),
            tools::prepare(&workshop, &settings.tools, needs),
        )?;
        let DatabasePrograms { postgresql, pgbackrest } =
            DatabasePrograms::prepare(&workshop, toolbox.postgresql, toolbox.pgbackrest).await?;
        Ok(Self {
            binaries: Binaries {
                etcd: plane.etcd.path,
                kube_apiserver: plane.apiserver.path,
                kube_controller_manager: plane.controller_manager.path,
            },
            cache: root,
            audit: if settings.audit_versions { Audit::Versions } else { Audit::Requests },
            postgresql,
            clients: toolbox.clients,
            pgbackrest,
            minio: toolbox.minio,
        })
    }

    /// Starts a control plane with these CRDs in `directory`.
    pub async fn control_plane(
        &self,
        spawner: &Spawner,
        crds: &CustomResources,
        directory: &Path,
    ) -> anyhow::Result<ControlPlane> {
        ControlPlane::start(controlplane::Options {
            binaries: self.binaries.clone(),
            directory: directory.to_owned(),
            spawner: spawner.clone(),
            crds: crds.clone(),
            cache: self.cache.clone(),
            audit: self.audit,
        })
        .await
    }

    /// Starts the object storage.
    async fn s3(&self, storage: Storage, spawner: &Spawner) -> anyhow::Result<s3::Server> {
        let minio = match storage {
            Storage::Memory => None,
            Storage::Minio => Some(s3::Minio {
                program: self.minio.as_ref().map_err(|reason| anyhow::anyhow!("MinIO: {reason}"))?.path.clone(),
                directory: spawner.run().directory().join("minio"),
                spawner: spawner.clone(),
            }),
        };
        Ok(s3::Server::start(s3::Options { minio, ..s3::Options::default() }).await?)
    }
}

impl Shared {
    /// Prepares everything, and starts the first control plane meanwhile, in `directory`.
    pub async fn prepare(
        settings: Settings,
        spawner: Spawner,
        progress: Progress,
        directory: &Path,
    ) -> anyhow::Result<(Self, ControlPlane)> {
        let implementation = Implementation::load(&settings.implementation)?;
        let percona = percona_crds(settings.percona_crds.as_deref())?;
        let (parts, prepared) = tokio::try_join!(
            async {
                let parts = Parts::prepare(&settings, &spawner, progress.clone()).await?;
                tracing::info!("the programs are found");
                let plane = parts.control_plane(&spawner, &percona, directory).await?;
                tracing::info!("the API server is ready");
                anyhow::Ok((parts, plane))
            },
            build(&settings, implementation, &spawner, &progress),
        )?;
        let (parts, plane) = parts;
        let s3 = parts.s3(settings.storage, &spawner).await?;
        if let Ok(clients) = &parts.clients {
            let programs = [clients.psql.path.as_path(), &clients.pg_isready.path];
            let directory = libpq_scripts(&spawner);
            libpq::install(&directory, &settings.program, programs).with_context(|| directory.display().to_string())?;
        }
        let shared = Self {
            spawner,
            settings,
            parts: Arc::new(parts),
            prepared: Arc::new(prepared),
            s3,
            addresses: Addresses::default(),
            percona,
        };
        Ok((shared, plane))
    }

    /// The processes without which nothing goes on on `plane`: its own, and MinIO.
    pub fn components(&self, plane: &ControlPlane) -> Components {
        let components = plane.components();
        match self.s3.minio() {
            Some((process, log)) => components.with(process, log.to_owned()),
            None => components,
        }
    }

    /// The images that pods can be made of.
    pub fn images(&self) -> ImageTable {
        let postgres = self.parts.clients.as_ref().ok().map(|clients| {
            let tools = [&clients.psql, &clients.pg_isready];
            let directories = tools.iter().filter_map(|tool| tool.path.parent().map(Path::to_owned));
            Image {
                path: std::iter::once(libpq_scripts(&self.spawner)).chain(directories).collect(),
                environment: tools.iter().flat_map(|tool| tool.env.clone()).collect(),
                ..Image::default()
            }
        });
        let program = Image::of_workload(&self.settings.program);
        let workload = &self.prepared.implementation().images.workload;
        workload.iter().fold(ImageTable::standard(&program, postgres), |table, name| {
            table.with(format!("{name}:*"), program.clone()).with(format!("{name}@*"), program.clone())
        })
    }

    /// Builds the operator and gathers its manifests again, with what has changed since.
    pub async fn rebuild(&self) -> anyhow::Result<Prepared> {
        let implementation = self.prepared.implementation().clone();
        build(&self.settings, implementation, &self.spawner, &Progress::silent()).await
    }
}

/// Where the scripts lie that stand for PostgreSQL's client programs in pods.
fn libpq_scripts(spawner: &Spawner) -> PathBuf {
    spawner.run().directory().join("libpq")
}

async fn build(
    settings: &Settings,
    implementation: Implementation,
    spawner: &Spawner,
    progress: &Progress,
) -> anyhow::Result<Prepared> {
    let step = progress.begin(format!("building {}", implementation.name), Some("some minutes the first time"));
    let log = spawner.run().directory().join("build.log");
    let prepared = Prepared::prepare(implementation, spawner, &log, settings.log_level.clone()).await?;
    step.done();
    tracing::info!("the operator under test is built");
    Ok(prepared)
}

/// Percona's CRDs as the user gives them, else our minimal ones. That of `PostgresCluster`, on which Percona's events
/// hang, always is ours.
pub fn percona_crds(path: Option<&Path>) -> anyhow::Result<CustomResources> {
    let inner = CustomResources::default()
        .text("our postgresclusters.yaml", include_str!("../../assets/crds/postgresclusters.yaml"));
    match path {
        Some(path) => inner.path(path).with_context(|| format!("reading Percona's CRDs from {}", path.display())),
        None => Ok(inner
            .text("our perconapgclusters.yaml", include_str!("../../assets/crds/perconapgclusters.yaml"))
            .text("our perconapgbackups.yaml", include_str!("../../assets/crds/perconapgbackups.yaml"))
            .text("our perconapgrestores.yaml", include_str!("../../assets/crds/perconapgrestores.yaml"))),
    }
}
