//! Backups of the double: Percona's objects, real PostgreSQL, real pgBackRest, an object storage that can fail.

mod support;

use std::path::Path;
use std::time::Duration;

use conformance::percona::Kind;
use conformance::s3::{Client, Endpoint};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use support::{BUCKET, Lab};

/// Bounds every wait. What takes longest is the two times ten seconds after which a stanza is tried again.
const DEADLINE: Duration = Duration::from_mins(1);
const CLUSTER: &str = "demo-postgres";

struct Fixture {
    lab: Lab,
    bucket: Client,
    client: kube::Client,
}

impl Fixture {
    /// `None`, and the reason on standard output, when a tool cannot be had.
    async fn new() -> Option<Self> {
        let lab = Lab::start(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/crds")]).await;
        if let Some(reason) = lab.without_backups() {
            println!("skipped: {reason}");
            lab.end().await;
            return None;
        }
        let bucket = Client::new(lab.storage.endpoint()).unwrap();
        let client = kube::Client::try_from(lab.plane.config()).unwrap();
        let fixture = Self { lab, bucket, client };
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "a" } });
        let namespaces: Api<DynamicObject> = Api::all_with(
            fixture.client.clone(),
            &kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&()),
        );
        namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
        Some(fixture)
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), "a", &kind.resource())
    }

    async fn create(&self, kind: Kind, object: Value) {
        self.api(kind).create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    async fn patch(&self, kind: Kind, name: &str, patch: Value) {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    fn credentials(endpoint: &Endpoint) -> Value {
        let Endpoint { access_key, secret_key, ca, .. } = endpoint;
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s3-creds" },
            "stringData": {
                "s3.conf": format!("[global]\nrepo1-s3-key={access_key}\nrepo1-s3-key-secret={secret_key}\n"),
                "ca.crt": ca,
            },
        })
    }

    fn wrong_credentials(&self) -> Value {
        let secret_key = "a-secret-key-that-is-wrong".to_owned();
        Self::credentials(&Endpoint { secret_key, ..self.lab.storage.endpoint().clone() })
    }

    fn cluster(&self) -> Value {
        let Endpoint { endpoint, region, .. } = self.lab.storage.endpoint();
        json!({
            "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGCluster", "metadata": { "name": CLUSTER },
            "spec": {
                "crVersion": "2.8.2", "postgresVersion": 16, "image": "postgres:16",
                "users": [{ "name": "dittofs", "databases": ["dittofs"] }],
                "instances": [{ "name": "instance1", "replicas": 1, "dataVolumeClaimSpec": {
                    "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }],
                "proxy": { "pgBouncer": { "replicas": 1, "image": "pgbouncer:1" } },
                "backups": { "pgbackrest": {
                    "image": "pgbackrest:2",
                    "configuration": [{ "secret": { "name": "s3-creds" } }],
                    "global": {
                        "repo1-path": "/pgbackrest/a/demo-postgres/repo1", "repo1-s3-uri-style": "path",
                        "repo1-storage-ca-file": "/etc/pgbackrest/conf.d/ca.crt", "start-fast": "y",
                    },
                    "repos": [{ "name": "repo1", "s3": { "bucket": BUCKET, "endpoint": endpoint, "region": region } }],
                } },
            },
        })
    }

    async fn until(&self, kind: Kind, name: &str, what: &str, holds: impl Fn(&DynamicObject) -> bool) -> DynamicObject {
        let condition = |object: Option<&DynamicObject>| object.is_some_and(&holds);
        let reached = tokio::time::timeout(DEADLINE, await_condition(self.api(kind), name, condition)).await;
        if let Ok(object) = reached {
            return object.unwrap().unwrap();
        }
        let now = self.api(kind).get_opt(name).await.unwrap().map(|object| object.data);
        panic!("{name}: {what} not within {DEADLINE:?}; now {now:#?}")
    }

    /// Waits until this many Events have been written for this reason.
    async fn events(&self, reason: &str, count: usize) -> Vec<DynamicObject> {
        let (api, params) = (self.api(Kind::EVENT), ListParams::default().fields(&format!("reason={reason}")));
        let found = async {
            let mut interval = tokio::time::interval(Duration::from_millis(50));
            loop {
                interval.tick().await;
                let events = api.list(&params).await.unwrap().items;
                if events.len() >= count {
                    return events;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("{reason}: not {count} Events"))
    }

    async fn gone(&self, kind: Kind, name: &str) {
        let condition = |object: Option<&DynamicObject>| object.is_none();
        let gone = tokio::time::timeout(DEADLINE, await_condition(self.api(kind), name, condition)).await;
        gone.unwrap_or_else(|_| panic!("{name} is not gone within {DEADLINE:?}")).unwrap();
    }

    /// Waits for the first backup, which has a random name.
    async fn first_backup(&self) -> DynamicObject {
        self.until(Kind::CLUSTER, CLUSTER, "the first backup", |cluster| {
            cluster.data["status"]["pgbackrest"]["repos"][0]["replicaCreateBackupComplete"] == true
        })
        .await;
        let backups = self.api(Kind::BACKUP).list(&ListParams::default()).await.unwrap().items;
        let name = backups[0].metadata.name.clone().unwrap();
        self.until(Kind::BACKUP, &name, "success", |backup| backup.data["status"]["state"] == "Succeeded").await
    }

    async fn end(self) {
        self.lab.end().await;
    }
}

fn condition<'a>(object: &'a DynamicObject, kind: &str) -> &'a Value {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Traces i3 and i: first backup, manual backup, and what deletion leaves (o2).
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_backups_is_backed_up_and_deleted_with_its_backups() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.create(Kind::SECRET, Fixture::credentials(fixture.lab.storage.endpoint())).await;
    fixture.create(Kind::CLUSTER, fixture.cluster()).await;
    let first = fixture.first_backup().await;
    let status = &first.data["status"];
    assert_eq!(status["backupType"], "full");
    assert_eq!(status["destination"], "s3://pgbackups/pgbackrest/a/demo-postgres/repo1");
    let cluster = fixture
        .until(Kind::CLUSTER, CLUSTER, "ReadyForBackup", |cluster| {
            condition(cluster, "ReadyForBackup")["status"] == "True"
        })
        .await;
    assert_eq!(condition(&cluster, "ReadyForBackup")["reason"], "AllConditionsAreTrue");
    assert_ne!(condition(&cluster, "PGBackRestReplicaCreate")["status"], "True", "frozen as it was first seen");

    let label = status["backupName"].as_str().unwrap();
    let prefix = format!("pgbackrest/a/demo-postgres/repo1/backup/db/{label}/");
    assert!(!fixture.bucket.list(BUCKET, &prefix).await.unwrap().is_empty());

    // Two at once: the second waits for the first. Somebody else's finalizer on one of them stays.
    let manual = |name: &str| {
        json!({
            "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGBackup",
            "metadata": { "name": name, "finalizers": ["example.com/mine"] },
            "spec": { "pgCluster": CLUSTER, "repoName": "repo1", "options": ["--type=incr"] },
        })
    };
    tokio::join!(fixture.create(Kind::BACKUP, manual("mine")), fixture.create(Kind::BACKUP, manual("other")));
    for name in ["mine", "other"] {
        let done =
            fixture.until(Kind::BACKUP, name, "success", |backup| backup.data["status"]["state"] == "Succeeded").await;
        assert_eq!(done.data["status"]["backupType"], "incr");
        assert_eq!(done.finalizers(), ["example.com/mine"]);
        fixture.patch(Kind::BACKUP, name, json!({ "metadata": { "finalizers": null } })).await;
    }
    let cluster = fixture
        .until(Kind::CLUSTER, CLUSTER, "no backup under way", |cluster| {
            !cluster.annotations().contains_key("pgv2.percona.com/backup-in-progress")
        })
        .await;
    assert_eq!(cluster.data["spec"]["backups"]["pgbackrest"]["manual"]["options"][0], "--type=incr", "stays");
    let annotations: Vec<_> = cluster.metadata.annotations.unwrap_or_default().into_keys().collect();
    assert_eq!(annotations, ["pgv2.percona.com/patroni-version"], "those of the backup do not");

    let finalizers =
        json!({ "metadata": { "finalizers": ["internal.percona.com/stop-watchers", "percona.com/delete-backups"] } });
    fixture.patch(Kind::CLUSTER, CLUSTER, finalizers).await;
    fixture.api(Kind::CLUSTER).delete(CLUSTER, &DeleteParams::background()).await.unwrap();
    fixture.gone(Kind::CLUSTER, CLUSTER).await;
    assert_eq!(fixture.bucket.list(BUCKET, "").await.unwrap(), []);
    fixture.gone(Kind::BACKUP, "mine").await;
    fixture.gone(Kind::INNER, CLUSTER).await;
    fixture.end().await;
}

/// Trace h.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_leave_the_database_ready_and_say_why_there_is_no_stanza() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.create(Kind::SECRET, fixture.wrong_credentials()).await;
    fixture.create(Kind::CLUSTER, fixture.cluster()).await;
    let cluster =
        fixture.until(Kind::CLUSTER, CLUSTER, "ready", |cluster| cluster.data["status"]["state"] == "ready").await;
    assert_eq!(cluster.data["status"]["pgbackrest"]["repos"][0]["stanzaCreated"], false);
    assert_eq!(condition(&cluster, "ReadyForBackup")["status"], "False");

    let events = fixture.events("UnableToCreateStanzas", 1).await;
    let message = events[0].data["message"].as_str().unwrap();
    assert!(message.starts_with("command terminated with exit code 39: "), "{message}");
    assert!(message.contains("HTTP request failed with 403 (Forbidden)"), "{message}");
    assert_eq!(events[0].data["involvedObject"]["kind"], "PostgresCluster");
    assert!(!message.contains("a-secret-key-that-is-wrong"));

    let right = Fixture::credentials(fixture.lab.storage.endpoint());
    fixture.patch(Kind::SECRET, "s3-creds", json!({ "stringData": right["stringData"] })).await;
    fixture.first_backup().await;
    fixture.end().await;
}

/// Trace g: until the Secret is there, no database starts; then everything does.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_credentials_secret_holds_the_database() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.create(Kind::CLUSTER, fixture.cluster()).await;
    // The database and the repository host.
    let events = fixture.events("FailedMount", 2).await;
    for event in events {
        let message = event.data["message"].as_str().unwrap();
        assert_eq!(
            message,
            "MountVolume.SetUp failed for volume \"pgbackrest-config\" : secret \"s3-creds\" not found"
        );
    }
    let cluster = fixture.api(Kind::CLUSTER).get(CLUSTER).await.unwrap();
    assert_eq!(cluster.data["status"]["state"], "initializing");
    fixture.api(Kind::SECRET).get("demo-postgres-pguser-dittofs").await.unwrap();

    fixture.create(Kind::SECRET, Fixture::credentials(fixture.lab.storage.endpoint())).await;
    fixture.first_backup().await;
    fixture.end().await;
}

