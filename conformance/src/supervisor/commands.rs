//! What `conformance env`, `conformance clean` and nextest do.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::client::Supervised;
use super::connection::Connection;
use super::fingerprint::Fingerprint;
use super::plan::Plan;
use super::process::{Charge, GONE_WITHIN, Life};
use super::protocol::{Reply, Request, Usage};
use super::start::{Kept, Started, interruption, late, lock, start};
use crate::environment::{Description, Environment as _};
use crate::kind;
use crate::process::{Swept, default_base, sweep};
use crate::tools::Display;

/// The variable by which nextest names a test run: all its processes have the same value.
const NEXTEST_RUN: &str = "NEXTEST_RUN_ID";

/// A kept environment.
#[derive(Clone, Debug)]
pub struct Status {
    /// What runs.
    pub description: Description,
    /// Who uses it.
    pub usage: Usage,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// What differs from what would be started now, in words; nothing where that was not asked.
    pub differences: Vec<String>,
}

/// Brings a kept environment up, or finds one that fits; it ends when nobody has used it for `idle`.
///
/// # Errors
/// It cannot be started, or one that does not fit is in use, or `interrupted` was cancelled before it was up: it is gone then.
pub async fn up(
    plan: Plan,
    idle: Duration,
    display: &Display,
    interrupted: &CancellationToken,
) -> anyhow::Result<Status> {
    let environment = connect_or_start(plan.clone(), idle, display, interrupted).await?;
    let status = status(Some(&plan)).await?;
    drop(environment);
    status.context("the environment has ended again")
}

/// The environment that fits `plan`: one that runs, or a new one. An idle one that does not fit is replaced.
///
/// # Errors
/// It cannot be started, or one that does not fit is in use, or `interrupted` was cancelled meanwhile.
pub async fn connect_or_start(
    plan: Plan,
    idle: Duration,
    display: &Display,
    interrupted: &CancellationToken,
) -> anyhow::Result<Supervised> {
    connect_or_start_in(&default_base(), plan, idle, display, interrupted).await
}

async fn connect_or_start_in(
    base: &Path,
    plan: Plan,
    idle: Duration,
    display: &Display,
    interrupted: &CancellationToken,
) -> anyhow::Result<Supervised> {
    let _lock = unless(interrupted, lock(base, display)).await?;
    if let Some(kept) = Kept::find(base)? {
        let fitting = Box::pin(unless_ending(&kept, fitting(&kept, &plan)));
        if let Some(Some(environment)) = unless(interrupted, fitting).await? {
            return Ok(environment);
        }
        unless(interrupted, gone(base, &kept)).await?;
    }
    let charge = Charge { plan, life: Life::Kept { idle_seconds: idle.as_secs() } };
    let Started { socket, .. } = start(&charge, display, interrupted).await?;
    Supervised::attach(socket).await
}

/// What comes of `waiting`; an error as soon as `interrupted` is cancelled.
async fn unless<T>(
    interrupted: &CancellationToken,
    waiting: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    interrupted.run_until_cancelled(waiting).await.unwrap_or_else(|| Err(interruption()))
}

/// The kept environment, if it fits `plan`. `None`: it does not, and nobody used it, so it was told to end.
async fn fitting(kept: &Kept, plan: &Plan) -> anyhow::Result<Option<Supervised>> {
    let environment = Supervised::attach(kept.record.socket.clone()).await?;
    let differences = differences(&environment, plan).await?;
    if differences.is_empty() {
        return Ok(Some(environment));
    }
    let connection = environment.connect().await?;
    let usage = usage(&connection).await?;
    if !usage.scenarios.is_empty() {
        bail!(
            "an environment runs that differs from this one ({}), and is in use by {}; wait, or end it with \
             `conformance env down`",
            differences.join(", "),
            usage.scenarios.join(", ")
        );
    }
    connection.ask(Request::Shutdown).await?;
    Ok(None)
}

/// The kept environment, compared with `plan` if there is one; `None` when none runs, or it is ending.
pub async fn status(plan: Option<&Plan>) -> anyhow::Result<Option<Status>> {
    let Some(kept) = Kept::find(&default_base())? else { return Ok(None) };
    unless_ending(&kept, describe(&kept, plan)).await
}

async fn describe(kept: &Kept, plan: Option<&Plan>) -> anyhow::Result<Status> {
    let environment = Supervised::attach(kept.record.socket.clone()).await?;
    Ok(Status {
        description: environment.description().clone(),
        usage: usage(&environment.connect().await?).await?,
        kubeconfig: kept.record.kubeconfig.clone(),
        differences: plan
            .map(|plan| environment.hello().fingerprint.differences(&Fingerprint::now(plan)))
            .unwrap_or_default(),
    })
}

