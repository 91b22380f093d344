//! The supervisor process: brings everything up, serves its socket, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::future::pending;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::failure::StartError;
use super::fingerprint::Fingerprint;
use super::plan::Plan;
use super::protocol::{Announcement, Hello, VERSION};
use super::serve::Service;
use super::start::Record;
use crate::process::{Run, Spawner, default_base};
use crate::tools::Progress;

/// The file of its log, in the directory of the run.
pub(super) const LOG: &str = "supervisor.log";

/// The hidden subcommand that the binary has to hand over to [`main`]. Its one argument is a [`Charge`] as JSON.
pub const COMMAND: &str = "supervisor";

/// How long the orderly end may take; what still runs then is killed by the kernel with the supervisor.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What a supervisor is started for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Charge {
    pub plan: Plan,
    pub life: Life,
}

/// How long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Life {
    /// As long as its standard input stays open: as long as the runner lives.
    Owned,
    /// Until it is told to end, or nobody has used it for so long.
    Kept { idle_seconds: u64 },
}

/// Runs the supervisor. `arguments` are those after `supervisor`.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let charge = arguments.into_iter().next().map(|text| serde_json::from_str(&text.to_string_lossy()));
    let Some(Ok(charge)) = charge else {
        eprintln!("conformance {COMMAND} is for internal use; see `conformance env up`");
        return ExitCode::from(2);
    };
    // A session of its own: what the terminal sends to the runner is not for us. It fails only for a session's leader.
    let _ = nix::unistd::setsid();
    // Whoever may have installed a provider before us has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = tokio::runtime::Runtime::new().context("starting the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(supervise(charge));
        // The thread that reads standard input cannot be stopped, and an orderly end would wait for it.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = StartError::of(&error);
            tracing::error!("{error}");
            announce(&Announcement::Failed(error));
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever has started us. They may have gone, or have heard what they wanted to know.
fn announce(announcement: &Announcement) {
    if let Ok(mut line) = serde_json::to_vec(announcement) {
        line.push(b'\n');
        let _ = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
    }
}

async fn supervise(charge: Charge) -> anyhow::Result<()> {
    let end = CancellationToken::new();
    tokio::spawn(watch_for_the_end(charge.life, end.clone()));
    super::commands::clean(false).await?;
    let run = Arc::new(Run::create(&default_base())?);
    log_to(&run.directory().join(LOG), charge.plan.log_level())?;
    let started = tokio::select! {
        biased;
        () = end.cancelled() => Ok(None),
        started = start(&charge, &run, &end) => started.map(Some),
    };
    let outcome = match started {
        Ok(Some((service, listener))) => serve(charge.life, service, &listener, &end).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    let cleaned = charge.plan.clean_up(&run).await;
    // Whatever was not ended in order was killed when its handle was dropped.
    if tokio::time::timeout(END_WITHIN, run.childless()).await.is_err() {
        tracing::warn!("some processes do not end within {} s after SIGKILL", END_WITHIN.as_secs());
    }
    run.remove()?;
    outcome.and(cleaned)
}

/// Standard error, and with it panics and everything that is traced, goes to a file of the run.
fn log_to(path: &Path, level: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    nix::unistd::dup2_stderr(&file)?;
    let filter = tracing_subscriber::EnvFilter::new(format!("conformance={level},warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}

/// Cancels `end` at a signal, or when the runner that owns us is gone.
async fn watch_for_the_end(life: Life, end: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return end.cancel();
    };
    let abandoned = async {
        match life {
            Life::Owned => drop(tokio::io::stdin().read_u8().await),
            Life::Kept { .. } => pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = abandoned => {}
    }
    end.cancel();
}

/// Brings everything up. Dropped in the middle, it kills what it has started.
async fn start(
    charge: &Charge,
    run: &Arc<Run>,
    end: &CancellationToken,
) -> anyhow::Result<(Arc<Service>, UnixListener)> {
    tracing::info!("starting");
    let spawner = Spawner::new(Arc::clone(run), None)?;
    let progress = Progress::new(|event| announce(&Announcement::Progress(event)));
    // Taken before anything is built or started: a change in the middle makes the environment a stale one.
    let fingerprint = Fingerprint::now(&charge.plan);
    // On the heap: it holds the futures of everything that is started.
    let host = Box::pin(charge.plan.clone().start(spawner, progress)).await?;
    let hello =
        Hello { version: VERSION, description: host.description(), capabilities: host.capabilities(), fingerprint };
    let socket = run.directory().join("supervisor.sock");
    let listener = UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    Record { life: charge.life, socket: socket.clone(), kubeconfig: host.kubeconfig() }.write(run.directory())?;
    let service = Arc::new(Service::new(host, hello, end.clone()));
    announce(&Announcement::Ready { socket });
    Ok((service, listener))
}

/// Serves until the end, and then ends everything in order.
async fn serve(
    life: Life,
    service: Arc<Service>,
    listener: &UnixListener,
    end: &CancellationToken,
) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.context("accepting a connection")?;
                    connections.spawn(Arc::clone(&service).serve(stream));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    };
    let outcome = tokio::select! {
        biased;
        () = end.cancelled() => Ok(()),
        () = unused(life, &service) => Ok(()),
        outcome = accepting => outcome,
    };
    connections.abort_all();
    if tokio::time::timeout(END_WITHIN, service.end()).await.is_err() {
        tracing::warn!("not everything has ended within {} s, the rest is killed", END_WITHIN.as_secs());
    }
    outcome
}

/// Returns when a kept environment was not used for its idle time, or when it is broken and nobody uses it any more.
async fn unused(life: Life, service: &Service) {
    let Life::Kept { idle_seconds } = life else { return pending().await };
    let idle = async {
        let mut users = service.users();
        loop {
            if users.wait_for(BTreeMap::is_empty).await.is_err() {
                return pending().await;
            }
            let used = users.wait_for(|users| !users.is_empty());
            if tokio::time::timeout(Duration::from_secs(idle_seconds), used).await.is_err() {
                tracing::info!("nobody has used this environment for {idle_seconds} s, it ends");
                return;
            }
        }
    };
    let broken = async {
        let error = service.broken().await;
        tracing::error!("the control plane has broken down: {error:#}");
        let _ = service.users().wait_for(BTreeMap::is_empty).await;
    };
    tokio::select! {
        () = idle => {}
        () = broken => {}
    }
}
