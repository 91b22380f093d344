//! What becomes of a cluster when something of its spec cannot be done, is taken back, or goes while it is needed.

use conformance::percona::Kind;
use conformance::s3::Endpoint;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::place::{DEADLINE, Place, SECRET};
use crate::support::Lab;

/// No storage class grows volumes here: the rest of the spec is followed all the same.
pub async fn no_volume_grows(lab: &Lab) {
    let place = Place::new(lab, "grown").await;
    place.create().await;
    place.until_state("ready").await;
    let claims = place.api(Kind::CLAIM);
    let claim = claims.list(&ListParams::default()).await.unwrap().items[0].name_any();
    // Nobody binds volumes in this control plane.
    let merge = |patch: Value| Patch::Merge(patch);
    let volume = merge(json!({ "spec": { "volumeName": "volume" } }));
    claims.patch(&claim, &PatchParams::default(), &volume).await.unwrap();
    let bound = merge(json!({ "status": { "phase": "Bound", "capacity": { "storage": "1Gi" } } }));
    claims.patch_status(&claim, &PatchParams::default(), &bound).await.unwrap();

    let size = "/spec/instances/0/dataVolumeClaimSpec/resources/requests/storage";
    place
        .edit(json!([
            { "op": "replace", "path": size, "value": "2Gi" },
            { "op": "add", "path": "/spec/proxy/pgBouncer/replicas", "value": 0 },
            { "op": "add", "path": "/spec/users/-", "value": { "name": "reporter", "databases": ["app"] } },
        ]))
        .await;
    let message = place.event("PersistentVolumeError").await;
    assert!(message.contains("only dynamically provisioned pvc can be resized"), "{message}");
    let exists = |object: Option<&DynamicObject>| object.is_some();
    place.until("the Secret of another user", Kind::SECRET, "demo-pguser-reporter", exists).await;
    place
        .until("no PgBouncer", Kind::DEPLOYMENT, "demo-pgbouncer", |deployment: Option<&DynamicObject>| {
            deployment.is_some_and(|deployment| deployment.data["spec"]["replicas"] == 0)
        })
        .await;
    place
        .until("a condition", Kind::INNER, "demo", |inner: Option<&DynamicObject>| {
            let conditions = inner.and_then(|inner| inner.data["status"]["conditions"].as_array());
            let refused = |condition: &Value| {
                condition["type"] == "PersistentVolumeResizing"
                    && condition["status"] == "False"
                    && condition["reason"] == "Forbidden"
            };
            conditions.into_iter().flatten().any(refused)
        })
        .await;
    place
        .until("ready without PgBouncer", Kind::CLUSTER, "demo", |cluster: Option<&DynamicObject>| {
            cluster.is_some_and(|cluster| {
                cluster.data["status"]["state"] == "ready" && cluster.data["status"]["pgbouncer"]["size"] == 0
            })
        })
        .await;
    place.until_login("demo-pguser-reporter").await.query("select 1").await.unwrap();
    let kept = claims.get(&claim).await.unwrap();
    assert_eq!(kept.data["spec"]["resources"]["requests"]["storage"], "1Gi");
}

