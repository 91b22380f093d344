//! A control plane alone, for trying things by hand: prints the path of its kubeconfig and runs until SIGINT or SIGTERM.
//!
//! `control_plane DIRECTORY_OF_BINARIES [CRDS…]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use conformance::controlplane::{Binaries, ControlPlane, CustomResources, Options};
use conformance::process::{Run, Spawner, default_base, shim, sweep};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().context("usage: control_plane DIRECTORY_OF_BINARIES [CRDS…]")?;
    if first == shim::COMMAND {
        return Ok(shim::main(arguments));
    }
    let crds = arguments.try_fold(CustomResources::default(), |crds, path| crds.path(Path::new(&path)))?;
    tokio::runtime::Runtime::new()?.block_on(run(PathBuf::from(first), crds))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(binaries: PathBuf, crds: CustomResources) -> anyhow::Result<()> {
    // Whoever may install a provider before us has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    sweep(&default_base())?;
    let run = Arc::new(Run::create(&default_base())?);
    let outcome = async {
        let started = std::time::Instant::now();
        let mut plane = ControlPlane::start(Options {
            binaries: Binaries {
                etcd: binaries.join("etcd"),
                kube_apiserver: binaries.join("kube-apiserver"),
                kube_controller_manager: binaries.join("kube-controller-manager"),
            },
            directory: run.directory().join("control-plane"),
            spawner: Spawner::new(Arc::clone(&run), None)?,
            crds,
            cache: std::env::temp_dir().join("dittofs-conformance-prepared"),
        })
        .await?;
        eprintln!("API server ready after {:?}", started.elapsed());
        plane.start_controllers().await?;
        eprintln!("controllers ready after {:?}", started.elapsed());
        println!("{}", plane.kubeconfig().display());
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
        plane.stop().await;
        anyhow::Ok(())
    }
    .await;
    run.remove()?;
    outcome
}
