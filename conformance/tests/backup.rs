//! pgBackRest against real PostgreSQL and both storages.

use std::sync::Arc;
use std::time::Duration;

use conformance::percona::backup::{Config, Instance, Options, Program, Repo, Repository};
use conformance::pki::Authority;
use conformance::postgres::{Addresses, Installation, Server, ServerOptions};
use conformance::process::{Account, Run, Spawner};
use conformance::s3::{self, Client, Endpoint, Minio};
use conformance::tools::{self, Cache, Display, Needs, Tool, Toolbox, Workshop, accessible, prepare};

/// How long PostgreSQL may take to archive a finished segment.
const ARCHIVED: Duration = Duration::from_secs(30);

struct Fixture {
    storage: s3::Server,
    client: Client,
    repository: Repository,
    postgres: Server,
    _directory: tempfile::TempDir,
}

impl Fixture {
    /// `None`, and the reason on standard output, when a tool cannot be had.
    async fn new(minio: bool) -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("bk").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let run = Arc::new(Run::create(&directory.path().join("runs")).unwrap());
        let spawner = Spawner::new(run, Some(env!("CARGO_BIN_EXE_conformance").into())).unwrap();
        let tools = tools(&spawner, minio).await;
        let have = |tool: Result<Tool, String>| {
            let tool = tool.inspect_err(|reason| println!("skipped: {reason}")).ok()?;
            Some(accessible(&tool, &spawner.run().directory().join("tools")).unwrap())
        };
        let (postgresql, pgbackrest) = (have(tools.postgresql)?, have(tools.pgbackrest)?);
        let minio = if minio { Some(have(tools.minio)?) } else { None };

        let minio = minio.map(|tool| Minio {
            program: tool.path,
            directory: directory.path().join("minio"),
            spawner: spawner.clone(),
        });
        let storage = s3::Server::start(s3::Options { minio, ..s3::Options::default() }).await.unwrap();
        storage.create_bucket("backups").await.unwrap();
        let client = Client::new(storage.endpoint()).unwrap();

        let template = directory.path().join("template");
        let installation =
            Installation::prepare(postgresql.path.clone(), template, directory.path(), &spawner).await.unwrap();
        let mut options = ServerOptions {
            name: "PostgreSQL of the test".to_owned(),
            installation,
            data: directory.path().join("data"),
            directory: directory.path().join("server"),
            address: Addresses::default().take().unwrap().listen,
            identity: Authority::create("test").unwrap().server(["localhost"]).unwrap(),
            archive_command: String::new(),
            spawner: spawner.clone(),
        };
        let instance = Instance {
            data: options.data.clone(),
            socket: options.socket(),
            port: options.address.port(),
            user: "postgres".to_owned(),
        };
        let account = Account::nobody_if_root();
        let program = Program { path: pgbackrest.path, environment: pgbackrest.env };
        let repository =
            Repository::create(Options { program, spawner, account, directory: directory.path().join("b"), instance })
                .unwrap();
        options.archive_command = repository.archive_command();
        let postgres = options.start().await.unwrap();
        repository.configure(&config(storage.endpoint())).unwrap();
        Some(Self { storage, client, repository, postgres, _directory: directory })
    }

    async fn objects(&self, prefix: &str) -> Vec<String> {
        let prefix = format!("{PATH}/{prefix}");
        let objects = self.client.list("backups", &prefix).await.unwrap();
        objects.into_iter().map(|object| object.key[PATH.len() + 1..].to_owned()).collect()
    }

    /// Finishes the current WAL segment and waits until it is in the bucket.
    async fn archive_a_segment(&self) {
        let session = self.postgres.superuser("postgres").await.unwrap();
        session.query("create table if not exists t as select 1; insert into t values (1)").await.unwrap();
        let segment = session.value("select pg_walfile_name(pg_switch_wal())").await.unwrap().unwrap();
        let prefix = format!("archive/db/16-1/{}/{segment}-", &segment[..16]);
        let arrived = async {
            let mut interval = tokio::time::interval(Duration::from_millis(50));
            while self.objects(&prefix).await.is_empty() {
                interval.tick().await;
            }
        };
        tokio::time::timeout(ARCHIVED, arrived).await.unwrap_or_else(|_| panic!("{prefix} has not arrived"));
    }
}

async fn tools(spawner: &Spawner, minio: bool) -> Toolbox {
    let cache = Cache::open(Cache::default_root().unwrap()).unwrap();
    let workshop = Workshop { cache, spawner: spawner.clone(), progress: Display::stderr().progress() };
    let needs = Needs { postgresql: true, backups: true, minio };
    prepare(&workshop, &tools::Options::default(), needs).await.unwrap()
}

/// Longer than `s3s-fs` could hold, see `src/s3/store.rs`.
const PATH: &str = "pgbackrest/a-namespace-with-quite-a-long-name-x7k2p/a-cluster-with-a-name-postgres/repo1";