/// Trace o1: backups switched off on a live cluster stop the inner controller until somebody agrees.
#[tokio::test(flavor = "multi_thread")]
async fn backups_are_not_removed_without_leave() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.create(Kind::SECRET, Fixture::credentials(fixture.lab.storage.endpoint())).await;
    fixture.create(Kind::CLUSTER, fixture.cluster()).await;
    fixture.first_backup().await;
    fixture.patch(Kind::CLUSTER, CLUSTER, json!({ "spec": { "backups": { "enabled": false } } })).await;
    let paused = fixture
        .until(Kind::CLUSTER, CLUSTER, "Progressing=False", |cluster| {
            condition(cluster, "Progressing")["reason"] == "Paused"
        })
        .await;
    assert_eq!(paused.data["status"]["state"], "ready");
    let host = "demo-postgres-repo-host";
    fixture.api(Kind::STATEFUL_SET).get(host).await.unwrap();

    let annotations = json!({ "metadata": { "annotations": { "pgv2.percona.com/authorizeBackupRemoval": "true" } } });
    fixture.patch(Kind::CLUSTER, CLUSTER, annotations).await;
    fixture.gone(Kind::STATEFUL_SET, host).await;
    let cluster = fixture
        .until(Kind::CLUSTER, CLUSTER, "no repositories", |cluster| cluster.data["status"]["pgbackrest"] == json!({}))
        .await;
    assert_eq!(condition(&cluster, "Progressing")["reason"], "Paused", "frozen");
    assert_eq!(condition(&cluster, "ReadyForBackup")["status"], "True", "nobody looks at it any more");
    // PostgreSQL's pod is made anew, without the containers for backups.
    let instances = ListParams::default().labels("postgres-operator.crunchydata.com/data=postgres");
    let pod = format!("{}-0", fixture.api(Kind::STATEFUL_SET).list(&instances).await.unwrap().items[0].name_any());
    let two = |pod: &DynamicObject| pod.data["spec"]["containers"].as_array().is_some_and(|all| all.len() == 2);
    fixture.until(Kind::POD, &pod, "two containers", two).await;
    fixture.until(Kind::CLUSTER, CLUSTER, "ready", |cluster| cluster.data["status"]["state"] == "ready").await;
    fixture.end().await;
}

