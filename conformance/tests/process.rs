//! Real children: how they start, end, and what is left of them when their supervisor is killed.

use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use conformance::process::{
    Account, Identity, Launch, Output, RUN_VARIABLE, Run, Signal, SpawnError, Spawner, list, sweep,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Bounds every wait of these tests; only a defect lets one reach it.
const DEADLINE: Duration = Duration::from_secs(30);

struct Fixture {
    base: PathBuf,
    spawner: Spawner,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("runs");
        let spawner = spawner(&base);
        Self { base, spawner, _directory: directory }
    }
}

fn spawner(base: &Path) -> Spawner {
    let run = Arc::new(Run::create(base).unwrap());
    Spawner::new(run, Some(env!("CARGO_BIN_EXE_conformance").into())).unwrap()
}

fn shell(script: &str) -> Launch {
    Launch::new("shell", "/bin/sh").args(["-c", script]).inherit(["PATH"])
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Resolves when that very process is gone, which may not be our child.
async fn gone(identity: Identity) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(identity.pid).unwrap()).unwrap();
    let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) else { return };
    if !identity.is_alive() {
        return;
    }
    let limit = DEADLINE.try_into().unwrap();
    let ready = tokio::task::spawn_blocking(move || {
        rustix::event::poll(&mut [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)], Some(&limit))
    });
    assert_eq!(ready.await.unwrap(), Ok(1), "{identity:?} does not end");
}

#[tokio::test]
async fn a_child_sees_only_what_it_was_given() {
    let fixture = Fixture::new();
    let launch = Launch::new("env", "/usr/bin/env").env("A", "1").directory("/");
    let completed = fixture.spawner.complete(&launch, DEADLINE).await.unwrap();
    assert!(completed.status.success());
    assert_eq!(completed.stdout, format!("A=1\n{RUN_VARIABLE}={}\n", fixture.spawner.run().id()));
}

