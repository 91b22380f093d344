//! The thread that forks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};

use super::child::{Exit, Process, raw};
use super::launch::{Launch, Output};
use super::procfs::Identity;
use super::run::Run;
use super::{RUN_VARIABLE, shim};

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Our own binary, through which every process is started, could not be started.
    #[error("cannot start {name}: starting the launcher {}: {source}", launcher.display())]
    Launcher {
        /// What was to be started.
        name: String,
        /// Our own binary.
        launcher: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program itself could not be started.
    #[error("cannot start {name}: {}: {reason} (is it there, and may uid {uid} execute it?)", program.display())]
    Program {
        /// What was to be started.
        name: String,
        /// Its file.
        program: PathBuf,
        /// The system's words.
        reason: String,
        /// The user it was to run as.
        uid: u32,
    },
    /// The file for its output could not be opened.
    #[error("cannot start {name}: opening its log {}: {source}", path.display())]
    Log {
        /// What was to be started.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The state file of the run could not be written.
    #[error("cannot start {name}: noting it in the state of the run: {source}")]
    State {
        /// What was to be started.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// A command that was to end by itself did not.
    #[error("{name} did not end within {} s (killed); it wrote: {}", limit.as_secs_f32(), if output.is_empty() { "nothing" } else { output })]
    Deadline {
        /// The command.
        name: String,
        /// How long it had.
        limit: Duration,
        /// The end of what it wrote.
        output: String,
    },
    /// The runtime is shutting down.
    #[error("cannot start {name}: shutting down")]
    Closed {
        /// What was to be started.
        name: String,
    },
}

/// What a command that ran to its end has left.
#[derive(Clone, Debug)]
pub struct Completed {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Starts child processes, all from one thread that lives as long as the last of them.
///
/// A cheap handle. Must be made, and used, within a tokio runtime.
#[derive(Clone, Debug)]
pub struct Spawner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    jobs: mpsc::Sender<Job>,
    launcher: PathBuf,
    run: Arc<Run>,
}

struct Job {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    /// A spawner whose children belong to `run`. `launcher` is the `conformance` binary: `None` means this very program.
    ///
    /// # Errors
    /// The thread cannot be started, or the path of this program cannot be found.
    pub fn new(run: Arc<Run>, launcher: Option<PathBuf>) -> io::Result<Self> {
        let launcher = match launcher {
            Some(path) => std::path::absolute(path)?,
            None => std::env::current_exe()?,
        };
        let (jobs, queue) = mpsc::channel::<Job>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            let _entered = runtime.enter();
            for mut job in queue {
                // Nobody waits any more: the child is dropped, which kills it (see `kill_on_drop`).
                let _ = job.reply.send(job.command.spawn());
            }
        })?;
        Ok(Self { shared: Arc::new(Shared { jobs, launcher, run }) })
    }

    /// The run to which the children belong.
    pub fn run(&self) -> &Arc<Run> {
        &self.shared.run
    }

    /// Starts a process. Returns when the program itself runs, or could not be started.
    pub async fn spawn(&self, launch: &Launch) -> Result<Process, SpawnError> {
        let name = || launch.name.clone();
        let failed = |source| SpawnError::Launcher { name: name(), launcher: self.shared.launcher.clone(), source };

        let (report, their_end) = io::pipe().map_err(failed)?;
        let (reply, forked) = oneshot::channel();
        let job = Job { command: self.command(launch, their_end.into())?, reply };
        self.shared.jobs.send(job).map_err(|_| SpawnError::Closed { name: name() })?;
        let mut child = forked.await.map_err(|_| SpawnError::Closed { name: name() })?.map_err(failed)?;

        let mut report = pipe::Receiver::from_owned_fd(OwnedFd::from(report)).map_err(failed)?;
        let mut reason = String::new();
        report.read_to_string(&mut reason).await.map_err(failed)?;
        if !reason.is_empty() {
            let _ = child.wait().await;
            let uid = launch.account.map_or_else(|| nix::unistd::geteuid().as_raw(), |account| account.uid);
            return Err(SpawnError::Program { name: name(), program: launch.program.clone(), reason, uid });
        }

        let Some(pid) = child.id() else { return Err(SpawnError::Closed { name: name() }) };
        // A program that has ended already is a zombie without a start time, and needs none.
        let identity = Identity::of(pid).unwrap_or(Identity { pid, start_time: 0 });
        let run = Arc::clone(&self.shared.run);
        run.record(&launch.name, identity).map_err(|source| SpawnError::State { name: name(), source })?;
        let streams = (child.stdout.take(), child.stderr.take());
        let exit = watch_over(child, identity, run);
        Ok(Process::new(launch.name.clone(), identity, launch.grace, exit, streams, self.clone()))
    }

    /// Runs a command to its end and collects its output; it is killed when it takes longer than `limit`.
    ///
    /// How it ended is the caller's to judge: a non-zero exit code is not an error here.
    pub async fn complete(&self, launch: &Launch, limit: Duration) -> Result<Completed, SpawnError> {
        let launch = launch.clone().stdout(Output::Pipe).stderr(Output::Pipe);
        let process = self.spawn(&launch).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let ended = tokio::time::timeout(limit, async {
            let streams =
                tokio::join!(drain(process.take_stdout(), &mut stdout), drain(process.take_stderr(), &mut stderr));
            (process.wait().await, streams)
        })
        .await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Ok((status, _)) = ended else {
            process.kill().await;
            let output = tail(&(text(&stdout) + &text(&stderr)));
            return Err(SpawnError::Deadline { name: launch.name, limit, output });
        };
        Ok(Completed { status, stdout: text(&stdout), stderr: text(&stderr) })
    }

    fn command(&self, launch: &Launch, report: OwnedFd) -> Result<Command, SpawnError> {
        let mut command = Command::new(&self.shared.launcher);
        command.arg(shim::COMMAND).arg("--parent").arg(std::process::id().to_string());
        if let Some(account) = launch.account {
            command.args(["--uid", &account.uid.to_string(), "--gid", &account.gid.to_string()]);
        }
        command.arg("--").arg(&launch.program).args(&launch.arguments);
        command.env_clear().envs(&launch.environment).env(RUN_VARIABLE, self.shared.run.id());
        if let Some(directory) = &launch.directory {
            command.current_dir(directory);
        }
        command.stdin(report);
        let stream = |output: &Output| match output {
            Output::Null => Ok(Stdio::null()),
            Output::Pipe => Ok(Stdio::piped()),
            Output::Append(path) => append(path).map(Stdio::from).map_err(|source| SpawnError::Log {
                name: launch.name.clone(),
                path: path.clone(),
                source,
            }),
        };
        command.stdout(stream(&launch.stdout)?).stderr(stream(&launch.stderr)?).kill_on_drop(true);
        Ok(command)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Reaps the child, ends what it left in its group, and tells everyone.
fn watch_over(mut child: Child, identity: Identity, run: Arc<Run>) -> Exit {
    let (tell, exit) = watch::channel(None);
    tokio::spawn(async move {
        let status = match child.wait().await {
            Ok(status) => status,
            Err(error) => {
                tracing::error!(pid = identity.pid, %error, "cannot wait for a child");
                return;
            }
        };
        // A group never outlives its leader; ESRCH, the usual answer, says that nothing was left.
        let _ = nix::sys::signal::killpg(raw(identity.pid), nix::sys::signal::Signal::SIGKILL);
        if let Err(error) = run.forget(identity) {
            tracing::debug!(pid = identity.pid, %error, "cannot note the end of a child");
        }
        tell.send_replace(Some(status));
    });
    Exit(exit)
}

async fn drain(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> io::Result<()> {
    match stream {
        Some(mut stream) => stream.read_to_end(into).await.map(drop),
        None => Ok(()),
    }
}

/// The last lines of `text`, for messages.
fn tail(text: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
