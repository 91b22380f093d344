//! What is left on the machine when a run ends: by itself, by Ctrl-C, or because something was killed at a bad moment.
//!
//! Started by `just leaks`; takes minutes. Every round runs real scenarios in a temporary directory of its own, so that what
//! belongs to it can be told from everything else on the machine. `LEAKS_ROUNDS` says how many random moments are tried of
//! each kind, `LEAKS_SEED` repeats those of an earlier time.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use conformance::process::{Found, Identity, RUN_VARIABLE, Signal, list};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use self::machine::{Machine, names, segments};

#[path = "support/machine.rs"]
mod machine;

/// Bounds a whole run on a busy machine; only a defect lets a round reach it.
const RUN: Duration = Duration::from_mins(5);

/// Bounds what a supervisor needs to end when its runner is gone.
const END: Duration = Duration::from_secs(30);

/// How often a state that nothing announces is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The rounds would see each other's processes.
static ALONE: Mutex<()> = Mutex::new(());

/// A directory for everything of one round.
struct Round {
    directory: tempfile::TempDir,
    /// Ids of runs that were seen in it.
    runs: BTreeSet<String>,
    /// Shared memory of the PostgreSQL servers that were seen in it: key and id. Others run servers on this machine too.
    shared_memory: BTreeSet<String>,
    before: Machine,
}

impl Round {
    fn new() -> Self {
        // The paths of sockets must be short.
        let directory = tempfile::Builder::new().prefix("leaks-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self { directory, runs: BTreeSet::new(), shared_memory: BTreeSet::new(), before: Machine::now() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the runs of this round are.
    fn base(&self) -> PathBuf {
        self.path().join(format!("dittofs-conformance-{}", nix::unistd::geteuid()))
    }

    fn conformance(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
        command.args(arguments).env("TMPDIR", self.path()).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        command.stdin(Stdio::null());
        command
    }

    /// A runner in a process group of its own, as a shell would start it.
    fn start(&self) -> Child {
        let reports = self.path().join("reports");
        let log = fs::File::create(self.path().join("log")).unwrap();
        self.conformance(&["run", "--filter", "stanza_reaches_s3", "--filter", "crd_absent", "--report-dir"])
            .arg(reports)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap()
    }

    /// The run that is there, once it is; `None` when the runner has ended.
    fn run(&mut self, runner: &mut Child) -> Option<Found> {
        loop {
            let runs = list(&self.base()).unwrap_or_default();
            if let Some(run) = runs.into_iter().find(|run| run.state.is_some()) {
                self.runs.insert(run.id().to_owned());
                return Some(run);
            }
            if runner.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Notes what is there now, so that it can be looked for later.
    fn note(&mut self) {
        let runs = list(&self.base()).unwrap_or_default();
        self.runs.extend(runs.iter().map(|run| run.id().to_owned()));
        let mut open: Vec<PathBuf> = runs.into_iter().map(|run| run.directory).collect();
        while let Some(directory) = open.pop() {
            // Directories and files come and go meanwhile.
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push(entry.path());
                } else if entry.file_name() == "postmaster.pid" {
                    let text = fs::read_to_string(entry.path()).unwrap_or_default();
                    let segment = text.lines().nth(6).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
                    self.shared_memory.extend(segment);
                }
            }
        }
    }

    /// Lets the next command clean up, and checks that nothing is left.
    fn clean(&mut self) {
        self.note();
        let output = self.conformance(&["clean"]).output().unwrap();
        assert!(output.status.success(), "clean: {}", String::from_utf8_lossy(&output.stderr));
        self.check("after `conformance clean`");
    }

    fn check(&self, when: &str) {
        let mut left = String::new();
        for process in self.processes() {
            writeln!(left, "process {process}").unwrap();
        }
        for file in self.files() {
            writeln!(left, "file {}", file.display()).unwrap();
        }
        for segment in segments().intersection(&self.shared_memory) {
            writeln!(left, "shared memory {segment}").unwrap();
        }
        let after = Machine::now();
        for (what, before, after) in [
            ("mount", &self.before.mounts, &after.mounts),
            ("unfinished cache entry", &self.before.cache, &after.cache),
        ] {
            for new in after.difference(before) {
                writeln!(left, "{what} {new}").unwrap();
            }
        }
        let log = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        assert!(left.is_empty(), "left {when}:\n{left}\nthe runner's output:\n{log}");
    }

    /// Processes that have to do with this round: by their environment, arguments or working directory.
    fn processes(&self) -> Vec<String> {
        let ours = self.path().to_str().unwrap();
        let marks: Vec<String> = self.runs.iter().map(|id| format!("{RUN_VARIABLE}={id}")).collect();
        names(Path::new("/proc"))
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|pid| *pid != std::process::id() && Identity::of(*pid).is_some())
            .filter_map(|pid| {
                let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let (arguments, environment) = (read("cmdline"), read("environ"));
                let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
                let text = String::from_utf8_lossy(&environment);
                let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
                let is_ours = text.contains(ours)
                    || arguments.contains(ours)
                    || directory.starts_with(ours)
                    || marks.iter().any(|mark| text.split('\0').any(|variable| variable == mark));
                is_ours.then(|| format!("{pid}: {arguments}"))
            })
            .collect()
    }

    /// Files that a run has left, Unix sockets among them; of a directory only itself.
    fn files(&self) -> Vec<PathBuf> {
        let expected = |path: &Path| {
            path.starts_with(self.path().join("reports"))
                || path == self.path().join("log")
                || path == self.base()
                || (path.parent() == Some(&self.base()) && path.extension().is_some_and(|kind| kind == "lock"))
                || path == self.base().join("lock")
        };
        let mut found = Vec::new();
        let mut open = vec![self.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                if !expected(&entry.path()) {
                    found.push(entry.path());
                } else if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                }
            }
        }
        found
    }
}