#[tokio::test]
async fn a_child_leads_a_session_of_its_own() {
    let fixture = Fixture::new();
    let process = fixture.spawner.spawn(&shell("sleep 1000")).await.unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let pid = process.pid().to_string();
    assert_eq!((fields[2], fields[3]), (pid.as_str(), pid.as_str()), "process group and session");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_spawn_error() {
    let fixture = Fixture::new();
    let error = fixture.spawner.spawn(&Launch::new("etcd", "/nowhere/etcd")).await.unwrap_err();
    assert!(matches!(error, SpawnError::Program { .. }));
    let message = error.to_string();
    assert!(message.starts_with("cannot start etcd: /nowhere/etcd: No such file or directory"), "{message}");
}

#[tokio::test]
async fn everyone_who_waits_learns_the_exit_code() {
    let fixture = Fixture::new();
    let process = fixture.spawner.spawn(&shell("exit 7")).await.unwrap();
    let (first, second) = in_time("both waiters", async { tokio::join!(process.wait(), process.wait()) }).await;
    assert_eq!((first.code(), second.code()), (Some(7), Some(7)));
    assert_eq!(list(&fixture.base).unwrap()[0].state.as_ref().unwrap().children, []);
}

#[tokio::test]
async fn output_is_appended_to_the_log() {
    let fixture = Fixture::new();
    let log = fixture.base.join("log");
    for word in ["one", "two"] {
        let process = fixture.spawner.spawn(&shell(&format!("echo {word}")).log(&log)).await.unwrap();
        in_time("the shell ends", process.wait()).await;
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n");
}

/// Starts a shell with a child of its own and returns both; the shell says when its child runs.
async fn with_grandchild(spawner: &Spawner, script: &str) -> (conformance::process::Process, Identity) {
    let launch = shell(script).stdout(Output::Pipe);
    let process = spawner.spawn(&launch).await.unwrap();
    let mut lines = BufReader::new(process.take_stdout().unwrap()).lines();
    let line = in_time("the shell speaks", lines.next_line()).await.unwrap().unwrap();
    (process, Identity::of(line.trim().parse().unwrap()).unwrap())
}

#[tokio::test]
async fn stop_ends_the_whole_group() {
    let fixture = Fixture::new();
    let (process, grandchild) = with_grandchild(&fixture.spawner, "sleep 1000 & echo $!; wait").await;
    let status = in_time("stop", process.stop()).await;
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    gone(grandchild).await;
}

#[tokio::test]
async fn stop_kills_what_ignores_sigterm() {
    let fixture = Fixture::new();
    let (process, grandchild) =
        with_grandchild(&fixture.spawner, "trap '' TERM; sleep 1000 & echo $!; while :; do wait; done").await;
    let status = in_time("stop", process.stop_within(Duration::from_millis(50))).await;
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    gone(grandchild).await;
}

#[tokio::test]
async fn a_dropped_process_is_killed_with_its_group() {
    let fixture = Fixture::new();
    let (process, grandchild) = with_grandchild(&fixture.spawner, "sleep 1000 & echo $!; wait").await;
    let child = process.identity();
    drop(process);
    gone(child).await;
    gone(grandchild).await;
}

#[tokio::test]
async fn a_command_past_its_limit_is_killed_and_its_output_shown() {
    let fixture = Fixture::new();
    let error =
        fixture.spawner.complete(&shell("echo busy; sleep 1000"), Duration::from_millis(300)).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("did not end within 0.3 s") && message.contains("busy"), "{message}");
}

#[tokio::test]
async fn root_can_launch_as_nobody() {
    let Some(account) = Account::nobody_if_root() else {
        eprintln!("not checked: needs root");
        return;
    };
    let fixture = Fixture::new();
    let completed = fixture.spawner.complete(&shell("id -u; id -G").account(account), DEADLINE).await.unwrap();
    assert_eq!(completed.stdout, format!("{}\n{}\n", account.uid, account.gid), "{}", completed.stderr);
}

/// Where the supervisor below puts its run, and what it starts.
const SUPERVISE: &str = "DITTOFS_TEST_SUPERVISE";

/// Not a test by itself: this very program, started by [`start_supervisor`] in order to be killed.
#[tokio::test]
#[ignore = "the supervisor that other tests start and kill"]
async fn supervisor() {
    let Ok(base) = std::env::var(SUPERVISE) else { return };
    let spawner = spawner(Path::new(&base));
    // One child that dies with us, and one that has escaped: out of our session, with a parent of its own.
    let script = "setsid sleep 1000 & echo $! > \"$0.new\"; mv \"$0.new\" \"$0\"; wait";
    let file = spawner.run().directory().join("grandchild");
    let launch = shell(script).arg(&file);
    let _process = spawner.spawn(&launch).await.unwrap();
    std::future::pending::<()>().await;
}

fn start_supervisor(base: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "supervisor", "--ignored", "--nocapture"])
        .env(SUPERVISE, base)
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Child and grandchild of the supervisor, once both run.
async fn family(base: &Path) -> (PathBuf, Identity, Identity) {
    // Another program announces itself by a file; there is no event to await without one more dependency.
    in_time("the supervisor has started its child", async {
        loop {
            if let Some(family) = try_family(base) {
                return family;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

fn try_family(base: &Path) -> Option<(PathBuf, Identity, Identity)> {
    let run = list(base).ok()?.into_iter().next()?;
    let child = run.state?.children.first()?.identity;
    let grandchild = fs::read_to_string(run.directory.join("grandchild")).ok()?.trim().parse().ok()?;
    Some((run.directory, child, Identity::of(grandchild)?))
}

#[tokio::test]
async fn what_a_killed_supervisor_leaves_is_swept() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("runs");
    let mut supervisor = start_supervisor(&base);
    let (run, child, grandchild) = family(&base).await;

    assert!(sweep(&base).unwrap().is_empty(), "a live run is left alone");
    assert!(child.is_alive() && grandchild.is_alive());

    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    gone(child).await;
    assert!(grandchild.is_alive(), "it has escaped, so only a sweep can find it");

    let swept = sweep(&base).unwrap();
    assert_eq!(swept.left, Vec::<String>::new());
    assert_eq!(swept.runs, [run.file_name().unwrap().to_str().unwrap()]);
    assert!(swept.processes.iter().any(|(pid, _)| *pid == grandchild.pid), "{swept}");
    gone(grandchild).await;
    assert!(!run.exists());
    assert!(sweep(&base).unwrap().is_empty(), "the second sweep finds nothing");
}

#[tokio::test]
async fn a_run_without_state_is_dead() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.base.join("0a1b2c3d")).unwrap();
    assert_eq!(sweep(&fixture.base).unwrap().runs, ["0a1b2c3d"]);
    assert_eq!(list(&fixture.base).unwrap().len(), 1, "our own run stays");
}