/// Ends the kept environment, or waits until one that is ending has ended; `false` when there is none.
pub async fn down(display: &Display) -> anyhow::Result<bool> {
    let base = default_base();
    let _lock = lock(&base, display).await?;
    let Some(kept) = Kept::find(&base)? else { return Ok(false) };
    unless_ending(&kept, shut_down(&kept)).await?;
    gone(&base, &kept).await?;
    Ok(true)
}

async fn shut_down(kept: &Kept) -> anyhow::Result<()> {
    let (connection, _) = Connection::open(&kept.record.socket).await?;
    connection.ask(Request::Shutdown).await?;
    Ok(())
}

/// Removes what dead runs have left, and with `kept` also the clusters that were kept. When no run lives, also what an
/// interrupted build has left in Docker, where there is one.
pub async fn clean(kept: bool) -> anyhow::Result<Cleaned> {
    let mut cleaned = clean_dead(kept).await?;
    match kind::sweep_images(&default_base(), None).await {
        Ok(images) => cleaned.kind.images = images,
        Err(error) => cleaned.kind.left.push(format!("unfinished images: {error:#}")),
    }
    Ok(cleaned)
}

/// Removes what dead runs have left; Docker is not asked unless it holds something of them.
pub(super) async fn clean_dead(kept: bool) -> anyhow::Result<Cleaned> {
    let processes = tokio::task::spawn_blocking(|| sweep(&default_base())).await??;
    Ok(Cleaned { processes, kind: kind::sweep(kept).await? })
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Cleaned {
    /// Processes and files.
    pub processes: Swept,
    /// Clusters.
    pub kind: kind::Swept,
}

impl Cleaned {
    /// Whether something that should have gone is still there.
    pub fn is_incomplete(&self) -> bool {
        !self.processes.left.is_empty() || !self.kind.left.is_empty()
    }
}

impl fmt::Display for Cleaned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.processes.is_empty() && !self.kind.is_empty() {
            return write!(formatter, "{}", self.kind);
        }
        write!(formatter, "{}", self.processes)?;
        if self.kind.is_empty() { Ok(()) } else { write!(formatter, "\n{}", self.kind) }
    }
}

/// What differs between a running environment and what would be started now.
async fn differences(environment: &Supervised, plan: &Plan) -> anyhow::Result<Vec<String>> {
    let mut differences = environment.hello().fingerprint.differences(&Fingerprint::now(plan));
    if differences.is_empty() {
        // Without nextest, every process is a run of its own.
        let run = std::env::var(NEXTEST_RUN).unwrap_or_else(|_| format!("pid-{}", std::process::id()));
        let refreshed = environment.connect().await?.ask(Request::Refresh { run }).await?;
        if let Reply::Refreshed { changed: true } = refreshed {
            differences.push("the operator or its manifests".to_owned());
        }
    }
    Ok(differences)
}

async fn usage(connection: &Connection) -> anyhow::Result<Usage> {
    match connection.ask(Request::Usage).await? {
        Reply::Usage(usage) => Ok(usage),
        other => bail!("the supervisor answered {other:?} when asked who uses it"),
    }
}

/// What comes of `talking` to a kept environment. `None` when that fails because the environment ends: the first thing that
/// it does then is to close its socket.
async fn unless_ending<T>(kept: &Kept, talking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<Option<T>> {
    let failure = match talking.await {
        Ok(outcome) => return Ok(Some(outcome)),
        Err(failure) => failure,
    };
    match UnixStream::connect(&kept.record.socket).await {
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
            tracing::info!("the environment of pid {} is ending: {failure:#}", kept.supervisor.pid);
            Ok(None)
        }
        Ok(_) | Err(_) => Err(failure),
    }
}