/// A repository in another bucket is another repository: it gets a stanza and a first backup of its own.
#[tokio::test(flavor = "multi_thread")]
async fn another_bucket_begins_with_a_first_backup() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.create(Kind::SECRET, Fixture::credentials(fixture.lab.storage.endpoint())).await;
    fixture.create(Kind::CLUSTER, fixture.cluster()).await;
    let first = fixture.first_backup().await.name_any();

    fixture.lab.storage.create_bucket("second").await.unwrap();
    let bucket = json!([{ "op": "replace", "path": "/spec/backups/pgbackrest/repos/0/s3/bucket", "value": "second" }]);
    let patch = Patch::Json::<()>(serde_json::from_value(bucket).unwrap());
    fixture.api(Kind::CLUSTER).patch(CLUSTER, &PatchParams::default(), &patch).await.unwrap();
    fixture
        .until(Kind::CLUSTER, CLUSTER, "no backup yet", |cluster| {
            cluster.data["status"]["pgbackrest"]["repos"][0]["replicaCreateBackupComplete"].is_null()
        })
        .await;
    fixture
        .until(Kind::CLUSTER, CLUSTER, "another first backup", |cluster| {
            cluster.data["status"]["pgbackrest"]["repos"][0]["replicaCreateBackupComplete"] == true
        })
        .await;
    let made = fixture.bucket.list("second", "pgbackrest/a/demo-postgres/repo1/backup/db/").await.unwrap();
    assert!(!made.is_empty());
    // The first one is not in the repository any more.
    fixture.gone(Kind::BACKUP, &first).await;
    fixture.end().await;
}

