//! What is done to the double in each case, as it was done to the real operator for the recording.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use conformance::percona::Kind;
use conformance::s3::{Client, Endpoint};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::REPO_HOST;
use crate::driver::{CLUSTER, Driver, SECRET};
use crate::support::BUCKET;

/// How long a driver watches that nothing happens.
const A_WHILE: Duration = Duration::from_millis(1500);
/// Longer than the two minutes for which Percona waits for a cluster that is not ready for backups.
const PATIENCE: jiff::SignedDuration = jiff::SignedDuration::from_secs(121);
const CREDENTIALS: &str = "s3-creds";

/// The Secret of the traces.
fn credentials(driver: &Driver, secret_key: &str) -> Value {
    let Endpoint { access_key, .. } = driver.lab.storage.endpoint();
    let content = format!("[global]\nrepo1-s3-key={access_key}\nrepo1-s3-key-secret={secret_key}\n");
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": driver.namespace, "name": CREDENTIALS },
        "stringData": { "s3.conf": content },
    })
}

fn right_credentials(driver: &Driver) -> Value {
    credentials(driver, &driver.lab.storage.endpoint().secret_key)
}

/// The traces' custom resource with backups, and with `start-fast`, without which PostgreSQL takes minutes.
fn cluster(driver: &Driver, schedules: bool) -> Value {
    let endpoint = &driver.lab.storage.endpoint().endpoint;
    let mut repo = json!({ "name": "repo1", "s3": { "bucket": BUCKET, "endpoint": endpoint, "region": "us-east-1" } });
    if schedules {
        repo["schedules"] = json!({ "full": "0 2 * * *", "incremental": "0 * * * *" });
    }
    let mut cluster = driver.cluster();
    cluster["spec"]["backups"] = json!({ "pgbackrest": {
        "image": "docker.io/percona/percona-pgbackrest:2.57.0-1",
        "configuration": [{ "secret": { "name": CREDENTIALS } }],
        "global": {
            "repo1-path": format!("/pgbackrest/{}/{CLUSTER}/repo1", driver.namespace),
            "repo1-s3-uri-style": "path", "repo1-storage-verify-tls": "n", "start-fast": "y",
        },
        "repos": [repo],
    } });
    cluster
}

async fn first_backup(driver: &Driver) -> anyhow::Result<()> {
    driver
        .wait("replicaCreateBackupComplete", "PerconaPGCluster", CLUSTER, |cluster| {
            cluster.is_some_and(|cluster| {
                cluster.data["status"]["pgbackrest"]["repos"][0]["replicaCreateBackupComplete"] == true
            })
        })
        .await?;
    let backups = driver.api(Kind::BACKUP).list(&kube::api::ListParams::default()).await?.items;
    let first = backups.iter().find(|backup| backup.name_any().starts_with("demo-postgres-backup-"));
    let name = first.context("no PerconaPGBackup of the first backup")?.name_any();
    finished(driver, &name, "Succeeded").await
}

async fn finished(driver: &Driver, name: &str, state: &str) -> anyhow::Result<()> {
    driver
        .wait(&format!("{name} {state}"), "PerconaPGBackup", name, |backup| {
            backup.is_some_and(|backup| backup.data["status"]["state"] == state && backup.finalizers().is_empty())
        })
        .await
}

/// A cluster with a first and a manual backup, before the recording begins.
async fn backed_up_cluster(driver: &Driver) -> anyhow::Result<()> {
    driver.create(right_credentials(driver)).await?;
    driver.create(cluster(driver, true)).await?;
    first_backup(driver).await?;
    driver.create(manual(driver)).await?;
    finished(driver, "manual-full", "Succeeded").await?;
    driver.wait_state("ready", "ready").await?;
    driver.settle().await
}

fn manual(driver: &Driver) -> Value {
    json!({
        "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGBackup",
        "metadata": { "namespace": driver.namespace, "name": "manual-full" },
        "spec": { "pgCluster": CLUSTER, "repoName": "repo1", "options": ["--type=full"] },
    })
}

