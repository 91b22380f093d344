//! Creation, missing parts, pause, deletion.

use std::time::Duration;

use anyhow::ensure;
use conformance::percona::Kind;
use serde_json::{Value, json};

use super::{Case, FROZEN, IDS, OBJECTS, run, silent, states};
use crate::compare::Check::{Events, Last, Mark, NotBefore, Objects, Order, Values};
use crate::compare::{added, becomes, deleted, event, mark, probe, refused};
use crate::driver::{CLUSTER, Driver, SECRET};

/// How long a driver watches that nothing happens.
const A_WHILE: Duration = Duration::from_millis(1500);

const IMAGES: &str = "the images";

pub fn cases() -> Vec<Case> {
    vec![
        creation(),
        images_missing(),
        proxy_missing(),
        paused(),
        deleted_and_made_again(),
        deleted_with_everything(),
        version_filled_in(),
    ]
}

fn creation() -> Case {
    Case {
        name: "a",
        trace: "a-create-to-ready",
        run: run!(create_to_ready),
        checks: vec![
            Objects { kinds: OBJECTS, allowed: &[] },
            states(),
            silent(),
            Events { on: "PostgresCluster", allowed: &[] },
            Values { kind: "PerconaPGCluster", field: "status", pointer: "/postgres/version", skip: &[] },
            Values { kind: "PerconaPGCluster", field: "status", pointer: "/host", skip: &[] },
            Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN },
            Last { kind: "PerconaPGCluster", field: "annotations", allowed: &[] },
            Last { kind: "PostgresCluster", field: "status", allowed: &[] },
            Last { kind: "PostgresCluster", field: "annotations", allowed: &[] },
            Last { kind: "PostgresCluster", field: "finalizers", allowed: &[] },
            Last { kind: "Secret", field: "pguser", allowed: &[] },
            Last { kind: "Secret", field: "managedFields", allowed: &[] },
            Last { kind: "StatefulSet", field: "status", allowed: &[] },
            Last { kind: "Deployment", field: "status", allowed: &[] },
            Last { kind: "Endpoints", field: "leader", allowed: &[] },
            Order(vec![
                added("PerconaPGCluster", CLUSTER),
                added("PostgresCluster", CLUSTER),
                becomes("PerconaPGCluster", "status", "/state", "initializing"),
                added("Secret", "demo-postgres-cluster-ca-cert"),
                added("Service", "demo-postgres-pods"),
                added("ServiceAccount", "demo-postgres-instance"),
                added("ConfigMap", "demo-postgres-config"),
                added("Secret", "demo-postgres-replication-cert"),
                added("Service", "demo-postgres-ha"),
                added("Service", "demo-postgres-primary"),
                added("Secret", "demo-postgres-cluster-cert"),
                added("Service", "demo-postgres-ha-config"),
                added("Secret", "demo-postgres-instance1-<id>-certs"),
                added("PersistentVolumeClaim", "demo-postgres-instance1-<id>-pgdata"),
                added("StatefulSet", "demo-postgres-instance1-<id>"),
                added("Secret", SECRET),
                added("Service", "demo-postgres-pgbouncer"),
                added("Secret", "demo-postgres-pgbouncer"),
                added("Deployment", "demo-postgres-pgbouncer"),
            ]),
            Order(vec![
                added("Secret", SECRET),
                becomes("PerconaPGCluster", "status", "/postgres/version", "17"),
                becomes("PerconaPGCluster", "annotations", "/pgv2.percona.com~1patroni-version", "4.0.7"),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
            Order(vec![
                added("Endpoints", "demo-postgres-ha-config"),
                added("Endpoints", "demo-postgres-ha"),
                probe("login with uri (no sslmode)", true),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
            // The password is refused before it is known: the Secret is ahead of the database.
            Order(vec![added("Secret", SECRET), probe("login with uri (no sslmode)", false)]),
            Mark { name: "user attrs", fields: &["out"] },
            Mark { name: "search_path/schemas", fields: &["out"] },
            Mark { name: "db owner/acl", fields: &["out"] },
            Mark { name: "create table unqualified", fields: &["rc"] },
            Mark { name: "create table public", fields: &["rc"] },
            refused_without_tls(),
        ],
    }
}

fn images_missing() -> Case {
    Case {
        name: "b1",
        trace: "b1-no-images-with-proxy",
        run: run!(no_images),
        checks: vec![
            Objects { kinds: OBJECTS, allowed: &[] },
            states(),
            silent(),
            Events { on: "PostgresCluster", allowed: &[] },
            Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN },
            Mark { name: "after 65 s", fields: &["status"] },
            Order(vec![
                added("PostgresCluster", CLUSTER),
                event("PostgresCluster/", "MissingRequiredImage"),
                mark("images added to the CR"),
                added("Secret", SECRET),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
            NotBefore(added("Secret", "demo-postgres-cluster-ca-cert"), mark("images added to the CR")),
            NotBefore(added("Service", "demo-postgres-pods"), mark("images added to the CR")),
        ],
    }
}

fn proxy_missing() -> Case {
    Case {
        name: "b2",
        trace: "b2-no-proxy-no-images-operator-crash",
        run: run!(no_proxy),
        checks: vec![
            Objects { kinds: OBJECTS, allowed: &[] },
            states(),
            silent(),
            Events { on: "PostgresCluster", allowed: &[] },
            Mark { name: "after 63 s", fields: &["status", "objects"] },
            NotBefore(added("PostgresCluster", CLUSTER), mark("spec.proxy added to the CR (still no images)")),
            Order(vec![
                mark("spec.proxy added to the CR (still no images)"),
                added("PostgresCluster", CLUSTER),
                event("PostgresCluster/", "MissingRequiredImage"),
                mark("images added"),
                added("Secret", SECRET),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
        ],
    }
}

fn paused() -> Case {
    Case {
        name: "j",
        trace: "j-pause-unpause",
        run: run!(pause),
        checks: vec![
            states(),
            silent(),
            Values { kind: "PostgresCluster", field: "spec.shutdown", pointer: "", skip: &[] },
            Values { kind: "StatefulSet", field: "replicas_spec", pointer: "", skip: &[] },
            Values { kind: "Deployment", field: "replicas_spec", pointer: "", skip: &[] },
            Values { kind: "Secret", field: "pguser", pointer: "/verifier/matches_password", skip: &[] },
            Mark { name: "paused objects", fields: &["objects"] },
            Mark { name: "secret while paused", fields: &["has_password", "verifier_matches"] },
            Mark { name: "after", fields: &["old_login", "new_login"] },
            Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN },
            Last { kind: "PostgresCluster", field: "status", allowed: &[] },
            Last { kind: "Secret", field: "pguser", allowed: IDS },
            // Rotated while paused: after the start the old password is valid for a while, the Secret's is not.
            Order(vec![
                mark("pause=false"),
                probe("login with uri", true),
                refused("login with uri", "password authentication failed"),
            ]),
            Order(vec![
                mark("pause=false"),
                probe("login with uri", true),
                probe("login with current uri", true),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
        ],
    }
}

fn deleted_and_made_again() -> Case {
    Case {
        name: "k1",
        trace: "k1-delete-no-backups",
        run: run!(delete_and_recreate),
        checks: vec![
            silent(),
            Mark { name: "remaining objects", fields: &["objects"] },
            Mark { name: "after recreate", fields: &["password_same", "login_rc", "pvcs", "statefulsets"] },
            Order(vec![
                deleted("PerconaPGCluster", CLUSTER),
                deleted("Pod", "demo-postgres-instance1-<id>-0"),
                deleted("PostgresCluster", CLUSTER),
                deleted("StatefulSet", "demo-postgres-instance1-<id>"),
                mark("remaining objects"),
                added("PostgresCluster", CLUSTER),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
            Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN },
            Last { kind: "PostgresCluster", field: "status", allowed: &[] },
        ],
    }
}

fn deleted_with_everything() -> Case {
    Case {
        name: "k3",
        trace: "k3-delete-with-delete-pvc-finalizer",
        run: run!(delete_everything),
        checks: vec![
            silent(),
            Mark { name: "remaining objects", fields: &["objects"] },
            Values {
                kind: "PerconaPGCluster",
                field: "finalizers",
                pointer: "",
                skip: &[("absent", "a list that is gone is not written by the recordings' recorder")],
            },
            Order(vec![
                mark("DELETE"),
                becomes("PersistentVolumeClaim", "deletionTimestamp", "", "<time>"),
                deleted("Secret", SECRET),
                deleted("Secret", "demo-postgres-pgbouncer"),
                deleted("Secret", "demo-postgres-cluster-ca-cert"),
                deleted("Secret", "demo-postgres-cluster-cert"),
                deleted("Secret", "demo-postgres-replication-cert"),
                deleted("Secret", "demo-postgres-instance1-<id>-certs"),
                deleted("PerconaPGCluster", CLUSTER),
                deleted("Pod", "demo-postgres-instance1-<id>-0"),
                deleted("PostgresCluster", CLUSTER),
                deleted("StatefulSet", "demo-postgres-instance1-<id>"),
            ]),
        ],
    }
}

fn version_filled_in() -> Case {
    Case {
        name: "n6",
        trace: "n6-crversion-omitted",
        run: run!(version_omitted),
        checks: vec![
            Values { kind: "PerconaPGCluster", field: "spec.crVersion", pointer: "", skip: &[] },
            // The recording goes on until the cluster is deleted, so that there is no last status.
            Mark { name: "after 30 s", fields: &["crVersion", "state"] },
        ],
    }
}

/// Without TLS nobody gets in, in the same words.
fn refused_without_tls() -> crate::compare::Check {
    Order(vec![added("Secret", SECRET), refused("login uri?sslmode=disable", "no pg_hba.conf entry for host")])
}

async fn create_to_ready(driver: &mut Driver) -> anyhow::Result<()> {
    driver.probe("login with uri (no sslmode)", None);
    driver.create(driver.cluster()).await?;
    driver.wait("pguser Secret exists", "Secret", SECRET, |secret| secret.is_some()).await?;
    let uri = driver.secret_text("uri");
    driver.probe("login uri?sslmode=disable", Some(format!("{uri}?sslmode=disable")));
    driver.wait_state("state ready", "ready").await?;
    driver.wait("leader", "Endpoints", "demo-postgres-ha", |found| found.is_some()).await?;

    let show = |rows: conformance::postgres::Rows| {
        let line = |row: &Vec<Option<String>>| {
            row.iter().map(|value| value.clone().unwrap_or_default()).collect::<Vec<_>>().join("|")
        };
        rows.values.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let ask = async |sql: &str| driver.sql(&uri, sql).await.map(show);
    let attributes = "select rolname, rolsuper, rolcreatedb, rolcreaterole, rolreplication from pg_roles where rolname = \
                      current_user";
    driver.mark("user attrs", json!({ "out": ask(attributes).await? }));
    let schemas = "select nspname, pg_get_userbyid(nspowner) from pg_namespace where nspname !~ '^pg_' order by 1";
    let path = [ask("show search_path").await?, ask(schemas).await?, ask("select current_user").await?].join("\n");
    driver.mark("search_path/schemas", json!({ "out": path }));
    let acl = "select datname, pg_get_userbyid(datdba), datacl from pg_database where datname = 'dittofs'";
    driver.mark("db owner/acl", json!({ "out": ask(acl).await? }));
    let code = |outcome: Result<String, _>| i32::from(outcome.is_err());
    driver.mark("create table unqualified", json!({ "rc": code(ask("create table t1(i int)").await) }));
    driver.mark("create table public", json!({ "rc": code(ask("create table public.t2(i int)").await) }));
    let place = ask("select schemaname from pg_tables where tablename = 't1'").await?;
    ensure!(place == "dittofs", "an unqualified table is in schema {place}");
    Ok(())
}

fn without_images(driver: &Driver) -> Value {
    let mut cluster = driver.cluster();
    for path in ["/spec", "/spec/proxy/pgBouncer"] {
        cluster.pointer_mut(path).and_then(Value::as_object_mut).map(|fields| fields.remove("image"));
    }
    cluster
}

fn images(driver: &Driver) -> Value {
    let whole = driver.cluster();
    let bouncer = &whole["spec"]["proxy"]["pgBouncer"]["image"];
    json!({ "spec": { "image": whole["spec"]["image"], "proxy": { "pgBouncer": { "image": bouncer } } } })
}

async fn no_images(driver: &mut Driver) -> anyhow::Result<()> {
    driver.create(without_images(driver)).await?;
    driver.wait_state(IMAGES, "initializing").await?;
    driver.nothing_for(A_WHILE).await;
    let status = driver.api(Kind::CLUSTER).get(CLUSTER).await?.data["status"].clone();
    driver.mark("after 65 s", json!({ "status": status }));
    driver.mark("images added to the CR", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, images(driver)).await?;
    driver.wait_state("ready", "ready").await
}

async fn no_proxy(driver: &mut Driver) -> anyhow::Result<()> {
    let mut cluster = without_images(driver);
    cluster["spec"].as_object_mut().map(|spec| spec.remove("proxy"));
    driver.create(cluster).await?;
    driver.nothing_for(A_WHILE).await;
    ensure!(driver.lab.double.crash(&driver.namespace).is_some(), "the double does not say that it crashed");
    let status = driver.api(Kind::CLUSTER).get(CLUSTER).await?.data["status"].clone();
    let mut objects =
        driver.objects(&["ConfigMap", "PerconaPGCluster", "PostgresCluster", "Secret", "Service", "ServiceAccount"]);
    objects.insert(0, "ConfigMap/kube-root-ca.crt".to_owned());
    driver.mark("after 63 s", json!({ "status": status, "objects": objects }));
    driver.mark("spec.proxy added to the CR (still no images)", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "spec": { "proxy": { "pgBouncer": { "replicas": 1 } } } })).await?;
    driver.wait_state("status appears (operator back)", "initializing").await?;
    driver.nothing_for(A_WHILE).await;
    driver.mark("images added", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, images(driver)).await?;
    driver.wait_state("ready", "ready").await
}

async fn pause(driver: &mut Driver) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    let uri = driver.secret_text("uri");
    driver.record();
    driver.probe("login with uri", Some(uri.clone()));
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "spec": { "pause": true } })).await?;
    driver.mark("pause=true", json!({}));
    driver.wait_state("stopping", "stopping").await?;
    driver.wait_state("paused", "paused").await?;
    driver.wait_no_pods("no pods").await?;
    let objects = driver.objects(&["Deployment", "PersistentVolumeClaim", "Pod", "Secret", "Service", "StatefulSet"]);
    let listed: Vec<&String> = objects.iter().filter(|name| !name.starts_with("PersistentVolumeClaim")).collect();
    driver.mark("paused objects", json!({ "objects": listed }));

    let old = driver.secret();
    driver.patch(Kind::SECRET, SECRET, json!({ "data": { "password": null } })).await?;
    driver
        .wait_secret("rewritten", |secret| {
            secret.get("password").is_some_and(|password| Some(password) != old.get("password"))
        })
        .await?;
    let secret = driver.secret();
    let verifier = String::from_utf8_lossy(&secret["verifier"]).into_owned();
    let matches = conformance::percona::secret::belongs(&verifier, &secret["password"]);
    driver.mark("secret while paused", json!({ "has_password": true, "verifier_matches": matches }));
    driver.probe("login with current uri", None);
    driver.mark("pause=false", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "spec": { "pause": false } })).await?;
    driver.wait_state("ready", "ready").await?;
    let (old, new) = (driver.logs_in(&uri).await, driver.logs_in(&driver.secret_text("uri")).await);
    driver.mark("after", json!({ "old_login": old, "new_login": new }));
    // The probes have to see it too.
    driver.settle().await
}

/// Waits until the garbage collector has removed what the cluster owned.
pub async fn wait_collected(driver: &Driver) -> anyhow::Result<()> {
    for (kind, name) in [
        ("Deployment", "demo-postgres-pgbouncer"),
        ("Service", "demo-postgres-pods"),
        ("Service", "demo-postgres-pgbouncer"),
        ("ConfigMap", "demo-postgres-pgbouncer"),
        ("Secret", "demo-postgres-cluster-ca-cert"),
    ] {
        driver.wait_gone("collected", kind, name).await?;
    }
    Ok(())
}

pub const LEFT: &[&str] =
    &["Deployment", "Job", "PerconaPGBackup", "PersistentVolumeClaim", "Pod", "Secret", "Service", "StatefulSet"];

async fn delete_and_recreate(driver: &mut Driver) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    let (before, instances) = (driver.secret(), driver.objects(&["StatefulSet"]));
    driver.sql(&driver.secret_text("uri"), "create table kept as select 42 as answer").await?;
    driver.record();
    driver.delete(Kind::CLUSTER, CLUSTER).await?;
    driver.wait_gone("PerconaPGCluster gone", "PerconaPGCluster", CLUSTER).await?;
    driver.wait_gone("PostgresCluster gone", "PostgresCluster", CLUSTER).await?;
    wait_collected(driver).await?;
    driver.wait_no_pods("all pods gone").await?;
    driver.mark("remaining objects", json!({ "objects": driver.objects(LEFT) }));

    driver.create(driver.cluster()).await?;
    driver.wait_state("ready again", "ready").await?;
    let uri = driver.secret_text("uri");
    let kept = driver.sql(&uri, "select answer from kept").await?.values;
    ensure!(kept == [[Some("42".to_owned())]], "the data is not there any more: {kept:?}");
    ensure!(driver.objects(&["StatefulSet"]) == instances, "the instance has another name");
    let names = |kind: &str| -> Vec<String> {
        let listed = driver.objects(&[kind]).into_iter();
        listed.filter_map(|name| Some(name.split_once('/')?.1.to_owned())).collect()
    };
    driver.mark(
        "after recreate",
        json!({
            "password_same": driver.secret().get("password") == before.get("password"),
            "login_rc": i32::from(!driver.logs_in(&uri).await),
            "pvcs": names("PersistentVolumeClaim"), "statefulsets": names("StatefulSet"),
        }),
    );
    Ok(())
}