/// `contract.md`, 6: without repositories there is nothing to delete, and nothing that could fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_backups_is_deleted_also_when_its_backups_are_to_go() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut cluster = fixture.cluster();
    cluster["metadata"]["finalizers"] = json!(["percona.com/delete-backups"]);
    cluster["spec"]["backups"] = json!({ "enabled": false });
    fixture.create(Kind::CLUSTER, cluster).await;
    fixture.until(Kind::CLUSTER, CLUSTER, "ready", |cluster| cluster.data["status"]["state"] == "ready").await;
    fixture.api(Kind::CLUSTER).delete(CLUSTER, &DeleteParams::background()).await.unwrap();
    fixture.gone(Kind::CLUSTER, CLUSTER).await;
    fixture.end().await;
}

/// A volume of the repository host is a directory of the double's own; what it cannot use, it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_on_a_volume_and_not_on_a_storage_that_the_double_does_not_know() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut cluster = fixture.cluster();
    cluster["spec"]["backups"]["pgbackrest"] = json!({
        "image": "pgbackrest:2", "global": { "start-fast": "y" },
        "repos": [{ "name": "repo1", "gcs": { "bucket": "elsewhere" } }],
    });
    fixture.create(Kind::CLUSTER, cluster).await;
    let events = fixture.events("UnableToCreateStanzas", 1).await;
    let message = events[0].data["message"].as_str().unwrap();
    assert!(message.ends_with("the double does not run pgBackRest: repo1 is on gcs"), "{message}");

    let claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    let repos = json!([{ "name": "repo1", "volume": { "volumeClaimSpec": claim } }]);
    let patch = json!({ "spec": { "backups": { "pgbackrest": { "repos": repos } } } });
    fixture.patch(Kind::CLUSTER, CLUSTER, patch).await;
    let first = fixture.first_backup().await;
    let status = &first.data["status"];
    assert_eq!((&status["storageType"], &status["destination"]), (&json!("filesystem"), &Value::Null));
    fixture.api(Kind::CLAIM).get("demo-postgres-repo1").await.unwrap();
    let volume = fixture.lab.directory().join("p/volumes/a/demo-postgres-repo1");
    let made = volume.join("backup/db").join(status["backupName"].as_str().unwrap());
    assert!(made.is_dir(), "{}", made.display());

    let finalizers =
        json!({ "metadata": { "finalizers": ["internal.percona.com/stop-watchers", "percona.com/delete-backups"] } });
    fixture.patch(Kind::CLUSTER, CLUSTER, finalizers).await;
    fixture.api(Kind::CLUSTER).delete(CLUSTER, &DeleteParams::background()).await.unwrap();
    fixture.gone(Kind::CLUSTER, CLUSTER).await;
    assert!(!made.exists() && volume.is_dir(), "the stanza goes, the volume stays");
    fixture.end().await;
}

/// What a projected volume may hold: a file in a directory, and the data of a `ConfigMap`.
#[tokio::test(flavor = "multi_thread")]
async fn the_options_come_from_a_config_map_too_and_the_certificate_from_a_directory() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.create(Kind::SECRET, Fixture::credentials(fixture.lab.storage.endpoint())).await;
    let options = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "options" },
        "data": { "options": "[global]\nrepo1-storage-ca-file=/etc/pgbackrest/conf.d/s3/ca.crt\nstart-fast=y\n" },
    });
    fixture.create(Kind::CONFIG_MAP, options).await;
    let mut cluster = fixture.cluster();
    let pgbackrest = &mut cluster["spec"]["backups"]["pgbackrest"];
    let item = |key: &str, path: &str| json!({ "key": key, "path": path });
    pgbackrest["configuration"] = json!([
        { "secret": { "name": "s3-creds", "items": [item("s3.conf", "s3.conf"), item("ca.crt", "s3/ca.crt")] } },
        { "configMap": { "name": "options", "items": [item("options", "options.conf")] } },
    ]);
    pgbackrest["global"] = json!({ "repo1-s3-uri-style": "path" });
    fixture.create(Kind::CLUSTER, cluster).await;
    let first = fixture.first_backup().await;
    assert_eq!(first.data["status"]["destination"], "s3://pgbackups");
    fixture.end().await;
}
