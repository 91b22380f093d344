//! What is done to the double in each case, as it was done to the real operator for the recording.

use std::time::Duration;

use anyhow::ensure;
use conformance::percona::Kind;
use serde_json::{Value, json};

use crate::driver::{CLUSTER, Driver, SECRET};

/// How long a driver watches that nothing happens.
const A_WHILE: Duration = Duration::from_millis(1500);
const IMAGES: &str = "the images";

pub async fn create_to_ready(driver: &mut Driver) -> anyhow::Result<()> {
    driver.probe("login with uri (no sslmode)", None);
    driver.create(driver.cluster()).await?;
    driver.wait("pguser Secret exists", "Secret", SECRET, |secret| secret.is_some()).await?;
    let uri = driver.secret_text("uri");
    driver.probe("login uri?sslmode=disable", Some(format!("{uri}?sslmode=disable")));
    driver.wait_state("state ready", "ready").await?;
    driver.wait("leader", "Endpoints", "demo-postgres-ha", |found| found.is_some()).await?;
    driver.wait_probe("login with uri (no sslmode)", true).await?;

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

pub async fn no_images(driver: &mut Driver) -> anyhow::Result<()> {
    driver.create(without_images(driver)).await?;
    driver.wait_state(IMAGES, "initializing").await?;
    driver.nothing_for(A_WHILE).await;
    let status = driver.api(Kind::CLUSTER).get(CLUSTER).await?.data["status"].clone();
    driver.mark("after 65 s", json!({ "status": status }));
    driver.mark("images added to the CR", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, images(driver)).await?;
    driver.wait_state("ready", "ready").await
}

pub async fn no_proxy(driver: &mut Driver) -> anyhow::Result<()> {
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

pub async fn pause(driver: &mut Driver) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    let uri = driver.secret_text("uri");
    driver.record();
    driver.probe("login with uri", Some(uri.clone()));
    driver.wait_probe("login with uri", true).await?;
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
    driver.wait_probe("login with uri", false).await?;
    driver.wait_probe("login with current uri", true).await?;
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

pub async fn delete_and_recreate(driver: &mut Driver) -> anyhow::Result<()> {
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

pub async fn delete_everything(driver: &mut Driver) -> anyhow::Result<()> {
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

pub async fn version_omitted(driver: &mut Driver) -> anyhow::Result<()> {
    let mut cluster = driver.cluster();
    cluster["spec"].as_object_mut().map(|spec| spec.remove("crVersion"));
    driver.create(cluster).await?;
    driver.wait_state("ready", "ready").await?;
    let cluster = driver.api(Kind::CLUSTER).get(CLUSTER).await?;
    let state = &cluster.data["status"]["state"];
    driver.mark("after 30 s", json!({ "crVersion": cluster.data["spec"]["crVersion"], "state": state }));
    Ok(())
}
