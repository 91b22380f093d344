//! Every tool, really found, fetched or built, and asked whether it works.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use conformance::process::{Account, Identity, Launch, Run, Spawner, list, sweep};
use conformance::tools::{
    self, Cache, ControlPlane, Display, Needs, Options, Tool, Workshop, accessible, listing, prepare,
};
use rstest::rstest;

/// Bounds one `--version`.
const QUESTION: Duration = Duration::from_secs(30);

/// Bounds what takes a few seconds, even on a busy machine; only a defect lets a test reach it.
const WAIT: Duration = Duration::from_mins(2);

fn workshop(base: &Path, cache: PathBuf) -> Workshop {
    let run = Arc::new(Run::create(&base.join("runs")).unwrap());
    Workshop {
        cache: Cache::open(cache).unwrap(),
        spawner: Spawner::new(run, Some(env!("CARGO_BIN_EXE_conformance").into())).unwrap(),
        progress: Display::stderr().progress(),
    }
}

async fn answers(workshop: &Workshop, tool: &Tool, program: &str, argument: &str, account: Option<Account>) -> String {
    let path = if program.is_empty() { tool.path.clone() } else { tool.program(program) };
    let launch = Launch::new(path.display().to_string(), &path).arg(argument).envs(&tool.env).account(account);
    let completed = workshop.spawner.complete(&launch, QUESTION).await.unwrap();
    assert!(completed.status.success(), "{}: {}", path.display(), completed.stderr);
    completed.stdout + &completed.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_of_the_default_environment_starts() {
    let base = tempfile::tempdir().unwrap();
    std::fs::set_permissions(base.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let workshop = workshop(base.path(), Cache::default_root().unwrap());
    let needs = Needs { postgresql: true, backups: true, minio: false };
    let toolbox = prepare(&workshop, &Options::default(), needs).await.unwrap();

    let plane = ControlPlane::prepare(&workshop, &Options::from_environment()).await.unwrap();
    for (tool, expected) in [
        (&plane.etcd, "etcd Version: 3.6.5"),
        (&plane.apiserver, "Kubernetes v1.34.4"),
        (&plane.controller_manager, "Kubernetes v1.34.4"),
    ] {
        assert!(answers(&workshop, tool, "", "--version", None).await.contains(expected), "{tool:?}");
    }

    // As root, the programs that refuse root have to start as another user, who cannot enter root's cache.
    let nobody = Account::nobody_if_root();
    let copies = workshop.spawner.run().directory().join("tools");
    let postgresql = accessible(&toolbox.postgresql.unwrap(), &copies).unwrap();
    for program in ["postgres", "initdb", "pg_ctl"] {
        let answer = answers(&workshop, &postgresql, program, "--version", nobody).await;
        assert!(answer.contains("(PostgreSQL) 16.15"), "{answer}");
    }
    let pgbackrest = accessible(&toolbox.pgbackrest.unwrap(), &copies).unwrap();
    let answer = answers(&workshop, &pgbackrest, "", "version", nobody).await;
    assert!(answer.starts_with("pgBackRest 2."), "{answer}");

    let clients = toolbox.clients.unwrap();
    for tool in [&clients.psql, &clients.pg_isready] {
        let answer = answers(&workshop, tool, "", "--version", None).await;
        assert!(answer.contains("(PostgreSQL)"), "{answer}");
    }

    let kind = tools::kind(&workshop, &Options::default()).await.unwrap();
    assert!(answers(&workshop, &kind, "", "version", None).await.starts_with("kind v0."));
    let helm = tools::helm(&workshop, &Options::default()).await.unwrap();
    assert!(answers(&workshop, &helm, "", "version", None).await.contains("GoVersion"));

    for listed in listing(&workshop, &Options::from_environment()).await {
        assert!(listed.found.is_ok(), "{listed}");
        println!("{listed}");
    }
    workshop.spawner.run().remove().unwrap();
}

#[rstest]
#[case("1.31")]
#[case("1.32")]
#[case("1.33")]
#[case("1.34")]
#[case("1.35")]
#[case("1.36")]
#[case("1.37")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds Kubernetes: minutes for each minor that is not in the cache"]
async fn every_kubernetes_minor_can_be_had(#[case] minor: &str) {
    let base = tempfile::tempdir().unwrap();
    let workshop = workshop(base.path(), Cache::default_root().unwrap());
    let options = Options { kubernetes: Some(minor.to_owned()), ..Options::default() };
    let plane = ControlPlane::prepare(&workshop, &options).await.unwrap();
    for tool in [&plane.apiserver, &plane.controller_manager] {
        let answer = answers(&workshop, tool, "", "--version", None).await;
        assert!(answer.contains(&format!("Kubernetes v{minor}.")), "{answer}");
    }
    workshop.spawner.run().remove().unwrap();
}

/// Where the supervisor below puts its run.
const SUPERVISE: &str = "DITTOFS_TEST_SUPERVISE_POSTGRESQL";

/// Not a test by itself: this very program, started in order to be killed with a running PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the supervisor that the next test starts and kills"]
async fn supervisor_with_postgresql() {
    let Ok(base) = std::env::var(SUPERVISE) else { return };
    let workshop = workshop(Path::new(&base), Cache::default_root().unwrap());
    let run = workshop.spawner.run().directory();
    let needs = Needs { postgresql: true, ..Needs::default() };
    let tools = prepare(&workshop, &Options::default(), needs).await.unwrap();
    let postgresql = accessible(&tools.postgresql.unwrap(), &run.join("tools")).unwrap();
    let account = Account::nobody_if_root();

    let data = run.join("data");
    std::fs::create_dir(&data).unwrap();
    if let Some(account) = account {
        std::os::unix::fs::chown(&data, Some(account.uid), Some(account.gid)).unwrap();
    }
    let initdb = Launch::new("initdb", postgresql.program("initdb"))
        .args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"])
        .arg(&data)
        .account(account);
    let completed = workshop.spawner.complete(&initdb, WAIT).await.unwrap();
    assert!(completed.status.success(), "{}", completed.stderr);
    let postgres = Launch::new("postgres", postgresql.program("postgres"))
        .args(["-c", "listen_addresses=", "-c", "dynamic_shared_memory_type=mmap", "-c"])
        .arg(format!("unix_socket_directories={}", data.display()))
        .arg("-D")
        .arg(&data)
        .account(account)
        .log(run.join("log"));
    let _server = workshop.spawner.spawn(&postgres).await.unwrap();
    std::future::pending::<()>().await;
}

/// Lines 1 and 7 of `postmaster.pid`: pid of the server, and id of its shared memory, once it is ready.
fn server(base: &Path) -> Option<(u32, String)> {
    let run = list(&base.join("runs")).ok()?.into_iter().next()?;
    let text = std::fs::read_to_string(run.directory.join("data/postmaster.pid")).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let segment = lines.get(6)?.split_whitespace().nth(1)?.to_owned();
    lines.get(7)?.starts_with("ready").then_some((lines.first()?.parse().ok()?, segment))
}

fn shared_memory() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    table.lines().skip(1).filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect()
}

#[tokio::test]
async fn nothing_is_left_of_a_killed_postgresql() {
    let base = tempfile::tempdir().unwrap();
    std::fs::set_permissions(base.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let mut supervisor = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "supervisor_with_postgresql", "--ignored", "--nocapture"])
        .env(SUPERVISE, base.path())
        .spawn()
        .unwrap();
    // Another program announces itself by a file; there is no event to await without one more dependency.
    let started = async {
        loop {
            assert_eq!(supervisor.try_wait().unwrap(), None, "the supervisor has ended");
            match server(base.path()) {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let (pid, segment) = tokio::time::timeout(WAIT, started).await.expect("PostgreSQL is ready");
    assert!(shared_memory().contains(&segment));

    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let swept = sweep(&base.path().join("runs")).unwrap();
    assert_eq!(swept.left, Vec::<String>::new());
    assert!(!shared_memory().contains(&segment), "{swept}");
    assert_eq!(Identity::of(pid), None, "the server is gone");
    assert_eq!(list(&base.path().join("runs")).unwrap(), []);
}
