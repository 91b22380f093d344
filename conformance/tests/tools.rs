//! Every tool, really found, fetched or built, and asked whether it works.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conformance::process::{Account, Launch, Run, Spawner};
use conformance::tools::{Cache, Display, Needs, Options, Tool, Workshop, accessible, listing, prepare};
use rstest::rstest;

/// Bounds one `--version`.
const QUESTION: Duration = Duration::from_secs(30);

fn workshop(base: &tempfile::TempDir, cache: PathBuf) -> Workshop {
    let run = Arc::new(Run::create(&base.path().join("runs")).unwrap());
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
    let workshop = workshop(&base, Cache::default_root().unwrap());
    let needs = Needs { postgresql: true, backups: true, minio: false };
    let tools = prepare(&workshop, &Options::default(), needs).await.unwrap();

    let plane = &tools.control_plane;
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
    let postgresql = accessible(&tools.postgresql.unwrap(), &copies).unwrap();
    for program in ["postgres", "initdb", "pg_ctl"] {
        let answer = answers(&workshop, &postgresql, program, "--version", nobody).await;
        assert!(answer.contains("(PostgreSQL) 16.15"), "{answer}");
    }
    let pgbackrest = accessible(&tools.pgbackrest.unwrap(), &copies).unwrap();
    let answer = answers(&workshop, &pgbackrest, "", "version", nobody).await;
    assert!(answer.starts_with("pgBackRest 2."), "{answer}");

    let clients = tools.clients.unwrap();
    for tool in [&clients.psql, &clients.pg_isready] {
        let answer = answers(&workshop, tool, "", "--version", None).await;
        assert!(answer.contains("(PostgreSQL)"), "{answer}");
    }

    for listed in listing(&workshop, &Options::default()).await {
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
#[ignore = "builds Kubernetes, which takes minutes for each minor that is not in the cache"]
async fn every_kubernetes_minor_can_be_had(#[case] minor: &str) {
    let base = tempfile::tempdir().unwrap();
    let workshop = workshop(&base, Cache::default_root().unwrap());
    let options = Options { kubernetes: Some(minor.to_owned()), ..Options::default() };
    let tools = prepare(&workshop, &options, Needs::default()).await.unwrap();
    for tool in [&tools.control_plane.apiserver, &tools.control_plane.controller_manager] {
        let answer = answers(&workshop, tool, "", "--version", None).await;
        assert!(answer.contains(&format!("Kubernetes v{minor}.")), "{answer}");
    }
    workshop.spawner.run().remove().unwrap();
}