/// What cannot be done for one user keeps neither the status nor the other users back.
pub async fn databases_refuse(lab: &Lab) {
    let place = Place::new(lab, "refused").await;
    place
        .create_as(|cluster| {
            cluster["spec"]["users"] = json!([
                { "name": "app", "databases": ["app"] },
                { "name": "noter", "databases": ["app"], "options": "LOGIN -- note" },
                // Nobody can make a schema there; and these are not PostgreSQL's options.
                { "name": "reporter", "databases": ["template0"], "options": "CREATEDB,CREATEROLE" },
            ]);
        })
        .await;
    place.until_state("ready").await;
    let session = place.login().await;
    place.try_login("demo-pguser-noter").await.expect("a login").query("select 1").await.unwrap();
    let created = session.value("select rolcreatedb from pg_roles where rolname = 'reporter'").await.unwrap();
    assert_eq!(created.as_deref(), Some("f"));
    let inner = place.api(Kind::INNER).get("demo").await.unwrap();
    assert_eq!(inner.data["status"]["usersRevision"], Value::Null, "not everything is done");
    let message = place.event("InvalidUser").await;
    assert_eq!(message, r#"spec.users[1].options: Invalid value: "LOGIN -- note": cannot contain comments"#);
}

/// A Secret that gets a name of its own keeps the password, and one without a database has no URIs any more.
pub async fn secrets_follow_the_spec(lab: &Lab) {
    let place = Place::new(lab, "renamed").await;
    place.create().await;
    place.until_state("ready").await;
    let before = place.api(Kind::SECRET).get(SECRET).await.unwrap().data;
    place.edit(json!([{ "op": "add", "path": "/spec/users/0/secretName", "value": "mine" }])).await;
    place.until("another Secret", Kind::SECRET, "mine", |secret: Option<&DynamicObject>| secret.is_some()).await;
    let mine = place.api(Kind::SECRET).get("mine").await.unwrap().data;
    assert!(mine["data"] == before["data"], "the Secrets differ");
    place.try_login("mine").await.expect("a login").query("select 1").await.unwrap();

    place.edit(json!([{ "op": "remove", "path": "/spec/users/0/databases" }])).await;
    let expected = ["host", "password", "pgbouncer-host", "pgbouncer-port", "port", "user", "verifier"];
    place
        .until("seven keys", Kind::SECRET, "mine", move |secret: Option<&DynamicObject>| {
            let data = secret.and_then(|secret| secret.data["data"].as_object());
            data.is_some_and(|data| data.keys().map(String::as_str).eq(expected))
        })
        .await;
    let mine = place.api(Kind::SECRET).get("mine").await.unwrap().data;
    assert!(mine["data"]["password"] == before["data"]["password"], "the password is another one");
}

/// With the volume goes the instance that led: the next cluster of the name has one of its own.
pub async fn made_again_without_its_volume(lab: &Lab) {
    let place = Place::new(lab, "emptied").await;
    place.create_as(|cluster| cluster["metadata"]["finalizers"] = json!(["percona.com/delete-pvc"])).await;
    place.until_state("ready").await;
    place.login().await.query("create table kept as select 1").await.unwrap();
    let secret = place.api(Kind::SECRET).get(SECRET).await.unwrap().metadata.uid;
    let inner = place.api(Kind::INNER).get("demo").await.unwrap().metadata.uid;
    place.api(Kind::CLUSTER).delete("demo", &DeleteParams::default()).await.unwrap();
    place.until("the cluster gone", Kind::CLUSTER, "demo", |cluster: Option<&DynamicObject>| cluster.is_none()).await;
    place.create().await;
    place
        .until("another Secret", Kind::SECRET, SECRET, move |now: Option<&DynamicObject>| {
            now.is_some_and(|now| now.metadata.uid != secret)
        })
        .await;
    let refused = place.logged_in().await.query("select * from kept").await.unwrap_err();
    assert_eq!(refused.sqlstate(), Some("42P01"), "{refused}");
    place
        .until("another inner object, ready", Kind::INNER, "demo", move |now: Option<&DynamicObject>| {
            now.is_some_and(|now| now.metadata.uid != inner && now.data["status"]["instances"][0]["readyReplicas"] == 1)
        })
        .await;
    place.until_state("ready").await;
}

/// As a Secret that is missing (trace g).
pub async fn a_missing_config_map_holds_the_database(lab: &Lab) {
    let place = Place::new(lab, "options").await;
    let Endpoint { endpoint, region, .. } = lab.storage.endpoint();
    place
        .create_as(|cluster| {
            cluster["spec"]["backups"] = json!({ "pgbackrest": {
                "image": "pgbackrest", "configuration": [{ "configMap": { "name": "options" } }],
                "repos": [{ "name": "repo1", "s3": { "bucket": "none", "endpoint": endpoint, "region": region } }],
            } });
        })
        .await;
    let message = place.event("FailedMount").await;
    assert_eq!(message, "MountVolume.SetUp failed for volume \"pgbackrest-config\" : configmap \"options\" not found");
    place.until("the user's Secret", Kind::SECRET, SECRET, |secret: Option<&DynamicObject>| secret.is_some()).await;
    assert_eq!(place.state().await, "initializing");

    let options = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "options" } });
    let options = serde_json::from_value(options).unwrap();
    place.api(Kind::CONFIG_MAP).create(&PostParams::default(), &options).await.unwrap();
    place.until_state("ready").await;
}

/// A cluster goes also when the kind of its backups is not installed any more.
pub async fn uninstalled(lab: &Lab) {
    let place = Place::new(lab, "uninstalled").await;
    place.create().await;
    place.until_state("ready").await;
    let kinds: Api<CustomResourceDefinition> = Api::all(place.client.clone());
    let name = "perconapgbackups.pgv2.percona.com";
    kinds.delete(name, &DeleteParams::default()).await.unwrap();
    let gone = |kind: Option<&CustomResourceDefinition>| kind.is_none();
    let in_time = tokio::time::timeout(DEADLINE, await_condition(kinds, name, gone)).await;
    in_time.expect("the kind goes").unwrap();
    place.api(Kind::CLUSTER).delete("demo", &DeleteParams::default()).await.unwrap();
    place.until("the inner object gone", Kind::INNER, "demo", |inner: Option<&DynamicObject>| inner.is_none()).await;
}