/// Waits until the supervisor of a kept environment, whose run is in `base`, has ended.
async fn gone(base: &Path, kept: &Kept) -> anyhow::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::retry_on_intr;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = kept.supervisor.pid;
    let Some(handle) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let Ok(handle) = pidfd_open(handle, PidfdFlags::empty()) else { return Ok(()) };
    // Asked after the handle is open: the answer is about the process that the handle names.
    if !kept.supervisor.is_alive() {
        return Ok(());
    }
    let (tell, ended) = oneshot::channel();
    // Not one of the runtime's threads: for those it waits, also when nobody wants to know any more.
    std::thread::spawn(move || {
        // A pidfd becomes readable when its process ends.
        let mut handles = [PollFd::new(&handle, PollFlags::IN)];
        let _ = tell.send(retry_on_intr(|| poll(&mut handles, None)));
    });
    let Ok(ended) = tokio::time::timeout(GONE_WITHIN, ended).await else { bail!("{}", late(base, pid)) };
    ended?.context("waiting for the supervisor")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::net::UnixListener;

    use super::*;
    use crate::embedded::Settings;
    use crate::process::{Identity, Run, State};
    use crate::supervisor::start::Record;

    /// Far above what is needed to see that a token is cancelled.
    const AT_ONCE: Duration = Duration::from_secs(30);

    fn record(directory: &Path) -> Record {
        let socket = directory.join("supervisor.sock");
        Record { life: Life::Kept { idle_seconds: 1 }, socket, kubeconfig: directory.join("kubeconfig") }
    }

    /// What a supervisor with this pid leaves until it is gone, when it takes no connections any more.
    fn ending(base: &Path, pid: u32) {
        let run = Run::create(base).unwrap();
        let state = run.directory().join("state.json");
        let written: State = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        let written = State { supervisor: Identity::of(pid).unwrap(), ..written };
        std::fs::write(&state, serde_json::to_vec(&written).unwrap()).unwrap();
        let record = record(run.directory());
        record.write(run.directory()).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&record.socket).unwrap());
    }

    #[tokio::test]
    async fn an_environment_that_is_ending_is_waited_for_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("runs");
        let mut supervisor = tokio::process::Command::new("sh")
            .args(["-c", "read -r end; : > \"$0\""])
            .arg(directory.path().join("ended"))
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        ending(&base, supervisor.id().unwrap());
        // The next one cannot start either: that it was tried, and when, is enough.
        let next = directory.path().join("next");
        std::fs::write(&next, "#!/bin/sh\n[ -e \"${0%/*}/ended\" ] && exit 1\nexit 3\n").unwrap();
        std::fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let plan = Plan::Embedded(Settings::new(next, "implementation.yaml".into()));
        let (display, interrupted) = (Display::stderr(), CancellationToken::new());
        let replacing = connect_or_start_in(&base, plan, Duration::from_secs(1), &display, &interrupted);
        let end = async {
            drop(supervisor.stdin.take());
            supervisor.wait().await.unwrap()
        };
        let (replaced, ended) = tokio::join!(replacing, end);
        assert!(ended.success());
        assert_eq!(
            replaced.err().unwrap().to_string(),
            "the supervisor ended with exit status: 1 before the environment was up"
        );
    }

    /// What comes of a start that is interrupted when `waiting` has come; what that returns stays as long as the start.
    async fn interrupted_start<T>(base: &Path, waiting: impl Future<Output = T>) -> String {
        let plan = Plan::Embedded(Settings::new("false".into(), "implementation.yaml".into()));
        let (display, interrupted) = (Display::stderr(), CancellationToken::new());
        let starting = Box::pin(connect_or_start_in(base, plan, Duration::from_secs(1), &display, &interrupted));
        let interrupt = async {
            let kept = waiting.await;
            interrupted.cancel();
            kept
        };
        let both = async { tokio::join!(starting, interrupt) };
        let (started, _kept) = tokio::time::timeout(AT_ONCE, both).await.expect("it waits");
        started.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn one_that_is_ending_is_not_waited_for_after_an_interruption() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("runs");
        ending(&base, std::process::id());
        assert_eq!(interrupted_start(&base, tokio::task::yield_now()).await, "interrupted");
    }

    #[tokio::test]
    async fn who_waits_for_another_process_that_starts_can_be_interrupted() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("runs");
        let _held = lock(&base, &Display::stderr()).await.unwrap();
        assert_eq!(interrupted_start(&base, tokio::task::yield_now()).await, "interrupted");
    }

    #[tokio::test]
    async fn who_waits_for_an_environment_that_does_not_answer_can_be_interrupted() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("runs");
        let run = Run::create(&base).unwrap();
        let record = record(run.directory());
        record.write(run.directory()).unwrap();
        let listener = UnixListener::bind(&record.socket).unwrap();
        let asked = async { listener.accept().await.unwrap() };
        assert_eq!(interrupted_start(&base, asked).await, "interrupted");
    }

    #[tokio::test]
    async fn one_that_answers_nothing_and_is_not_ending_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept { record: record(directory.path()), supervisor: Identity::own() };
        let listener = UnixListener::bind(&kept.record.socket).unwrap();
        let answer = async { drop(listener.accept().await.unwrap()) };
        let (outcome, ()) = tokio::join!(unless_ending(&kept, shut_down(&kept)), answer);
        assert!(outcome.is_err());
    }
}