/// Waits until a process has ended. It need not be our child.
fn gone(pid: u32, within: Duration, what: &str) {
    let Ok(handle) = pidfd_open(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), PidfdFlags::empty()) else {
        return;
    };
    let ready = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&within.try_into().unwrap()));
    assert_eq!(ready, Ok(1), "{what} (pid {pid}) does not end within {within:?}");
}

fn finish(runner: &mut Child) -> ExitStatus {
    gone(runner.id(), RUN, "the runner");
    runner.wait().unwrap()
}

fn send(pid: u32, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// Kills a process if it still is the one that was meant.
fn kill(identity: Identity) {
    let pid = Pid::from_raw(i32::try_from(identity.pid).unwrap()).unwrap();
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if identity.is_alive() {
        pidfd_send_signal(&handle, rustix::process::Signal::KILL).unwrap();
    }
}

/// How many random moments are tried of each kind.
fn rounds() -> usize {
    std::env::var("LEAKS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Random moments between a start and a usual end, other ones each time.
fn moments(kind: u64) -> Vec<Duration> {
    static SEED: OnceLock<u64> = OnceLock::new();
    let seed = *SEED.get_or_init(|| {
        let seed = std::env::var("LEAKS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
        eprintln!("LEAKS_SEED={seed}");
        seed
    });
    let mut random = StdRng::seed_from_u64(seed ^ kind);
    let usual = usual().0;
    (0..rounds()).map(|_| random.random_range(Duration::ZERO..usual)).collect()
}

/// How long an undisturbed run takes, and the programs that take part in it.
fn usual() -> &'static (Duration, BTreeSet<String>) {
    static USUAL: OnceLock<(Duration, BTreeSet<String>)> = OnceLock::new();
    USUAL.get_or_init(|| {
        let mut round = Round::new();
        let started = Instant::now();
        let mut runner = round.start();
        let mut programs = BTreeSet::new();
        while runner.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < RUN, "an undisturbed run does not end");
            for run in list(&round.base()).unwrap_or_default() {
                round.runs.insert(run.id().to_owned());
                programs.extend(
                    run.state.iter().flat_map(|state| &state.children).filter_map(|child| program(child.identity)),
                );
            }
            std::thread::sleep(LOOK);
        }
        let took = started.elapsed();
        let status = runner.wait().unwrap();
        let log = fs::read_to_string(round.path().join("log")).unwrap();
        // Whether the scenarios pass is not what is judged here, but they must have been run.
        assert!(matches!(status.code(), Some(0 | 1)), "an undisturbed run ends with {status}:\n{log}");
        round.check("after a run");
        eprintln!("a run takes {took:?}, with {programs:?}");
        (took, programs)
    })
}

fn program(identity: Identity) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{}/comm", identity.pid)).ok()?;
    identity.is_alive().then(|| name.trim().to_owned())
}

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
#[ignore = "takes minutes: `just leaks`"]
fn after_a_run() {
    let _alone = alone();
    assert!(!usual().1.is_empty());
}

