//! The images of an offline run, really made.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use conformance::images::{Images, Programs, Source, load, prepare};
use conformance::kind::{docker_host, sweep_images};
use conformance::process::{Run, Spawner};
use conformance::tools::{Cache, Display, Workshop};
use regex::Regex;

/// What our programs may add to the base, in bytes.
const LIMIT: u64 = 40_000_000;

/// The workload stands in for this one.
const DITTOFS: &str = "ghcr.io/marmos91/dittofs:0.1.0";

/// A sweep would take away what the other test builds. Nextest runs one at a time anyway.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn names_in_docker() -> BTreeSet<String> {
    let list = docker(&["image", "ls", "--all", "--format", "{{.Repository}}:{{.Tag}}"]).unwrap();
    list.lines().map(str::to_owned).collect()
}

fn size(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

fn workshop(base: &Path) -> Workshop {
    let run = Arc::new(Run::create(&base.join("runs")).unwrap());
    Workshop {
        cache: Cache::open(Cache::default_root().unwrap()).unwrap(),
        spawner: Spawner::new(run, Some(env!("CARGO_BIN_EXE_conformance").into())).unwrap(),
        progress: Display::stderr().progress(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_build_left_in_docker_is_swept() {
    if docker(&["info"]).is_none() {
        return println!("skipped: `docker info` does not answer");
    }
    let _alone = ALONE.lock().await;
    let base = tempfile::tempdir().unwrap();
    let workshop = workshop(base.path());
    let context = base.path().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let label = "--label=com.dittofs.conformance=temporary";
    let name = format!("localhost/dittofs-left-behind:{}", std::process::id());
    docker(&["build", "--quiet", label, "--tag", &name, &context.display().to_string()]).unwrap();
    assert!(names_in_docker().contains(&name));

    // Not while a run lives, which could be the one that saves it.
    let runs = base.path().join("runs");
    assert_eq!(sweep_images(&runs, None).await.unwrap(), 0);
    assert!(names_in_docker().contains(&name));
    let own = Some(workshop.spawner.run().id());
    assert!(sweep_images(&runs, own).await.unwrap() >= 1);
    assert!(!names_in_docker().contains(&name));
    workshop.spawner.run().remove().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_made_once_and_docker_keeps_only_the_cache() {
    if docker(&["info"]).is_none() {
        return println!("skipped: `docker info` does not answer");
    }
    let _alone = ALONE.lock().await;
    let base = tempfile::tempdir().unwrap();
    let workshop = workshop(base.path());
    let programs = Programs::in_directory(Path::new(env!("CARGO_BIN_EXE_conformance")).parent().unwrap());
    if !programs.operator.is_file() {
        return println!("skipped: {} was not built", programs.operator.display());
    }
    let before = names_in_docker();
    let make = async || -> Images {
        prepare(&workshop, &docker_host(), &programs, &[DITTOFS.to_owned()], Source::Offline).await.unwrap()
    };
    let images = make().await;
    assert_eq!(make().await, images, "the same sources give the same names");

    let left: Vec<String> = names_in_docker().difference(&before).cloned().collect();
    assert!(left.iter().all(|name| name.starts_with("dittofs-conformance/")), "left in Docker: {left:?}");

    let name = Regex::new("^localhost/dittofs-operator:[0-9a-f]{16}$").unwrap();
    assert!(name.is_match(&images.operator.names[0]), "{:?}", images.operator.names);
    assert_eq!(images.workload.names[1], DITTOFS);
    let error = load(&workshop, images.postgres.as_ref().unwrap(), "unix:///nowhere").await.unwrap_err();
    assert_eq!(error.to_string(), "docker.io/library/postgres:16-alpine must not be loaded into Docker");
    for archive in images.archives() {
        // Neither more than it should be nor an empty shell.
        assert!((1_000_000..LIMIT + 10_000_000).contains(&size(&archive.path)), "{archive:?}");
    }
    let base = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "dittofs-conformance/base"]).unwrap();
    let base_size = docker(&["image", "inspect", "--format", "{{.Size}}", base.lines().next().unwrap()]).unwrap();
    let added = size(&images.operator.path) - base_size.trim().parse::<u64>().unwrap();
    assert!(added < LIMIT, "the operator adds {added} bytes to its base");
    workshop.spawner.run().remove().unwrap();
}
