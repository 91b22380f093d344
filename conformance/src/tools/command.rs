//! Commands that find, fetch and build.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Instant, interval_at};

use super::cache::Cache;
use super::error::ToolError;
use super::progress::{Progress, Step};
use crate::process::{Launch, Output, SpawnError, Spawner};

/// Bounds a question such as `--version`. A program of 100 MB on a cold disk needs a few seconds.
const QUESTION: Duration = Duration::from_secs(30);

/// Bounds one build or download. The slowest, a cold build of Kubernetes on two cores, takes about six minutes.
pub(super) const WORK: Duration = Duration::from_mins(30);

/// A step is told at least so often that it is still at work; linkers are silent for a minute.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// How much of a failed command's output a message shows.
const LINES: usize = 15;

/// What the commands may see of our environment: how to reach the network, and where their caches are.
const INHERITED: [&str; 24] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "GOPATH",
    "GOCACHE",
    "GOMODCACHE",
    "GOPROXY",
    "GOSUMDB",
    "GOPRIVATE",
    "GONOPROXY",
    "GONOSUMDB",
    "GOINSECURE",
    "GOROOT",
    "GOMAXPROCS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
];

/// What every search for a tool works with. A cheap handle.
#[derive(Clone, Debug)]
pub struct Workshop {
    /// What was fetched or built before.
    pub cache: Cache,
    /// Starts the commands, so that nothing of them survives us. Their temporary files are in its run's directory.
    pub spawner: Spawner,
    /// Learns what is being done.
    pub progress: Progress,
}

impl Workshop {
    /// A command with the network's and the caches' variables.
    pub(crate) fn launch(name: &str, program: impl Into<std::path::PathBuf>) -> Launch {
        Launch::new(name, program).inherit(INHERITED)
    }

    /// A directory for temporary files, removed when dropped, or with the run.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir, ToolError> {
        let run = self.spawner.run().directory();
        tempfile::Builder::new().prefix("tools-").tempdir_in(run).map_err(ToolError::file("create a directory in", run))
    }

    /// Output of a short command; one that fails is [`ToolError::Unavailable`].
    pub(crate) async fn output(&self, launch: Launch) -> Result<String, ToolError> {
        let completed = match self.spawner.complete(&launch, QUESTION).await {
            Err(error @ SpawnError::Program { .. }) => {
                return Err(ToolError::Unavailable {
                    what: launch.name().to_owned(),
                    reason: error.to_string(),
                    remedy: "install it".to_owned(),
                });
            }
            completed => completed?,
        };
        if completed.status.success() {
            return Ok(completed.stdout + &completed.stderr);
        }
        let said: Vec<&str> = completed.stderr.lines().chain(completed.stdout.lines()).collect();
        Err(ToolError::Unavailable {
            what: launch.name().to_owned(),
            reason: format!("it ended with {}: {}", completed.status, said.join("; ")),
            remedy: "run it by hand to see what it lacks".to_owned(),
        })
    }

    /// Runs a long command whose standard error tells how far it is.
    ///
    /// # Errors
    /// The inner error is the end of what it wrote.
    pub(crate) async fn work(&self, launch: Launch, step: &Step) -> Result<Result<(), String>, ToolError> {
        let name = launch.name().to_owned();
        let process = self.spawner.spawn(&launch.stdout(Output::Null).stderr(Output::Pipe)).await?;
        let mut last = VecDeque::with_capacity(LINES);
        let work = async {
            if let Some(stream) = process.take_stderr() {
                let mut lines = BufReader::new(stream).lines();
                let mut alive = interval_at(Instant::now() + SIGN_OF_LIFE, SIGN_OF_LIFE);
                loop {
                    tokio::select! {
                        line = lines.next_line() => match line {
                            Ok(Some(line)) => {
                                step.note(line.as_str());
                                if last.len() == LINES {
                                    last.pop_front();
                                }
                                last.push_back(line);
                            }
                            Ok(None) | Err(_) => break,
                        },
                        _ = alive.tick() => step.note(last.back().cloned().unwrap_or_default()),
                    }
                }
            }
            process.wait().await
        };
        let status = tokio::time::timeout(WORK, work).await;
        let said = last.make_contiguous().join("\n");
        match status {
            Ok(status) if status.success() => Ok(Ok(())),
            Ok(status) => Ok(Err(format!("{name} ended with {status}:\n{said}"))),
            Err(_) => {
                process.kill().await;
                Err(SpawnError::Deadline { name, limit: WORK, output: said }.into())
            }
        }
    }
}
