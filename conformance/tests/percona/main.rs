//! The faults of the Percona double, on a real control plane, and what becomes of changes that it cannot follow.
//!
//! What it does without faults is compared with the real operator in `replay`, but for what no recording has.

mod changes;
mod place;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use conformance::percona::Kind;
use futures::TryStreamExt as _;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use crate::place::{DEADLINE, Place, SECRET};
use crate::support::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn faults_last_until_they_are_cleared() {
    let crds = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/crds");
    let lab = Lab::start(&[crds]).await;
    tokio::join!(
        secret_held(&lab),
        keys_held(&lab),
        ready_held(&lab),
        killed(&lab),
        replicated(&lab),
        service_lost(&lab),
        held_by_others(&lab),
        gone_at_its_start(&lab),
        made_again_at_once(&lab)
    );
    tokio::join!(
        changes::no_volume_grows(&lab),
        changes::databases_refuse(&lab),
        changes::secrets_follow_the_spec(&lab),
        changes::made_again_without_its_volume(&lab),
        changes::a_missing_config_map_holds_the_database(&lab)
    );
    // Alone: they stop the operator, and take a kind away, for all of them.
    stopped(&lab).await;
    changes::uninstalled(&lab).await;
    lab.end().await;
}

async fn secret_held(lab: &Lab) {
    let place = Place::new(lab, "secret").await;
    lab.double.hold_secret("secret", "demo", [].into()).await;
    place.create().await;
    place.until_state("ready").await;
    assert_eq!(place.secret().await, None, "ready, and there is no Secret");
    lab.double.release_secret("secret", "demo").await;
    assert_eq!(place.secret().await.unwrap().len(), 12);
    place.login().await.query("select 1").await.unwrap();

    let before = place.api(Kind::SECRET).get(SECRET).await.unwrap().data;
    lab.double.hold_secret("secret", "demo", [].into()).await;
    assert_eq!(place.secret().await, None, "a Secret that is there goes");
    lab.double.release_secret("secret", "demo").await;
    assert!(place.api(Kind::SECRET).get(SECRET).await.unwrap().data == before, "and comes back as it was");
}

async fn keys_held(lab: &Lab) {
    let place = Place::new(lab, "keys").await;
    lab.double.hold_secret("keys", "demo", ["uri".to_owned()].into()).await;
    place.create().await;
    place.until_state("ready").await;
    let keys = place.secret().await.unwrap();
    assert!(keys.len() == 11 && !keys.contains(&"uri".to_owned()), "{keys:?}");
    lab.double.release_secret("keys", "demo").await;
    place.login().await.query("select 1").await.unwrap();
}

async fn ready_held(lab: &Lab) {
    let place = Place::new(lab, "ready").await;
    lab.double.hold_ready("ready", "demo").await;
    place.create().await;
    place
        .until("the database", Kind::INNER, "demo", |inner: Option<&DynamicObject>| {
            inner.is_some_and(|inner| inner.data["status"]["instances"][0]["readyReplicas"] == 1)
        })
        .await;
    place.login().await.query("select 1").await.unwrap();
    assert_eq!(place.state().await, "initializing", "the database works, and the status does not say so");
    lab.double.release_ready("ready", "demo").await;
    assert_eq!(place.state().await, "ready");
}