#[test]
#[ignore = "takes minutes: `just leaks`"]
fn after_ctrl_c() {
    let _alone = alone();
    for moment in moments(1) {
        eprintln!("Ctrl-C after {moment:?}");
        let mut round = Round::new();
        let mut runner = round.start();
        std::thread::sleep(moment);
        round.note();
        send(runner.id(), Signal::SIGINT);
        finish(&mut runner);
        round.check("after Ctrl-C");
    }
}

#[test]
#[ignore = "takes minutes: `just leaks`"]
fn after_ctrl_c_twice() {
    let _alone = alone();
    for moment in moments(2) {
        eprintln!("Ctrl-C twice after {moment:?}");
        let mut round = Round::new();
        let mut runner = round.start();
        let run = round.run(&mut runner);
        std::thread::sleep(moment);
        round.note();
        send(runner.id(), Signal::SIGINT);
        // Of two signals that are pending at the same time, the kernel delivers one.
        std::thread::sleep(Duration::from_millis(200));
        send(runner.id(), Signal::SIGINT);
        finish(&mut runner);
        end_of(run);
        round.clean();
    }
}

#[test]
#[ignore = "takes minutes: `just leaks`"]
fn after_the_runner_was_killed() {
    let _alone = alone();
    for moment in moments(3) {
        eprintln!("kill -9 of the runner after {moment:?}");
        let mut round = Round::new();
        let mut runner = round.start();
        let run = round.run(&mut runner);
        std::thread::sleep(moment);
        round.note();
        runner.kill().unwrap();
        finish(&mut runner);
        end_of(run);
        round.clean();
    }
}

/// The supervisor ends by itself when its runner is gone; `conformance clean` leaves it alone until then.
fn end_of(run: Option<Found>) {
    if let Some(state) = run.and_then(|run| run.state) {
        gone(state.supervisor.pid, END, "the supervisor");
    }
}

#[test]
#[ignore = "takes minutes: `just leaks`"]
fn after_the_supervisor_was_killed() {
    let _alone = alone();
    for moment in moments(4) {
        eprintln!("kill -9 of the supervisor after {moment:?}");
        let mut round = Round::new();
        let mut runner = round.start();
        if let Some(state) = round.run(&mut runner).and_then(|run| run.state) {
            std::thread::sleep(moment);
            kill(state.supervisor);
        }
        let status = finish(&mut runner);
        eprintln!("the runner ended with {status}");
        round.clean();
    }
}

#[test]
#[ignore = "takes minutes: `just leaks`"]
fn after_any_child_was_killed() {
    let _alone = alone();
    for name in &usual().1 {
        eprintln!("kill -9 of {name}");
        let mut round = Round::new();
        let mut runner = round.start();
        while runner.try_wait().unwrap().is_none() {
            let Some(run) = round.run(&mut runner) else { break };
            let children = run.state.map(|state| state.children).unwrap_or_default();
            if let Some(child) = children.iter().find(|child| program(child.identity).as_ref() == Some(name)) {
                kill(child.identity);
                break;
            }
            std::thread::sleep(LOOK);
        }
        let status = finish(&mut runner);
        eprintln!("the runner ended with {status}");
        round.clean();
    }
}