async fn delete_everything(driver: &mut Driver) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    driver.record();
    let finalizers = json!(["percona.com/delete-pvc", "percona.com/delete-ssl"]);
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "metadata": { "finalizers": finalizers } })).await?;
    driver.mark("DELETE", json!({}));
    driver.delete(Kind::CLUSTER, CLUSTER).await?;
    driver.wait_gone("PerconaPGCluster gone", "PerconaPGCluster", CLUSTER).await?;
    driver.wait_gone("PostgresCluster gone", "PostgresCluster", CLUSTER).await?;
    wait_collected(driver).await?;
    driver.wait_no_pods("all pods gone").await?;
    driver.mark("remaining objects", json!({ "objects": driver.objects(LEFT) }));
    Ok(())
}

async fn version_omitted(driver: &mut Driver) -> anyhow::Result<()> {
    let mut cluster = driver.cluster();
    cluster["spec"].as_object_mut().map(|spec| spec.remove("crVersion"));
    driver.create(cluster).await?;
    driver.wait_state("ready", "ready").await?;
    let cluster = driver.api(Kind::CLUSTER).get(CLUSTER).await?;
    let state = &cluster.data["status"]["state"];
    driver.mark("after 30 s", json!({ "crVersion": cluster.data["spec"]["crVersion"], "state": state }));
    Ok(())
}
