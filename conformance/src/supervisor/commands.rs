//! What `conformance env`, `conformance clean` and nextest do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::client::Supervised;
use super::connection::Connection;
use super::fingerprint::Fingerprint;
use super::plan::Plan;
use super::process::{Charge, Life};
use super::protocol::{Reply, Request, Usage};
use super::start::{Record, Started, lock, start};
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
    /// What differs from what would be started now, in words.
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
    let status = status(&plan).await?;
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
    let _lock = lock(display).await?;
    if let Some(record) = Record::find()? {
        let environment = Supervised::attach(record.socket).await?;
        let differences = differences(&environment, &plan).await?;
        if differences.is_empty() {
            return Ok(environment);
        }
        let usage = usage(&environment.connect().await?).await?;
        if !usage.scenarios.is_empty() {
            bail!(
                "an environment runs that differs from this one ({}), and is in use by {}; wait, or end it with \
                 `conformance env down`",
                differences.join(", "),
                usage.scenarios.join(", ")
            );
        }
        end(&environment).await?;
    }
    let charge = Charge { plan, life: Life::Kept { idle_seconds: idle.as_secs() } };
    let Started { socket, .. } = start(&charge, display, interrupted).await?;
    Supervised::attach(socket).await
}

/// The kept environment, compared with `plan`; `None` when there is none.
pub async fn status(plan: &Plan) -> anyhow::Result<Option<Status>> {
    let Some(record) = Record::find()? else { return Ok(None) };
    let environment = Supervised::attach(record.socket).await?;
    Ok(Some(Status {
        description: environment.description().clone(),
        usage: usage(&environment.connect().await?).await?,
        kubeconfig: record.kubeconfig,
        differences: environment.hello().fingerprint.differences(&Fingerprint::now(plan)),
    }))
}

/// Ends the kept environment; `false` when there is none.
pub async fn down(display: &Display) -> anyhow::Result<bool> {
    let _lock = lock(display).await?;
    let Some(record) = Record::find()? else { return Ok(false) };
    end(&Supervised::attach(record.socket).await?).await?;
    Ok(true)
}

/// Removes what dead runs have left, and with `kept` also the clusters that were kept.
pub async fn clean(kept: bool) -> anyhow::Result<Cleaned> {
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
            differences.push("the operator".to_owned());
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

/// Tells a supervisor to end and waits until it has.
async fn end(environment: &Supervised) -> anyhow::Result<()> {
    let connection = environment.connect().await?;
    let pid = usage(&connection).await?.pid;
    connection.ask(Request::Shutdown).await?;
    gone(pid).await
}

/// Waits until a process has ended.
async fn gone(pid: u32) -> anyhow::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    const WITHIN: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
    let Some(handle) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let Ok(handle) = pidfd_open(handle, PidfdFlags::empty()) else { return Ok(()) };
    // A pidfd becomes readable when its process ends.
    let ended =
        tokio::task::spawn_blocking(move || poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&WITHIN))).await?;
    if ended? == 0 {
        bail!("the supervisor (pid {pid}) did not end within {} s; run `conformance clean`", WITHIN.tv_sec);
    }
    Ok(())
}
