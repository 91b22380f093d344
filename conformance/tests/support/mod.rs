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
use conformance::tools::{self, Cache, Display, Needs, Toolbox, Workshop};

/// Everything that a test of the double needs. [`Lab::end`] must be called: it also looks whether anything is left.
pub struct Lab {
    pub plane: ControlPlane,
    pub double: Double,
    pub hosts: Hosts,
    pub spawner: Spawner,
    run: Arc<Run>,
    _base: tempfile::TempDir,
}

/// Programs that a test needs, and where it may put files.
pub struct Bench {
    pub run: Arc<Run>,
    pub spawner: Spawner,
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
        Self { run, spawner, toolbox, base }
    }

    /// PostgreSQL, where its user can start it.
    pub async fn installation(&self) -> Installation {
        let directory = self.run.directory();
        let tool = self.toolbox.postgresql.as_ref().unwrap();
        let tool = tools::accessible(tool, &directory.join("tools")).unwrap();
        let template = Cache::default_root().unwrap().join("template").join(tool.version.to_string());
        Installation::prepare(tool.path, template, directory, &self.spawner).await.unwrap()
    }

    /// pgBackRest, where PostgreSQL's user can start it.
    pub fn pgbackrest(&self) -> Option<Program> {
        let tool = self.toolbox.pgbackrest.as_ref().ok()?;
        let tool = tools::accessible(tool, &self.run.directory().join("tools")).unwrap();
        Some(Program { path: tool.path, environment: tool.env })
    }
}

impl Lab {
    /// `crds`: files or directories.
    pub async fn start(crds: &[PathBuf]) -> Self {
        let bench = Bench::new().await;
        let directory = bench.run.directory().to_owned();
        let programs = &bench.toolbox.control_plane;
        let crds = crds.iter().try_fold(CustomResources::default(), |crds, path| crds.path(path)).unwrap();
        let mut plane = ControlPlane::start(conformance::controlplane::Options {
            binaries: Binaries {
                etcd: programs.etcd.path.clone(),
                kube_apiserver: programs.apiserver.path.clone(),
                kube_controller_manager: programs.controller_manager.path.clone(),
            },
            directory: directory.join("control-plane"),
            spawner: bench.spawner.clone(),
            crds,
            cache: std::env::temp_dir().join("dittofs-conformance-prepared"),
        })
        .await
        .unwrap();
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
        Self { plane, double, hosts, spawner: bench.spawner.clone(), run: Arc::clone(&bench.run), _base: bench.base }
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
