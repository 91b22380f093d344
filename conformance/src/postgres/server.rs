//! A real PostgreSQL on an address of its own.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::template::{directory, own};
use super::{Error, Installation, Session, SslMode, Target, Trust, settings};
use crate::pki::Identity;
use crate::process::{Account, Exit, Launch, Process, Signal, SpawnError, Spawner};
use crate::redact::redact;

/// How long a server may take from its start to the first login; recovery after a kill included.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How often its state file is read meanwhile: PostgreSQL has no other way to tell.
const READY_POLL: Duration = Duration::from_millis(10);
/// How long a fast shutdown may take before it becomes an immediate one: `archive_command` can hold it up.
const FAST_DEADLINE: Duration = Duration::from_secs(3);
/// How long an immediate shutdown may take before the process is killed.
const IMMEDIATE_DEADLINE: Duration = Duration::from_secs(2);

/// What the system says of a machine that lacks something. Nothing in a server's data, its settings or its backups is told in
/// these words.
const OF_THE_MACHINE: [&str; 9] = [
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Input/output error",
    "Cannot allocate memory",
    "Too many open files",
    "could not fork",
    "Address already in use",
    "Unix-domain socket path",
];

/// Whether an error tells of something that the machine lacks.
pub fn blames_the_machine(text: &str) -> bool {
    OF_THE_MACHINE.iter().any(|words| text.contains(words))
}

/// Whether a server tells of that in its log, which also holds what sessions and pgBackRest have to say.
fn tells_of_the_machine(log: &str) -> bool {
    let own = |line: &&str| ["] LOG:", "] WARNING:", "] FATAL:", "] PANIC:"].iter().any(|level| line.contains(level));
    log.lines().filter(own).any(blames_the_machine)
}

