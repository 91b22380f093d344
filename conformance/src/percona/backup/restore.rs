//! A cluster that begins with what another one has backed up: `spec.dataSource.pgbackrest` of a `PerconaPGCluster`.
//!
//! In Percona a Job does it before there is an instance (`reconcileCloudBasedDataSource`, 2.8.2): `pgbackrest restore`, and a
//! PostgreSQL that replays the WAL. Here the first pod does both, and there is no such Job. Other data sources, and a restore
//! into a cluster that exists (a `PerconaPGRestore` of a user), are not done. None of it was recorded from the real operator.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, bail, ensure};
use jiff::{Timestamp, Unit};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::super::context::{Context, Kind};
use super::super::names::{Key, OUTER};
use super::super::registry::Instance;
use super::config::STANZA;
use super::{pod, volume};
use crate::postgres::ServerOptions;

/// Marks the `PerconaPGRestore` that nobody asked for.
const BOOTSTRAP: &str = "pgv2.percona.com/cluster-bootstrap-restore";

/// Restores the data of a PostgreSQL that is about to start, if it has none and the cluster names a source.
///
/// # Errors
/// There is no pgBackRest on this machine, or it fails.
pub async fn begin(context: &Context, key: &Key, instance: &Instance, server: &ServerOptions) -> anyhow::Result<()> {
    if server.data.join("PG_VERSION").exists() {
        return Ok(());
    }
    let Some(inner) = context.get(Kind::INNER, &key.namespace, &key.name).await? else { return Ok(()) };
    let Some(source) = source(&inner) else { return Ok(()) };
    let stanza = source["stanza"].as_str().unwrap_or(STANZA);
    ensure!(stanza == STANZA, "the double knows the stanza {STANZA} alone, not {stanza}");
    // Beside its place: what a restore has made that was not ended must not look like data.
    let restored = instance.directory.join("restored");
    remove(&restored)?;
    let into = |data: &Path| pod::create(context, instance, "restore", data.to_owned(), server.socket());
    let Some(repository) = into(&restored)? else { bail!("there is no pgBackRest on this machine") };
    let Some(config) = volume::config(context, key, &as_backups(source)).await? else {
        bail!("what spec.dataSource.pgbackrest.configuration names is not there");
    };
    repository.configure(&config)?;
    let options: Vec<&str> = source["options"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    repository.restore(source["repo"]["name"].as_str().unwrap_or_default(), &options).await?;
    // PostgreSQL asks the same pgBackRest for the WAL, which compares where it is.
    if let Some(repository) = into(&server.data)? {
        repository.configure(&config)?;
    }
    remove(&server.data)?;
    fs::rename(&restored, &server.data).with_context(|| format!("cannot make {}", server.data.display()))
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Says how far the restore is with which a cluster begins: a `PerconaPGRestore` that Percona makes by itself.
pub async fn report(context: &Context, key: &Key, cluster: &DynamicObject) -> kube::Result<()> {
    let Some(source) = source(cluster) else { return Ok(()) };
    let name = key.named("bootstrap");
    let Some(known) = context.get(Kind::RESTORE, &key.namespace, &name).await? else {
        let restore = json!({
            "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGRestore",
            "metadata": { "namespace": key.namespace, "name": name, "annotations": { BOOTSTRAP: "true" } },
            "spec": { "pgCluster": key.name, "repoName": source["repo"]["name"] },
        });
        context.create(restore).await?;
        return context.status(Kind::RESTORE, key, &name, &json!({ "state": "Starting" }), OUTER).await;
    };
    let state = known.data["status"]["state"].as_str().unwrap_or_default();
    let running = context.registry.get(key).is_some_and(|instance| instance.server().is_some());
    let status = match state {
        "Succeeded" => return Ok(()),
        _ if running => {
            let now = Timestamp::now();
            json!({ "state": "Succeeded", "completed": now.round(Unit::Second).unwrap_or(now).to_string() })
        }
        "Running" => return Ok(()),
        _ => json!({ "state": "Running" }),
    };
    context.status(Kind::RESTORE, key, &name, &status, OUTER).await
}

/// The source of a cluster's first data, outer or inner.
fn source(cluster: &DynamicObject) -> Option<&Value> {
    Some(&cluster.data["spec"]["dataSource"]["pgbackrest"]).filter(|source| source.is_object())
}

/// A source says of one repository what `spec.backups` says of several.
fn as_backups(source: &Value) -> Value {
    json!({ "backups": { "pgbackrest": {
        "repos": [source["repo"]], "global": source["global"], "configuration": source["configuration"],
    } } })
}
