//! The supervisor process: brings everything up, serves its socket, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::future::pending;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::util::SubscriberInitExt;

use super::failure::StartError;
use super::fingerprint::Fingerprint;
use super::plan::Plan;
use super::protocol::{Announcement, Hello, VERSION};
use super::serve::Service;
use super::start::Record;
use crate::kind;
use crate::process::{DISAPPEAR, Run, Spawner, default_base};
use crate::tools::Progress;

/// The file of its log, in the directory of the run.
pub(super) const LOG: &str = "supervisor.log";

/// The hidden subcommand that the binary has to hand over to [`main`]. Its one argument is a [`Charge`] as JSON.
pub const COMMAND: &str = "supervisor";

/// How long the orderly end may take; what still runs then is killed by the kernel with the supervisor.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How long that may take to go which is not made of processes of its own: a cluster's containers, and then images.
const CLEAN_UP_WITHIN: Duration = kind::GONE_WITHIN.saturating_add(Duration::from_secs(10));

/// How long killed processes may take to end.
const CHILDLESS_WITHIN: Duration = Duration::from_secs(5);

/// How long the files of a run may take to go, and whatever else has no bound.
const REMOVE_WITHIN: Duration = Duration::from_secs(10);

/// How long a supervisor may take from the order to end until it is gone: the sum of what it gives itself in [`serve`] and
/// [`supervise`], and in [`Run::remove`].
pub(super) const GONE_WITHIN: Duration = END_WITHIN
    .saturating_add(CLEAN_UP_WITHIN)
    .saturating_add(CHILDLESS_WITHIN)
    .saturating_add(DISAPPEAR)
    .saturating_add(REMOVE_WITHIN);

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
        let outcome = runtime.block_on(told(supervise(charge)));
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

/// What comes of `acting`. A panic in it is an error like others: whoever waits for us hears of it, and what runs is ended.
async fn told<T>(acting: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match AssertUnwindSafe(acting).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(anyhow!("the supervisor panicked: {message}"))
        }
    }
}

async fn supervise(charge: Charge) -> anyhow::Result<()> {
    let end = CancellationToken::new();
    tokio::spawn(watch_for_the_end(charge.life, end.clone()));
    super::commands::clean_dead(false).await?;
    let run = Arc::new(Run::create(&default_base())?);
    // On the heap: it holds the futures of everything that is started.
    let outcome = told(Box::pin(live(&charge, &run, &end))).await;
    tracing::info!("removing what was made outside of the run's directory");
    let cleaned = tokio::time::timeout(CLEAN_UP_WITHIN, charge.plan.clean_up(&run)).await.unwrap_or_else(|_| {
        let limit = CLEAN_UP_WITHIN.as_secs();
        Err(anyhow!("not all that this run has made is gone after {limit} s; run `conformance clean`"))
    });
    tracing::info!("waiting until all processes have ended");
    // Whatever was not ended in order was killed when its handle was dropped.
    if tokio::time::timeout(CHILDLESS_WITHIN, run.childless()).await.is_err() {
        tracing::warn!("some processes do not end within {} s after SIGKILL", CHILDLESS_WITHIN.as_secs());
    }
    tracing::info!("removing the run's directory");
    let removed = run.remove();
    outcome.and(cleaned).and(removed.map_err(Into::into))
}

/// Brings everything up, serves until the end, and ends in order what was brought up.
async fn live(charge: &Charge, run: &Arc<Run>, end: &CancellationToken) -> anyhow::Result<()> {
    log_to(&run.directory().join(LOG), charge.plan.log_level())?;
    let (service, listener) = tokio::select! {
        biased;
        () = end.cancelled() => return Ok(()),
        started = start(charge, run, end) => started?,
    };
    serve(charge.life, service, listener, end).await
}

/// Standard error, and with it panics and everything that is traced, goes to a file of the run.
fn log_to(path: &Path, level: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    nix::unistd::dup2_stderr(&file)?;
    logger(level).init();
    Ok(())
}

/// Writes to standard error. What cannot be written, on a full disk, is lost: to tell that, too, on standard error would panic.
fn logger(level: &str) -> impl SubscriberInitExt {
    let filter = tracing_subscriber::EnvFilter::new(format!("conformance={level},warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    builder.log_internal_errors(false)
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
    listener: UnixListener,
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
    // Before anything else: whoever comes from now on is refused, and so knows that we end (see `unless_ending`). The
    // record stays as long as we do, because until then there is no place for another environment.
    drop(listener);
    connections.abort_all();
    tracing::info!("ending what runs");
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

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::exit::Exit;
    use crate::testing::passes_on_a_full_disk;

    #[tokio::test]
    async fn a_panic_is_an_error_that_can_be_told() {
        let lanes = 3;
        let panics = std::future::poll_fn(|_| -> Poll<anyhow::Result<()>> { panic!("there are {lanes} lanes") });
        let error = StartError::of(&told(panics).await.unwrap_err());
        assert_eq!(error.message, "the supervisor panicked: there are 3 lanes");
        assert_eq!(error.exit, Exit::Environment);
    }

    /// Not a test by itself: this very program, started by the next test with a standard error that is full.
    #[test]
    #[ignore = "the program that the next test starts"]
    fn a_program_that_logs() {
        let _logger = logger("info").set_default();
        tracing::info!("this is lost");
    }

    #[test]
    fn a_log_on_a_full_disk_is_no_panic() {
        passes_on_a_full_disk("supervisor::process::tests::a_program_that_logs");
    }
}
