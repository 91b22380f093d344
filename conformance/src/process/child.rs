//! A running child.

use std::io;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::watch;

use super::procfs::Identity;
use super::spawner::Spawner;

/// A child process, which leads a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    identity: Identity,
    grace: Duration,
    exit: Exit,
    streams: Mutex<(Option<ChildStdout>, Option<ChildStderr>)>,
    /// The thread that forked must outlive the child: the kernel's death signal hangs on it.
    _spawner: Spawner,
}

/// Tells when a process has ended. Any number of tasks may wait, each with a clone of its own.
#[derive(Clone, Debug)]
pub struct Exit(pub(super) watch::Receiver<Option<ExitStatus>>);

impl Exit {
    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        *self.0.borrow()
    }

    /// Waits until it has ended. Safe to cancel.
    pub async fn wait(&mut self) -> ExitStatus {
        match self.0.wait_for(Option::is_some).await.map(|status| *status) {
            Ok(Some(status)) => status,
            // The task that waits for the child was dropped: the runtime is shutting down.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

impl Process {
    pub(super) fn new(
        name: String,
        identity: Identity,
        grace: Duration,
        exit: Exit,
        streams: (Option<ChildStdout>, Option<ChildStderr>),
        spawner: Spawner,
    ) -> Self {
        Self { name, identity, grace, exit, streams: Mutex::new(streams), _spawner: spawner }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Its pid and start time.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A handle that tells when it has ended, without owning the process.
    pub fn exit(&self) -> Exit {
        self.exit.clone()
    }

    /// Waits until it has ended. Any number of tasks may wait. Safe to cancel.
    pub async fn wait(&self) -> ExitStatus {
        self.exit().wait().await
    }

    /// Its standard output, once, if it goes to a pipe.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.streams.lock().ok()?.0.take()
    }

    /// Its standard error, once, if it goes to a pipe.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.streams.lock().ok()?.1.take()
    }

    /// Sends a signal to the process alone. A process that has ended gets none, and that is no error.
    ///
    /// # Errors
    /// The kernel refuses: the process has changed to a user that we may not signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.send(signal, signal::kill)
    }

    /// Sends a signal to the whole process group.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn signal_group(&self, signal: Signal) -> io::Result<()> {
        self.send(signal, signal::killpg)
    }

    fn send(&self, signal: Signal, kill: fn(Pid, Option<Signal>) -> nix::Result<()>) -> io::Result<()> {
        if self.exit.status().is_some() {
            return Ok(());
        }
        match kill(raw(self.identity.pid), Some(signal)) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends it: SIGTERM to the group, and SIGKILL to what is left of it after the grace of its [`super::Launch`].
    pub async fn stop(&self) -> ExitStatus {
        self.stop_within(self.grace).await
    }

    /// As [`Process::stop`], with another grace.
    pub async fn stop_within(&self, grace: Duration) -> ExitStatus {
        if let Err(error) = self.signal_group(Signal::SIGTERM) {
            tracing::warn!(process = %self.name, pid = self.pid(), %error, "cannot send SIGTERM");
        }
        if let Ok(status) = tokio::time::timeout(grace, self.wait()).await {
            return status;
        }
        tracing::debug!(process = %self.name, pid = self.pid(), ?grace, "did not end in time, killing it");
        self.kill().await
    }

    /// Ends it and its group at once (SIGKILL).
    pub async fn kill(&self) -> ExitStatus {
        if let Err(error) = self.signal_group(Signal::SIGKILL) {
            tracing::warn!(process = %self.name, pid = self.pid(), %error, "cannot send SIGKILL");
        }
        self.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell; the next sweep finds what could not be killed.
        let _ = self.signal_group(Signal::SIGKILL);
    }
}

/// A pid as nix wants it. Linux never hands out one above 2^22.
pub(super) fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}
