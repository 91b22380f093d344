//! A control plane with the Percona double, for tests.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conformance::controlplane::{Binaries, ControlPlane, CustomResources};
use conformance::hosts::Hosts;
use conformance::percona::backup::Program;
use conformance::percona::{CrashScope, Double, Options};
use conformance::postgres::{Addresses, Installation};
use conformance::process::{Run, Spawner};
use conformance::s3;
use conformance::tools::{self, Cache, Display, Needs, Toolbox, Workshop};

/// The bucket for the backups of all clusters.
pub const BUCKET: &str = "pgbackups";

/// Everything that a test of the double needs. [`Lab::end`] must be called: it also looks whether anything is left.
pub struct Lab {
    pub plane: ControlPlane,
    pub double: Double,
    pub hosts: Hosts,
    pub spawner: Spawner,
    /// An object storage, with [`BUCKET`] in it.
    pub storage: s3::Server,
    run: Arc<Run>,
    without_backups: Option<String>,
    _base: tempfile::TempDir,
}

/// Programs that a test needs, and where it may put files.
pub struct Bench {
    pub run: Arc<Run>,
    pub spawner: Spawner,
    programs: tools::ControlPlane,
    pub toolbox: Toolbox,
    base: tempfile::TempDir,
}

impl Bench {
    pub async fn new() -> Self {
        // Whoever may install a provider before us has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = tempfile::Builder::new().prefix("lab").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(base.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let run = Arc::new(Run::create(&base.path().join("r")).unwrap());
        let spawner = Spawner::new(Arc::clone(&run), Some(env!("CARGO_BIN_EXE_conformance").into())).unwrap();
        let workshop = Workshop {
            cache: Cache::open(Cache::default_root().unwrap()).unwrap(),
            spawner: spawner.clone(),
            progress: Display::stderr().progress(),
        };
        let needs = Needs { postgresql: true, backups: true, minio: false };
        let toolbox = tools::prepare(&workshop, &tools::Options::default(), needs).await.unwrap();
        let programs = tools::ControlPlane::prepare(&workshop, &tools::Options::from_environment()).await.unwrap();
        Self { run, spawner, programs, toolbox, base }
    }

    /// PostgreSQL, where its user can start it.
    pub async fn installation(&self) -> Installation {
        let directory = self.run.directory();
        let tool = self.toolbox.postgresql.as_ref().unwrap();
        let tool = tools::accessible(tool, &directory.join("tools")).unwrap();
        let template = Cache::default_root().unwrap().join("template").join(&tool.version);
        Installation::prepare(tool.path, template, directory, &self.spawner).await.unwrap()
    }

    /// An API server with these CRDs (files or directories), without controllers.
    pub async fn control_plane(&self, crds: &[PathBuf]) -> ControlPlane {
        let programs = &self.programs;
        let crds = crds.iter().try_fold(CustomResources::default(), |crds, path| crds.path(path)).unwrap();
        ControlPlane::start(conformance::controlplane::Options {
            binaries: Binaries {
                etcd: programs.etcd.path.clone(),
                kube_apiserver: programs.apiserver.path.clone(),
                kube_controller_manager: programs.controller_manager.path.clone(),
            },
            directory: self.run.directory().join("control-plane"),
            spawner: self.spawner.clone(),
            crds,
            cache: Cache::default_root().unwrap(),
            audit: conformance::controlplane::Audit::default(),
        })
        .await
        .unwrap()
    }

    /// pgBackRest, where PostgreSQL's user can start it.
    pub fn pgbackrest(&self) -> Option<Program> {
        let tool = self.toolbox.pgbackrest.as_ref().ok()?;
        let tool = tools::accessible(tool, &self.run.directory().join("tools")).unwrap();
        Some(Program { path: tool.path, environment: tool.env })
    }
}

/// Where the traces and the real CRDs are: `percona` in the project's shared folder, which is no part of it.
///
/// `None`, and a message, where they are not; a failure then where `RECORDINGS=required` says that they must be, as `.ci/run`
/// does. A fork's CI, and GitHub's, has none.
pub fn shared() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let shared = [workspace.join("../shared/percona"), workspace.join("../../shared/percona")];
    let found = shared.into_iter().find(|path| path.join("traces").is_dir());
    if found.is_none() {
        let required = std::env::var("RECORDINGS").is_ok_and(|value| value == "required");
        assert!(!required, "RECORDINGS=required, and there are no traces in ../shared/percona");
        println!("skipped: there are no traces in ../shared/percona");
    }
    found
}

impl Lab {
    /// `crds`: files or directories.
    pub async fn start(crds: &[PathBuf]) -> Self {
        let bench = Bench::new().await;
        let directory = bench.run.directory().to_owned();
        let mut plane = bench.control_plane(crds).await;
        plane.start_controllers().await.unwrap();

        let hosts = Hosts::create(directory.join("hosts")).unwrap();
        let own = directory.join("p");
        std::fs::DirBuilder::new().create(&own).unwrap();
        let double = Double::start(Options {
            config: plane.config(),
            hosts: hosts.clone(),
            spawner: bench.spawner.clone(),
            directory: own,
            installation: bench.installation().await,
            pgbackrest: bench.pgbackrest(),
            addresses: Addresses::default(),
            crash: CrashScope::Namespace,
        })
        .await
        .unwrap();
        let without_backups = bench.toolbox.pgbackrest.as_ref().err().cloned();
        let storage = s3::Server::start(s3::Options::default()).await.unwrap();
        storage.create_bucket(BUCKET).await.unwrap();
        let (spawner, run) = (bench.spawner.clone(), Arc::clone(&bench.run));
        Self { plane, double, hosts, spawner, storage, run, without_backups, _base: bench.base }
    }

    /// Why there are no backups here; `None` when there are.
    pub fn without_backups(&self) -> Option<&str> {
        self.without_backups.as_deref()
    }

    pub fn directory(&self) -> &Path {
        self.run.directory()
    }

    pub async fn end(self) {
        self.double.stop().await;
        self.plane.stop().await;
        self.run.remove().unwrap();
    }
}