fn config(endpoint: &Endpoint) -> Config {
    let repo = Repo {
        name: "repo1".to_owned(),
        bucket: "backups".to_owned(),
        here: None,
        endpoint: endpoint.endpoint.clone(),
        region: endpoint.region.clone(),
    };
    let credentials =
        format!("[global]\nrepo1-s3-key={}\nrepo1-s3-key-secret={}\n", endpoint.access_key, endpoint.secret_key);
    let global = [
        ("repo1-path", format!("/{PATH}")),
        ("repo1-s3-uri-style", "path".to_owned()),
        ("repo1-storage-ca-file", "/etc/pgbackrest/conf.d/ca.crt".to_owned()),
        ("repo1-retention-full", "1".to_owned()),
        ("start-fast", "y".to_owned()),
    ];
    Config {
        repos: vec![repo],
        global: global.map(|(key, value)| (key.to_owned(), value)).into(),
        files: [("s3.conf", credentials), ("ca.crt", endpoint.ca.clone())]
            .map(|(name, content)| (name.to_owned(), content.into_bytes()))
            .into(),
        ..Config::default()
    }
}

async fn cycle(fixture: Fixture) {
    let Fixture { repository, .. } = &fixture;
    assert_eq!(repository.info().await.unwrap().unwrap().status.code, 1, "no stanza yet");

    repository.stanza_create().await.unwrap();
    let stanza = fixture.objects("").await;
    assert!(stanza.contains(&"archive/db/archive.info".to_owned()), "{stanza:?}");
    assert!(stanza.contains(&"backup/db/backup.info".to_owned()), "{stanza:?}");
    fixture.archive_a_segment().await;

    let annotation = r#"--annotation="percona.com/backup-job-type"="replica-create""#;
    repository.backup(&["--repo=1", "--type=full", annotation]).await.unwrap();
    repository.backup(&["--repo=1", "--type=incr"]).await.unwrap();
    let backups = repository.info().await.unwrap().unwrap().backup;
    assert_eq!(backups.iter().map(|backup| backup.kind.as_str()).collect::<Vec<_>>(), ["full", "incr"]);
    assert_eq!(backups[0].annotation["percona.com/backup-job-type"], "replica-create");
    assert!(!fixture.objects(&format!("backup/db/{}/", backups[0].label)).await.is_empty());

    // The retention keeps one full backup: the older one goes, with what depends on it.
    repository.backup(&["--repo=1", "--type=full"]).await.unwrap();
    repository.expire().await.unwrap();
    let kept = repository.info().await.unwrap().unwrap().backup;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(fixture.objects(&format!("backup/db/{}/", backups[0].label)).await.is_empty());

    repository.stanza_delete("repo1").await.unwrap();
    assert_eq!(fixture.objects("").await, Vec::<String>::new());
    fixture.postgres.stop().await;
}

#[tokio::test]
async fn stanza_wal_full_incremental_expiry_and_deletion_from_memory() {
    let Some(fixture) = Fixture::new(false).await else { return };
    cycle(fixture).await;
}

#[tokio::test]
async fn stanza_wal_full_incremental_expiry_and_deletion_on_minio() {
    let Some(fixture) = Fixture::new(true).await else { return };
    cycle(fixture).await;
}

#[tokio::test]
async fn wrong_credentials_fail_with_403_until_they_are_corrected() {
    let Some(fixture) = Fixture::new(false).await else { return };
    let right = config(fixture.storage.endpoint());
    let secret = "a-secret-key-that-is-wrong".to_owned();
    let endpoint = Endpoint { secret_key: secret.clone(), ..fixture.storage.endpoint().clone() };
    fixture.repository.configure(&config(&endpoint)).unwrap();
    let failure = fixture.repository.stanza_create().await.unwrap_err();
    assert_eq!(failure.code, 39);
    assert!(failure.output.contains("HTTP request failed with 403 (Forbidden)"), "{failure}");
    assert!(!failure.output.contains(&secret));

    fixture.repository.configure(&right).unwrap();
    fixture.repository.stanza_create().await.unwrap();
    // What PostgreSQL could not archive meanwhile is archived now.
    fixture.archive_a_segment().await;
    fixture.postgres.stop().await;
}

#[tokio::test]
async fn a_server_stops_in_time_while_the_storage_is_down() {
    let Some(fixture) = Fixture::new(false).await else { return };
    fixture.repository.stanza_create().await.unwrap();
    fixture.storage.begin_outage("backups");
    let session = fixture.postgres.superuser("postgres").await.unwrap();
    session.query("create table t as select 1").await.unwrap();
    session.value("select pg_switch_wal()").await.unwrap();
    drop(session);
    // Bounded by PostgreSQL's own deadlines: fast, immediate, kill.
    tokio::time::timeout(Duration::from_secs(20), fixture.postgres.stop()).await.unwrap();
}