pub async fn missing_credentials(driver: &mut Driver) -> anyhow::Result<()> {
    driver.create(cluster(driver, true)).await?;
    driver.wait("pguser Secret exists", "Secret", SECRET, |secret| secret.is_some()).await?;
    driver.settle().await?;
    let pods = async || -> anyhow::Result<Value> {
        let pods = driver.api(Kind::POD).list(&kube::api::ListParams::default()).await?.items;
        Ok(pods.iter().map(|pod| (pod.name_any(), pod.data["status"]["phase"].clone())).collect())
    };
    let status = driver.api(Kind::CLUSTER).get(CLUSTER).await?.data["status"].clone();
    driver.mark("after 60 s", json!({ "status": status, "pods": pods().await? }));

    driver.mark("CR edited: backups.enabled=false while pods Pending", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "spec": { "backups": { "enabled": false } } })).await?;
    driver.nothing_for(A_WHILE).await;
    let outer = driver.api(Kind::CLUSTER).get(CLUSTER).await?;
    let inner = driver.api(Kind::INNER).get(CLUSTER).await?;
    driver.mark(
        "20 s after the edit",
        json!({
            "status_state": outer.data["status"]["state"], "generation": outer.metadata.generation,
            "observedGeneration": outer.data["status"]["observedGeneration"],
            "inner_backups_enabled": inner.data["spec"]["backups"]["enabled"], "pods": pods().await?,
        }),
    );
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "spec": { "backups": { "enabled": null } } })).await?;
    driver.mark("now creating the Secret", json!({}));
    driver.create(right_credentials(driver)).await?;
    driver.wait_state("state ready", "ready").await?;
    first_backup(driver).await
}

pub async fn wrong_credentials(driver: &mut Driver) -> anyhow::Result<()> {
    driver.create(credentials(driver, "a-secret-key-that-is-wrong")).await?;
    driver.create(cluster(driver, true)).await?;
    driver.wait_state("state ready", "ready").await?;
    driver.sql(&driver.secret_text("uri"), "select 1").await.context("no login while there is no stanza")?;
    driver.settle().await?;
    let none: [&str; 0] = [];
    ensure!(driver.objects(&["Job", "PerconaPGBackup"]).is_empty(), "there is a backup without a stanza");
    driver.mark("after 45 s more", json!({ "jobs": none, "backups": none }));

    driver.mark("PerconaPGBackup manual-full created while stanza missing", json!({}));
    driver.create(manual(driver)).await?;
    driver
        .wait("manual backup noted", "PostgresCluster", CLUSTER, |inner| {
            inner.is_some_and(|inner| inner.data["status"]["pgbackrest"]["manualBackup"]["id"] == "manual-full")
        })
        .await?;
    // No pass is under way that could write a status which it has read before.
    driver.settle().await?;
    // The recording waited for the two minutes to be over; here they are made to be.
    let mut status = driver.api(Kind::CLUSTER).get(CLUSTER).await?.data["status"].clone();
    let long_ago = (jiff::Timestamp::now() - PATIENCE).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        if condition["type"] == "ReadyForBackup" {
            condition["lastTransitionTime"] = json!(long_ago);
        }
    }
    let patch = kube::api::Patch::Merge(json!({ "status": { "conditions": status["conditions"] } }));
    driver.api(Kind::CLUSTER).patch_status(CLUSTER, &kube::api::PatchParams::default(), &patch).await?;
    finished(driver, "manual-full", "Failed").await?;

    driver.mark("credentials corrected in the Secret", json!({}));
    let right = right_credentials(driver);
    driver.patch(Kind::SECRET, CREDENTIALS, json!({ "stringData": right["stringData"] })).await?;
    first_backup(driver).await
}

pub async fn first_backup_of_a_new_cluster(driver: &mut Driver) -> anyhow::Result<()> {
    driver.create(right_credentials(driver)).await?;
    driver.create(cluster(driver, false)).await?;
    driver.wait_state("ready", "ready").await?;
    first_backup(driver).await?;
    let backups = driver.api(Kind::BACKUP).list(&kube::api::ListParams::default()).await?.items;
    driver
        .wait("latestRestorableTime", "PerconaPGBackup", &backups[0].name_any(), |backup| {
            backup.is_some_and(|backup| backup.data["status"]["latestRestorableTime"].is_string())
        })
        .await
}

pub async fn delete_with_backups(driver: &mut Driver) -> anyhow::Result<()> {
    backed_up_cluster(driver).await?;
    driver.record();
    driver.mark("DELETE", json!({}));
    driver.delete(Kind::CLUSTER, CLUSTER).await?;
    driver.wait_gone("PerconaPGCluster gone", "PerconaPGCluster", CLUSTER).await?;
    driver.wait_gone("PostgresCluster gone", "PostgresCluster", CLUSTER).await?;
    crate::cases::life::wait_collected(driver).await?;
    driver.wait_gone("repo host gone", "Pod", "demo-postgres-repo-host-0").await?;
    driver.settle().await?;
    driver.mark("remaining objects", json!({ "objects": driver.objects(crate::cases::life::LEFT) }));
    Ok(())
}

