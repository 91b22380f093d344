//! The object storage with MinIO behind it. What it does from memory is tested beside it (`src/s3/tests.rs`).

use std::path::PathBuf;
use std::sync::Arc;

use conformance::controlplane::Components;
use conformance::process::{Run, Spawner};
use conformance::s3::{Client, Minio, Object, Options, Server, ServerError};
use conformance::tools::{self, Cache, Display, Needs, Tool, Workshop, prepare};

struct Fixture {
    directory: tempfile::TempDir,
    spawner: Spawner,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let run = Arc::new(Run::create(&directory.path().join("runs")).unwrap());
        let spawner = Spawner::new(run, Some(env!("CARGO_BIN_EXE_conformance").into())).unwrap();
        Self { directory, spawner }
    }

    async fn minio(&self) -> Result<Tool, String> {
        let cache = Cache::open(Cache::default_root().unwrap()).unwrap();
        let workshop = Workshop { cache, spawner: self.spawner.clone(), progress: Display::stderr().progress() };
        let needs = Needs { minio: true, ..Needs::default() };
        prepare(&workshop, &tools::Options::default(), needs).await.unwrap().minio
    }

    fn options(&self, program: PathBuf) -> Options {
        let minio = Minio { program, directory: self.directory.path().join("minio"), spawner: self.spawner.clone() };
        Options { minio: Some(minio), ..Options::default() }
    }
}

#[tokio::test]
async fn minio_serves_has_outages_like_the_storage_in_memory_and_its_end_is_told() {
    let fixture = Fixture::new();
    let program = match fixture.minio().await {
        Ok(tool) => tool.path,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let server = Server::start(fixture.options(program)).await.unwrap();
    server.create_bucket("backups").await.unwrap();
    server.create_bucket("healthy").await.unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    client.put("backups", "a/b", "content").await.unwrap();
    assert_eq!(client.list("backups", "a/").await.unwrap(), [Object { key: "a/b".to_owned(), size: 7 }]);
    assert_eq!(client.get("backups", "a/b").await.unwrap(), "content");

    server.begin_outage("backups");
    assert_eq!(client.list("backups", "").await.unwrap_err().code(), Some("ServiceUnavailable"));
    client.list("healthy", "").await.unwrap();
    server.end_outage("backups");
    client.list("backups", "").await.unwrap();

    let wrong = conformance::s3::Endpoint { secret_key: "a-wrong-secret-key".to_owned(), ..server.endpoint().clone() };
    let refused = Client::new(&wrong).unwrap().list("backups", "").await.unwrap_err();
    assert_eq!(refused.code(), Some("SignatureDoesNotMatch"));

    server.remove_bucket("backups").await.unwrap();
    assert!(!client.bucket_exists("backups").await.unwrap());

    let (process, log) = server.minio().unwrap();
    let components = Components::default().with(process, log.to_owned());
    process.kill().await;
    let said = components.ended().await.to_string();
    assert!(said.starts_with("minio: it has ended (signal: 9"), "{said}");
}

#[tokio::test]
async fn a_minio_that_ends_at_once_is_an_error_that_names_its_log() {
    let fixture = Fixture::new();
    let Err(ServerError::Minio { reason, log }) = Server::start(fixture.options("/bin/false".into())).await else {
        panic!("a MinIO that is none has started");
    };
    assert!(reason.starts_with("it ended at once: exit status: 1"), "{reason}");
    assert!(log.exists());
}
