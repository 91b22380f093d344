//! What happens to a cluster that is there: its pods are deleted, its spec is changed; and a spec that is never taken
//! up.

use std::time::Duration;

use anyhow::Context as _;
use conformance::percona::Kind;
use serde_json::{Value, json};

use super::{Case, run, silent, states};
use crate::compare::Check::{Mark, Order, Quiet, Values};
use crate::compare::{added, becomes, deleted, mark, probe};
use crate::driver::{CLUSTER, Driver};

/// How long a driver watches that nothing happens.
const A_WHILE: Duration = Duration::from_millis(1500);
const POSTGRES: &str = "demo-postgres-instance1-<id>-0";
const PGBOUNCER: &str = "demo-postgres-pgbouncer-<id>";

pub fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "l",
            trace: "l-primary-pod-deleted",
            run: run!(postgres_deleted),
            checks: vec![
                // Always `ready`: the gate is closed while the first pod does not run.
                states(),
                silent(),
                Mark { name: "secret unchanged", fields: &["login_ok"] },
                Order(vec![
                    mark("pod deleted"),
                    probe("login with uri", false),
                    deleted("Pod", POSTGRES),
                    added("Pod", POSTGRES),
                    probe("login with uri", true),
                    becomes("Pod", "ready", "", "True"),
                ]),
            ],
        },
        Case {
            name: "l2",
            trace: "l2-pgbouncer-pod-deleted",
            run: run!(pgbouncer_deleted),
            checks: vec![
                states(),
                silent(),
                Order(vec![
                    mark("pod deleted"),
                    becomes("PerconaPGCluster", "status", "/state", "initializing"),
                    becomes("PostgresCluster", "status", "/proxy/pgBouncer/readyReplicas", "1"),
                    becomes("PerconaPGCluster", "status", "/state", "ready"),
                ]),
                Order(vec![added("Pod", PGBOUNCER), deleted("Pod", PGBOUNCER)]),
            ],
        },
        Case {
            name: "n1",
            trace: "n1-grant-public-schema",
            run: run!(public_schema_granted),
            checks: vec![
                states(),
                silent(),
                Mark { name: "public writable", fields: &["rc", "err"] },
                Order(vec![mark("grantPublicSchemaAccess=true"), mark("public writable")]),
            ],
        },
        Case {
            name: "n8",
            trace: "n8-crversion-garbage",
            run: run!(version_unreadable),
            checks: vec![
                silent(),
                Mark { name: "after 30 s", fields: &["crVersion", "state", "status", "pods", "secrets"] },
                Quiet("PostgresCluster"),
                Values { kind: "PerconaPGCluster", field: "status", pointer: "", skip: &[] },
            ],
        },
    ]
}

/// The name of the pod that begins with `start`.
fn pod(driver: &Driver, start: &str) -> anyhow::Result<String> {
    let pods = driver.objects(&["Pod"]);
    let found = pods.iter().find_map(|pod| pod.strip_prefix("Pod/").filter(|name| name.starts_with(start)));
    Ok(found.with_context(|| format!("no pod {start}* among {pods:?}"))?.to_owned())
}

async fn postgres_deleted(driver: &mut Driver) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    let pod = pod(driver, "demo-postgres-instance1-")?;
    let before = driver.api(Kind::POD).get(&pod).await?.metadata.uid;
    let uri = driver.secret_text("uri");
    driver.record();
    driver.probe("login with uri", Some(uri.clone()));
    driver.wait_probe("login with uri", true).await?;
    driver.delete(Kind::POD, &pod).await?;
    driver.mark("pod deleted", json!({ "pod": pod }));
    let is_another = |now: Option<&kube::core::DynamicObject>| {
        let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        now.is_some_and(|now| {
            now.metadata.uid != before && now.data["status"]["conditions"].as_array().into_iter().flatten().any(ready)
        })
    };
    driver.wait("another pod", "Pod", &pod, is_another).await?;
    driver.wait_probe("login with uri", true).await?;
    driver.settle().await?;
    driver.mark("secret unchanged", json!({ "login_ok": driver.logs_in(&uri).await }));
    Ok(())
}

async fn pgbouncer_deleted(driver: &mut Driver) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    let pod = pod(driver, "demo-postgres-pgbouncer-")?;
    driver.record();
    driver.delete(Kind::POD, &pod).await?;
    driver.mark("pod deleted", json!({ "pod": pod }));
    driver.wait_state("state leaves ready", "initializing").await?;
    driver.wait_state("state ready again", "ready").await
}

async fn public_schema_granted(driver: &mut Driver) -> anyhow::Result<()> {
    driver.ready_cluster().await?;
    let uri = driver.secret_text("uri");
    driver.record();
    let users = json!([{ "name": "dittofs", "databases": ["dittofs"], "grantPublicSchemaAccess": true }]);
    driver.patch(Kind::CLUSTER, CLUSTER, json!({ "spec": { "users": users } })).await?;
    driver.mark("grantPublicSchemaAccess=true", json!({}));
    let generation =
        |inner: Option<&kube::core::DynamicObject>| inner.is_some_and(|i| i.data["status"]["observedGeneration"] == 2);
    driver.wait("seen by the inner controller", "PostgresCluster", CLUSTER, generation).await?;
    let written = driver.sql(&uri, "create table public.x1(i int)").await;
    let error = written.as_ref().err().map(ToString::to_string).unwrap_or_default();
    driver.mark("public writable", json!({ "rc": i32::from(written.is_err()), "err": error }));
    Ok(())
}

async fn version_unreadable(driver: &mut Driver) -> anyhow::Result<()> {
    let mut cluster = driver.cluster();
    cluster["spec"]["crVersion"] = json!("not-a-version");
    driver.create(cluster).await?;
    driver.nothing_for(A_WHILE).await;
    let cluster = driver.api(Kind::CLUSTER).get(CLUSTER).await?;
    let made = driver.objects(&["Pod", "Secret"]);
    let (pods, secrets): (Vec<_>, Vec<_>) = made.iter().partition(|name| name.starts_with("Pod/"));
    let pods: serde_json::Map<String, Value> = pods.into_iter().map(|name| (name.clone(), Value::Null)).collect();
    let status = &cluster.data["status"];
    driver.mark(
        "after 30 s",
        json!({
            "crVersion": cluster.data["spec"]["crVersion"], "state": status["state"], "status": status,
            "pods": pods, "secrets": secrets,
        }),
    );
    Ok(())
}