/// A server could not be brought up, or did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A process could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A file could not be read or written.
    #[error("cannot prepare {}: {source}", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The process has ended by itself.
    #[error("{name} ended ({status}); the end of its log: {log}")]
    Ended {
        /// Which server.
        name: String,
        /// How.
        status: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// It runs, but takes no logins.
    #[error("{name} takes no logins after {READY_DEADLINE:?} ({state}); the end of its log: {log}")]
    NotReady {
        /// Which server.
        name: String,
        /// What its state file said last.
        state: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// A statement of the harness itself failed.
    #[error(transparent)]
    Sql(#[from] Error),
}

impl ServerError {
    /// Whether this is surely the machine's fault. What is only slow, or ends over its data, its certificate or a backup that it is
    /// to begin with, may be the fault of whoever has asked for those.
    pub fn is_of_the_machine(&self) -> bool {
        match self {
            Self::Spawn(error) => !matches!(error, SpawnError::Closed { .. }),
            Self::Files { .. } => true,
            Self::Ended { log, .. } | Self::NotReady { log, .. } => tells_of_the_machine(log),
            Self::Sql(_) => false,
        }
    }

    pub(super) fn files(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Files { path: path.clone(), source }
    }
}

/// What a server is made of.
#[derive(Clone)]
pub struct ServerOptions {
    /// What messages call it.
    pub name: String,
    /// Its programs.
    pub installation: Installation,
    /// Its data. Kept when the server stops; filled from the template when it is not there, or not whole.
    pub data: PathBuf,
    /// A directory for its socket and its log; made when it is not there. Its path has 85 bytes at most, for that of a socket in
    /// it has 22 more: [`crate::process::Run::create`] sees to that.
    pub directory: PathBuf,
    /// Where it listens (see [`super::Addresses`]).
    pub address: SocketAddrV4,
    /// The certificate that it shows.
    pub identity: Identity,
    /// What is done with a finished WAL segment; `true` when nothing is.
    pub archive_command: String,
    /// Starts the process.
    pub spawner: Spawner,
}

/// A running PostgreSQL. Dropping it kills the process; [`Server::stop`] ends it in order.
#[derive(Debug)]
pub struct Server {
    address: SocketAddrV4,
    socket: PathBuf,
    process: Process,
}

impl ServerOptions {
    /// Starts the server and waits until it takes logins.
    pub async fn start(&self) -> Result<Server, ServerError> {
        let account = Account::nobody_if_root();
        if !self.data.join("PG_VERSION").exists() {
            self.installation.fill(self.data.clone()).await?;
        }
        self.write(account).map_err(ServerError::files(&self.directory))?;
        let launch = Launch::new(&self.name, self.installation.program("postgres"))
            .arg("-D")
            .arg(&self.data)
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/bin:/bin")
            .account(account)
            .log(self.log());
        let process = self.spawner.spawn(&launch).await?;
        let server = Server { address: self.address, socket: self.socket(), process };
        self.ready(&server).await?;
        Ok(server)
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("postgresql.log")
    }

    /// The directory of the Unix socket through which the harness logs in.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn write(&self, account: Option<Account>) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.directory)?;
        if !self.socket().exists() {
            directory(&self.socket(), account)?;
        }
        let settings = settings::render(self.address, &self.socket(), &self.archive_command);
        for (name, text) in [
            ("postgresql.conf", settings.as_str()),
            ("pg_hba.conf", settings::HBA),
            ("server.crt", &self.identity.certificate),
            ("server.key", &self.identity.key),
        ] {
            let path = self.data.join(name);
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            own(&path, account)?;
        }
        // What a killed server left: without it the new one would first ask whether that pid still lives.
        match fs::remove_file(self.data.join("postmaster.pid")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn ready(&self, server: &Server) -> Result<(), ServerError> {
        let deadline = Instant::now() + READY_DEADLINE;
        let mut exit = server.exit();
        let mut state = String::from("no state yet");
        while Instant::now() < deadline {
            // The eighth line of postmaster.pid says how far the server is.
            if let Ok(text) = fs::read_to_string(self.data.join("postmaster.pid")) {
                text.lines().nth(7).unwrap_or("starting").trim().clone_into(&mut state);
            }
            if state == "ready" && server.superuser("postgres").await.is_ok() {
                return Ok(());
            }
            tokio::select! {
                status = exit.wait() => {
                    return Err(ServerError::Ended {
                        name: self.name.clone(),
                        status: status.to_string(),
                        log: self.tail(),
                    });
                }
                () = tokio::time::sleep(READY_POLL) => {}
            }
        }
        Err(ServerError::NotReady { name: self.name.clone(), state, log: self.tail() })
    }

    fn tail(&self) -> String {
        const LINES: usize = 12;
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        redact(&lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Tells when the process has ended.
    pub fn exit(&self) -> Exit {
        self.process.exit()
    }

    /// The directory of its Unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A superuser's session in `dbname`, through the Unix socket.
    pub async fn superuser(&self, dbname: &str) -> Result<Session, Error> {
        let path = self.socket.join(format!(".s.PGSQL.{}", self.address.port()));
        let target = Target {
            host: "localhost".to_owned(),
            port: self.address.port(),
            user: "postgres".to_owned(),
            password: None,
            dbname: dbname.to_owned(),
            sslmode: SslMode::Disable,
        };
        let stream = UnixStream::connect(&path)
            .await
            .map_err(|error| Error::Unreachable { address: path.display().to_string(), reason: error.to_string() })?;
        target.connect(stream, &Trust::Any).await
    }

    /// The number that `initdb` gave to the data, by which pgBackRest and Patroni know it.
    pub async fn system_identifier(&self) -> Result<Option<String>, Error> {
        self.superuser("postgres").await?.value("select system_identifier from pg_control_system()").await
    }

    /// Ends the server: fast, then immediately, then by SIGKILL. Its data stays.
    pub async fn stop(&self) {
        for (signal, limit) in [(Signal::SIGINT, FAST_DEADLINE), (Signal::SIGQUIT, IMMEDIATE_DEADLINE)] {
            if let Err(error) = self.process.signal(signal) {
                tracing::warn!(server = self.process.name(), %signal, %error, "cannot signal PostgreSQL");
            }
            if tokio::time::timeout(limit, self.process.wait()).await.is_ok() {
                return;
            }
        }
        self.process.kill().await;
    }

    /// Kills the postmaster (SIGKILL), and waits until its children have noticed and ended too: as long as one of them
    /// holds the shared memory, no server starts on this data.
    pub async fn kill(&self) {
        let children = children(self.process.pid());
        self.process.kill().await;
        let ended = tokio::task::spawn_blocking(move || {
            let limit = IMMEDIATE_DEADLINE.try_into().ok();
            children.iter().all(|child| {
                matches!(rustix::event::poll(&mut [PollFd::new(child, PollFlags::IN)], limit.as_ref()), Ok(1))
            })
        });
        if !matches!(ended.await, Ok(true)) {
            tracing::warn!(server = self.process.name(), "children of a killed PostgreSQL still run");
        }
    }
}

/// Handles of the children of `pid`; one that ends meanwhile is left out.
fn children(pid: u32) -> Vec<OwnedFd> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|child| Pid::from_raw(child.parse().ok()?))
        .filter_map(|child| pidfd_open(child, PidfdFlags::empty()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const AT: &str = "2026-01-01 10:00:00.000 UTC [7]";

    fn ended(last: &str) -> ServerError {
        let log = format!("{AT} LOG:  starting PostgreSQL 16.4\n{last}");
        ServerError::Ended { name: "db".to_owned(), status: "exit status: 1".to_owned(), log }
    }

    fn slow(log: &str) -> ServerError {
        ServerError::NotReady { name: "db".to_owned(), state: "starting".to_owned(), log: log.to_owned() }
    }

    fn refused() -> ServerError {
        let (name, program) = ("db".to_owned(), PathBuf::from("/bin/postgres"));
        SpawnError::Program { name, program, reason: "Permission denied".to_owned(), uid: 65534 }.into()
    }

    #[rstest]
    #[case::full(ended(&format!("{AT} FATAL:  could not write lock file: No space left on device")), true)]
    #[case::no_processes(slow(&format!("{AT} LOG:  could not fork startup process: Resource unavailable")), true)]
    #[case::a_program_that_cannot_be_started(refused(), true)]
    #[case::a_file(ServerError::files(Path::new("/run/c1"))(io::ErrorKind::PermissionDenied.into()), true)]
    #[case::the_end_of_the_suite(SpawnError::Closed { name: "db".to_owned() }.into(), false)]
    #[case::a_certificate(ended(&format!("{AT} FATAL:  could not load server certificate file: no start line")), false)]
    #[case::a_backup_without_its_wal(ended(&format!("{AT} FATAL:  could not locate required checkpoint")), false)]
    #[case::long_recovery(slow(&format!("{AT} LOG:  restored log file from archive")), false)]
    #[case::pgbackrest(ended("ERROR: [047]: unable to create path '/sys/x': [30] Read-only file system"), false)]
    #[case::a_session(slow(&format!("{AT} app@app ERROR:  could not extend file: No space left on device")), false)]
    fn only_what_nobody_has_asked_for_is_the_machine_s_fault(#[case] error: ServerError, #[case] expected: bool) {
        assert_eq!(error.is_of_the_machine(), expected, "{error}");
    }
}
