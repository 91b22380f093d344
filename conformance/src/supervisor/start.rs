//! Starting a supervisor, and finding those that run.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::io::BufReader;
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::failure::StartError;
use super::process::{COMMAND, Charge, Life};
use super::protocol::{Announcement, receive};
use crate::environment::EnvironmentError;
use crate::exit::Exit;
use crate::process::{default_base, list};
use crate::tools::Display;

/// How long a supervisor may take to end: longer than it gives itself.
const END_WITHIN: Duration = Duration::from_secs(30);

/// The file in a run's directory that says how to reach its supervisor. It appears when the environment can be used.
const FILE: &str = "environment.json";

/// What that file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub life: Life,
    pub socket: PathBuf,
    /// The administrator's kubeconfig of the shared control plane.
    pub kubeconfig: PathBuf,
}

impl Record {
    /// Writes the file into a run's directory.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .tempfile_in(directory)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.persist(directory.join(FILE))?;
        Ok(())
    }

    /// The kept environment of this user that can be used, if there is one.
    pub fn find() -> anyhow::Result<Option<Self>> {
        for run in list(&default_base())? {
            if !run.is_alive() {
                continue;
            }
            let Ok(text) = std::fs::read(run.directory.join(FILE)) else { continue };
            let record: Self = serde_json::from_slice(&text)
                .with_context(|| format!("reading {}", run.directory.join(FILE).display()))?;
            if matches!(record.life, Life::Kept { .. }) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// Keeps other processes of this user from starting an environment, until it is dropped. Waits for those that do.
pub(super) async fn lock(display: &Display) -> anyhow::Result<std::fs::File> {
    let base = default_base();
    // The first run would make this directory; it has the same mode.
    match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o711).create(&base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("creating {}", base.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let path = base.join("start.lock");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    let step = display.progress().begin("waiting for another process that starts the environment", None);
    let file = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await??;
    step.done();
    Ok(file)
}

/// A supervisor that we have started and that can be used.
pub(super) struct Started {
    pub socket: PathBuf,
    pub child: Child,
}

/// Starts a supervisor and waits until it can be used, showing what takes long. When `interrupted` is cancelled, it ends
/// the supervisor and waits until it is gone.
pub(super) async fn start(
    charge: &Charge,
    display: &Display,
    interrupted: &CancellationToken,
) -> anyhow::Result<Started> {
    let mut command = Command::new(charge.plan.program());
    command.arg(COMMAND).arg(serde_json::to_string(charge)?);
    command.stdin(if charge.life == Life::Owned { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("starting {}", charge.plan.program().display()))?;
    let stdout = child.stdout.take().context("the supervisor has no standard output")?;
    match interrupted.run_until_cancelled(ready(BufReader::new(stdout), display)).await {
        Some(Ok(Some(socket))) => Ok(Started { socket, child }),
        Some(Ok(None)) => {
            let status = child.wait().await?;
            bail!("the supervisor ended with {status} before the environment was up");
        }
        Some(Err(error)) => {
            child.wait().await?;
            Err(error)
        }
        None => {
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                // It cannot have been reaped: nobody has waited for it.
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
            }
            end(child).await?;
            Err(StartError { exit: Exit::Interrupted, message: "interrupted".to_owned() }.into())
        }
    }
}

/// Shows what a supervisor tells, until its environment can be used. `None`: it went away without a word.
async fn ready(mut announcements: BufReader<ChildStdout>, display: &Display) -> anyhow::Result<Option<PathBuf>> {
    loop {
        match receive(&mut announcements).await.context("listening to the supervisor")? {
            Some(Announcement::Progress(event)) => display.show(event),
            Some(Announcement::Ready { socket }) => return Ok(Some(socket)),
            Some(Announcement::Failed(error)) => return Err(error.into()),
            None => return Ok(None),
        }
    }
}

/// Waits until a supervisor that was told to end has ended.
pub(super) async fn end(mut child: Child) -> Result<(), EnvironmentError> {
    // Closed input is the order to end.
    drop(child.stdin.take());
    match tokio::time::timeout(END_WITHIN, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(EnvironmentError::Broken(format!("the supervisor ended with {status}"))),
        Ok(Err(error)) => Err(EnvironmentError::Broken(format!("waiting for the supervisor: {error}"))),
        Err(_) => Err(EnvironmentError::Broken(format!(
            "the supervisor (pid {}) did not end within {} s; run `conformance clean`",
            child.id().unwrap_or_default(),
            END_WITHIN.as_secs()
        ))),
    }
}