async fn killed(lab: &Lab) {
    let place = Place::new(lab, "killed").await;
    place.create().await;
    place.until_state("ready").await;
    let session = place.login().await;
    session.query("create table kept as select 1").await.unwrap();
    let before = session.identity().await.unwrap().started;
    let pod = pod(&place).await;
    let seen = place.api(Kind::POD).get(&pod).await.unwrap().data;
    let cluster = place.api(Kind::CLUSTER).get("demo").await.unwrap().resource_version();
    assert!(lab.double.kill_postgres("killed", "demo").await);
    session.query("select 1").await.unwrap_err();
    // Meanwhile somebody wants another password: it is set when PostgreSQL is back.
    let patch = json!({ "data": { "password": null } });
    place.api(Kind::SECRET).patch(SECRET, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    place
        .until("another password", Kind::SECRET, SECRET, |secret: Option<&DynamicObject>| {
            secret.is_some_and(|secret| secret.data["data"]["password"].is_string())
        })
        .await;
    let again = place.logged_in().await;
    assert_ne!(again.identity().await.unwrap().started, before);
    again.query("select * from kept").await.unwrap();
    // Patroni starts it again inside its container: neither the pod nor the status shows it
    // (docs/reports/kind-real.md).
    assert!(place.api(Kind::POD).get(&pod).await.unwrap().data == seen, "the pod's status has changed");
    assert_eq!(place.api(Kind::CLUSTER).get("demo").await.unwrap().resource_version(), cluster);
}

/// Two instances from the beginning, and then one: the leader's.
async fn replicated(lab: &Lab) {
    let place = Place::new(lab, "replicated").await;
    place.create_as(|cluster| cluster["spec"]["instances"][0]["replicas"] = json!(2)).await;
    place.until_state("ready").await;
    let session = place.logged_in().await;
    session.query("create table kept as select 1").await.unwrap();
    let replica = place.only_pod("role=replica").await;
    let primary = place.only_pod("role=primary").await;
    let before = place.api(Kind::POD).get(&replica).await.unwrap().metadata.uid;
    place.api(Kind::POD).delete(&replica, &DeleteParams::default()).await.unwrap();
    place
        .until("another replica", Kind::POD, &replica, move |pod: Option<&DynamicObject>| {
            pod.is_some_and(|pod| {
                pod.metadata.uid != before && pod.labels().get("postgres-operator.crunchydata.com/role").is_some()
            })
        })
        .await;
    session.query("select * from kept").await.expect("the server is the primary's, and goes on");

    place.edit(json!([{ "op": "replace", "path": "/spec/instances/0/replicas", "value": 1 }])).await;
    place.until("one pod less", Kind::POD, &replica, |pod: Option<&DynamicObject>| pod.is_none()).await;
    place.until_state("ready").await;
    assert_eq!(place.only_pod("data=postgres").await, primary);
    session.query("select * from kept").await.unwrap();
}

/// Whoever deletes an object of a cluster gets it back.
async fn service_lost(lab: &Lab) {
    let place = Place::new(lab, "lost").await;
    place.create().await;
    place.until_state("ready").await;
    for (kind, name) in [(Kind::SERVICE, "demo-primary"), (Kind::DEPLOYMENT, "demo-pgbouncer")] {
        let before = place.api(kind).get(name).await.unwrap().metadata.uid;
        place.api(kind).delete(name, &DeleteParams::default()).await.unwrap();
        place
            .until(name, kind, name, move |now: Option<&DynamicObject>| {
                now.is_some_and(|now| now.metadata.uid != before)
            })
            .await;
    }
}

/// The operator deletes what a cluster is made of also while somebody else's finalizer keeps its object.
async fn held_by_others(lab: &Lab) {
    let place = Place::new(lab, "held").await;
    place.create().await;
    place.until_state("ready").await;
    let finalizers = |list: Value| Patch::Merge(json!({ "metadata": { "finalizers": list } }));
    let api = place.api(Kind::CLUSTER);
    api.patch("demo", &PatchParams::default(), &finalizers(json!(["example.com/mine"]))).await.unwrap();
    api.delete("demo", &DeleteParams::default()).await.unwrap();
    place.until("the inner object gone", Kind::INNER, "demo", |inner: Option<&DynamicObject>| inner.is_none()).await;
    let held = api.get("demo").await.unwrap();
    assert_eq!(held.finalizers(), ["example.com/mine"]);
    api.patch("demo", &PatchParams::default(), &finalizers(Value::Null)).await.unwrap();
}

/// Nothing can be created in a namespace that is going away, also not what Patroni writes when its PostgreSQL is up.
async fn gone_at_its_start(lab: &Lab) {
    let place = Place::new(lab, "going").await;
    place.create().await;
    let mut pods = std::pin::pin!(watcher(place.api(Kind::POD), watcher::Config::default()).applied_objects());
    tokio::time::timeout(DEADLINE, pods.try_next()).await.expect("a pod").unwrap();
    let all: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(place.client.clone());
    all.delete("going", &DeleteParams::default()).await.unwrap();
    let gone = |namespace: Option<&k8s_openapi::api::core::v1::Namespace>| namespace.is_none();
    let gone = tokio::time::timeout(DEADLINE, await_condition(all, "going", gone)).await;
    gone.expect("the namespace goes, and the pod with it").unwrap();
}

/// Seen on the real one (docs/reports/kind-real.md): the status of a cluster that is made while a former one of its name
/// goes away is first the former one's.
async fn made_again_at_once(lab: &Lab) {
    let place = Place::new(lab, "again").await;
    place.create().await;
    place.until_state("ready").await;
    let before = place.api(Kind::CLUSTER).get("demo").await.unwrap().metadata.uid;
    let pod = pod(&place).await;
    let pod_before = place.api(Kind::POD).get(&pod).await.unwrap().metadata.uid;
    let mut changes = std::pin::pin!(watcher(place.api(Kind::CLUSTER), watcher::Config::default()).applied_objects());
    place.api(Kind::CLUSTER).delete("demo", &DeleteParams::default()).await.unwrap();
    place.create().await;
    let mut states: Vec<String> = Vec::new();
    let third = async {
        while states.len() < 3 {
            let cluster = changes.try_next().await.unwrap().unwrap();
            let state = cluster.data["status"]["state"].as_str().unwrap_or_default().to_owned();
            if cluster.metadata.uid != before && !state.is_empty() && states.last() != Some(&state) {
                states.push(state);
            }
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, third).await;
    assert!(in_time.is_ok(), "only {states:?} within {DEADLINE:?}");
    assert_eq!(states, ["ready", "initializing", "ready"]);
    assert_ne!(
        place.api(Kind::POD).get(&pod).await.unwrap().metadata.uid,
        pod_before,
        "the former cluster's pod is gone"
    );
}

async fn pod(place: &Place<'_>) -> String {
    let pods = place.api(Kind::POD).list(&ListParams::default()).await.unwrap();
    let name = |pod: &DynamicObject| pod.metadata.name.clone().unwrap_or_default();
    pods.iter().map(name).find(|name| name.starts_with("demo-instance1-")).unwrap()
}

async fn stopped(lab: &Lab) {
    let place = Place::new(lab, "stopped").await;
    place.create().await;
    place.until_state("ready").await;
    lab.double.stop_operator().await;
    let patch = json!({ "data": { "password": null } });
    place.api(Kind::SECRET).patch(SECRET, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    // Its clusters go on, and nobody completes the Secret: there is no event for that, so some time has to pass.
    place.login().await.query("select 1").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(place.secret().await.unwrap().len(), 11);
    // Nobody is there to act on a fault, and nobody waits for that.
    let held = tokio::time::timeout(DEADLINE, lab.double.hold_ready("stopped", "demo")).await;
    held.expect("a fault is noted while the operator is stopped");
    lab.double.release_ready("stopped", "demo").await;
    lab.double.start_operator();
    place
        .until("the Secret", Kind::SECRET, SECRET, |secret: Option<&DynamicObject>| {
            secret.is_some_and(|secret| secret.data["data"]["password"].is_string())
        })
        .await;
}
