//! Starting a supervisor, and finding those that run.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::io::BufReader;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::failure::StartError;
use super::process::{COMMAND, Charge, GONE_WITHIN, LOG, Life};
use super::protocol::{Announcement, receive};
use crate::environment::EnvironmentError;
use crate::exit::Exit;
use crate::process::{Identity, State, default_base, list, open_lock, provide};
use crate::redact::redact;
use crate::tools::Display;

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
}

/// A kept environment that was found. It may be about to end.
pub(super) struct Kept {
    pub record: Record,
    pub supervisor: Identity,
}

impl Kept {
    /// The kept environment in `base`, where the runs of this user are, if there is one.
    ///
    /// # Errors
    /// What is there cannot be read, or others may have written it ([`crate::process::RunError::NotOurs`]).
    pub fn find(base: &Path) -> anyhow::Result<Option<Self>> {
        for run in list(base)? {
            let Some(state) = run.state.filter(State::is_alive) else { continue };
            let path = run.directory.join(FILE);
            let Ok(text) = std::fs::read(&path) else { continue };
            let record: Record =
                serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
            if matches!(record.life, Life::Kept { .. }) {
                return Ok(Some(Self { record, supervisor: state.supervisor }));
            }
        }
        Ok(None)
    }
}

/// Keeps other processes of this user, whose runs are in `base`, from starting an environment, until it is dropped. Waits for
/// those that do.
pub(super) async fn lock(base: &Path, display: &Display) -> anyhow::Result<std::fs::File> {
    provide(base)?;
    let file = open_lock(&base.join("start.lock"))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    let step = display.progress().begin("waiting for another process that starts the environment", None);
    let (tell, locked) = oneshot::channel();
    // Not one of the runtime's threads: for those it waits, also when nobody wants to know any more.
    std::thread::spawn(move || drop(tell.send(file.lock().map(|()| file))));
    let file = locked.await.context("waiting for another process")??;
    step.done();
    Ok(file)
}

/// A supervisor that we have started and that can be used.
pub(super) struct Started {
    pub socket: PathBuf,
    pub running: Running,
}

/// A supervisor of our own.
pub(super) struct Running {
    child: Child,
    /// Why it ended, if it has said so: known when it is gone.
    failure: JoinHandle<Option<StartError>>,
}

/// Takes everything that a supervisor still says, so that it never waits for us.
async fn failure(mut announcements: BufReader<ChildStdout>) -> Option<StartError> {
    let mut failure = None;
    while let Ok(Some(announcement)) = receive(&mut announcements).await {
        if let Announcement::Failed(error) = announcement {
            failure = Some(error);
        }
    }
    failure
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
    let mut announcements = BufReader::new(stdout);
    match interrupted.run_until_cancelled(ready(&mut announcements, display)).await {
        Some(Ok(Some(socket))) => {
            Ok(Started { socket, running: Running { child, failure: tokio::spawn(failure(announcements)) } })
        }
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
            end(Running { child, failure: tokio::spawn(failure(announcements)) }).await?;
            Err(interruption())
        }
    }
}

/// What to end with when somebody does not want to wait any longer.
pub(super) fn interruption() -> anyhow::Error {
    StartError { exit: Exit::Interrupted, message: "interrupted".to_owned() }.into()
}

/// Shows what a supervisor tells, until its environment can be used. `None`: it went away without a word.
async fn ready(announcements: &mut BufReader<ChildStdout>, display: &Display) -> anyhow::Result<Option<PathBuf>> {
    loop {
        match receive(announcements).await.context("listening to the supervisor")? {
            Some(Announcement::Progress(event)) => display.show(event),
            Some(Announcement::Ready { socket }) => return Ok(Some(socket)),
            Some(Announcement::Failed(error)) => return Err(error.into()),
            None => return Ok(None),
        }
    }
}

/// Waits until a supervisor that was told to end has ended.
pub(super) async fn end(Running { mut child, failure }: Running) -> Result<(), EnvironmentError> {
    // Closed input is the order to end.
    drop(child.stdin.take());
    let ended = async {
        let status = child.wait().await?;
        // Its output has ended with it.
        let why = if status.success() { None } else { failure.await.ok().flatten() };
        io::Result::Ok((status, why))
    };
    match tokio::time::timeout(GONE_WITHIN, ended).await {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((_, Some(why)))) => Err(EnvironmentError::Broken(why.message)),
        Ok(Ok((status, None))) => Err(EnvironmentError::Broken(format!("the supervisor ended with {status}"))),
        Ok(Err(error)) => Err(EnvironmentError::Broken(format!("waiting for the supervisor: {error}"))),
        Err(_) => Err(EnvironmentError::Broken(late(&default_base(), child.id().unwrap_or_default()))),
    }
}

/// What to say of a supervisor, whose run is in `base`, that does not end: what it is waiting for, as its log has it.
pub(super) fn late(base: &Path, pid: u32) -> String {
    let words = last_words(base, pid).map(|words| format!(" (its log ends with: {words})")).unwrap_or_default();
    format!(
        "the supervisor (pid {pid}) did not end within {} s{words}; kill it, and run `conformance clean`",
        GONE_WITHIN.as_secs()
    )
}

fn last_words(base: &Path, pid: u32) -> Option<String> {
    let of = |state: &State| state.supervisor.pid == pid && state.is_alive();
    let run = list(base).ok()?.into_iter().find(|run| run.state.as_ref().is_some_and(of))?;
    let log = std::fs::read(run.directory.join(LOG)).ok()?;
    Some(redact(String::from_utf8_lossy(&log).lines().next_back()?))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::process::{Run, RunError};

    /// A run of this process with a record that could be used.
    fn run(base: &Path) -> Run {
        let run = Run::create(base).unwrap();
        let record =
            Record { life: Life::Kept { idle_seconds: 1 }, socket: "socket".into(), kubeconfig: "kubeconfig".into() };
        record.write(run.directory()).unwrap();
        run
    }

    #[tokio::test]
    async fn what_others_may_have_written_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("runs");
        let display = Display::stderr();
        assert!(Kept::find(&base).unwrap().is_none(), "there is no directory");
        run(&base);
        assert_eq!(Kept::find(&base).unwrap().unwrap().supervisor, Identity::own());
        drop(lock(&base, &display).await.unwrap());

        std::fs::set_permissions(&base, Permissions::from_mode(0o777)).unwrap();
        let refused = |error: anyhow::Error| matches!(error.downcast_ref(), Some(RunError::NotOurs { .. }));
        assert!(Kept::find(&base).err().is_some_and(refused));
        assert!(lock(&base, &display).await.err().is_some_and(refused));
    }

    #[test]
    fn of_a_supervisor_that_does_not_end_the_last_words_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("runs");
        let run = run(&base);
        std::fs::write(run.directory().join(LOG), "starting\nending what runs\n").unwrap();
        let words = " (its log ends with: ending what runs)";
        for (pid, words) in [(std::process::id(), words), (0, "")] {
            let begin = format!("the supervisor (pid {pid}) did not end within 70 s");
            assert_eq!(late(&base, pid), format!("{begin}{words}; kill it, and run `conformance clean`"));
        }
    }
}