pub async fn disable_backups(driver: &mut Driver) -> anyhow::Result<()> {
    backed_up_cluster(driver).await?;
    driver.record();
    driver.mark("enabled=false (rest of backups kept)", json!({}));
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "spec": { "backups": { "enabled": false } } })).await?;
    driver
        .wait("paused", "PerconaPGCluster", CLUSTER, |cluster| {
            let conditions = cluster.and_then(|cluster| cluster.data["status"]["conditions"].as_array());
            conditions.into_iter().flatten().any(|condition| condition["reason"] == "Paused")
        })
        .await?;
    let inner = driver.api(Kind::INNER).get(CLUSTER).await?;
    let conditions: Vec<Value> = inner.data["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|condition| ["type", "status", "reason", "message"].map(|field| condition[field].clone()).into())
        .collect();
    let state = driver.api(Kind::CLUSTER).get(CLUSTER).await?.data["status"]["state"].clone();
    driver.mark("15 s later", json!({ "state": state, "inner_conditions": conditions }));

    driver.mark("password removed while paused for missing authorization", json!({}));
    driver.patch(Kind::SECRET, SECRET, json!({ "data": { "password": null } })).await?;
    driver.nothing_for(A_WHILE).await;
    ensure!(!driver.secret().contains_key("password"), "a password is made while nothing is reconciled");

    driver.mark("annotation set", json!({}));
    let authorized = json!({ "metadata": { "annotations": { "pgv2.percona.com/authorizeBackupRemoval": "true" } } });
    driver.patch(Kind::CLUSTER, CLUSTER, authorized).await?;
    driver.wait_secret("password regenerated", |secret| secret.contains_key("password")).await?;
    driver.wait_gone("repo-host StatefulSet gone", "StatefulSet", REPO_HOST).await?;
    driver.wait_state("leaves ready", "initializing").await?;
    driver.wait_state("ready", "ready").await?;
    driver.settle().await?;
    let cluster = driver.api(Kind::CLUSTER).get(CLUSTER).await?;
    driver.mark(
        "end",
        json!({
            "state": cluster.data["status"]["state"], "finalizers": cluster.finalizers(),
            "secret_has_pw": driver.secret().contains_key("password"),
        }),
    );
    ensure!(driver.logs_in(&driver.secret_text("uri")).await, "no login with the new password");
    Ok(())
}

pub async fn delete_while_the_operator_is_down(driver: &mut Driver) -> anyhow::Result<()> {
    backed_up_cluster(driver).await?;
    let bucket = Client::new(driver.lab.storage.endpoint())?;
    let prefix = format!("pgbackrest/{}/", driver.namespace);
    ensure!(!bucket.list(BUCKET, &prefix).await?.is_empty(), "the bucket is empty");
    let uri = driver.secret_text("uri");
    driver.record();
    let finalizers = json!(["internal.percona.com/stop-watchers", "percona.com/delete-backups"]);
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "metadata": { "finalizers": finalizers } })).await?;
    driver.lab.double.stop_operator().await;
    driver.mark("operator scaled to 0", json!({}));
    driver.mark("DELETE", json!({}));
    driver.delete(Kind::CLUSTER, CLUSTER).await?;
    driver.nothing_for(A_WHILE).await;
    let cluster = driver.api(Kind::CLUSTER).get(CLUSTER).await?;
    ensure!(driver.logs_in(&uri).await, "the database does not outlive its operator");
    driver.mark("12 s later", json!({ "exists": true, "state": cluster.data["status"]["state"] }));

    driver.mark("operator scaled to 1", json!({}));
    driver.lab.double.start_operator();
    driver.wait_gone("PerconaPGCluster gone", "PerconaPGCluster", CLUSTER).await?;
    driver.wait_gone("PostgresCluster gone", "PostgresCluster", CLUSTER).await?;
    crate::cases::life::wait_collected(driver).await?;
    driver.wait_no_pods("all pods gone").await?;
    let left = bucket.list(BUCKET, &prefix).await?.len().to_string();
    driver.mark("remaining", json!({ "bucket_objects": left, "objects": driver.objects(crate::cases::life::LEFT) }));
    Ok(())
}
