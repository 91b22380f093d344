//! The status of a `PostgresCluster`: what exists, and what was done in the databases.

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::backup::{Outcome, PAUSED};
use super::cluster::{Cluster, deleting, is_ready, label, now};
use super::context::Kind;
use super::status::{observe, without_nulls};
use super::volumes::RESIZING;

/// A hash of what PgBouncer has in the databases. The double has no PgBouncer, so it never changes.
const PGBOUNCER_REVISION: &str = "5b95b9f4c4";
/// A hash of the exporter's configuration; the double has none.
const EXPORTER_REVISION: &str = "559c4c97d6";

/// What was done in the databases, and what is known since then.
pub struct Done {
    /// A hash of the databases that were made.
    pub databases: String,
    /// A hash of the roles and passwords that were set.
    pub users: String,
    /// PostgreSQL's own number of this data.
    pub system: Option<String>,
}

impl Cluster {
    /// The whole status that follows the one of `inner`. `done` is absent when there is no primary; `usable` says whether
    /// the roles in the databases are those of the Secrets, or cannot be. `resizing` is the condition about volumes that
    /// are to grow and do not.
    pub(super) async fn inner_status(
        &self,
        inner: &DynamicObject,
        pods: &[DynamicObject],
        done: Option<&Done>,
        usable: bool,
        backups: &Outcome,
        resizing: Option<&[&'static str; 4]>,
    ) -> anyhow::Result<Value> {
        let stateful = self.labelled(Kind::STATEFUL_SET, "").await?;
        let deployment = self.context.get(Kind::DEPLOYMENT, &self.key.namespace, &self.key.named("pgbouncer")).await?;
        let deployment = deployment.map_or(Value::Null, |deployment| deployment.data);
        let workload = &deployment["status"];
        let previous = &inner.data["status"];
        let usable = usable && (was_ready(previous) || is_counted(&deployment));
        let kept = |field: &str, now: Option<Value>| now.unwrap_or_else(|| previous[field].clone());

        let mut bouncer = without_nulls(json!({
            "readyReplicas": workload["readyReplicas"], "replicas": workload["replicas"],
            "postgresRevision": previous["proxy"]["pgBouncer"]["postgresRevision"],
        }));
        if done.is_some() {
            bouncer.insert("postgresRevision".to_owned(), json!(PGBOUNCER_REVISION));
        }
        // The instance that is started first after a pause; remembered until it runs.
        let starting = inner.data["spec"]["shutdown"] == true
            || (!previous["startupInstance"].is_null() && !pods.iter().any(|pod| is_ready(pod) && !deleting(pod)));
        let startup = stateful.iter().find(|each| label(each, "data") == "postgres").filter(|_| starting);
        let conditions = conditions(inner, workload, backups, resizing);
        Ok(json!(without_nulls(json!({
            "conditions": if conditions.is_empty() { Value::Null } else { json!(conditions) },
            "databaseRevision": kept("databaseRevision", done.map(|done| json!(done.databases))),
            "instances": instances(inner, pods, &stateful, usable),
            "monitoring": kept("monitoring", done.map(|_| json!({ "exporterConfiguration": EXPORTER_REVISION }))),
            "observedGeneration": inner.metadata.generation,
            "patroni": kept(
                "patroni",
                done.and_then(|done| done.system.as_ref()).map(|system| json!({ "systemIdentifier": system })),
            ),
            "pgbackrest": backups.pgbackrest,
            "proxy": if bouncer.is_empty() { Value::Null } else { json!({ "pgBouncer": bouncer }) },
            "startupInstance": startup.map(ResourceExt::name_any),
            "startupInstanceSet": startup.map(|each| label(each, "instance-set")),
            "usersRevision": kept("usersRevision", done.map(|done| json!(done.users))),
        }))))
    }
}

/// Whether a status counts a PostgreSQL pod as ready.
fn was_ready(status: &Value) -> bool {
    status["instances"].as_array().into_iter().flatten().any(|set| set["readyReplicas"].is_number())
}

/// Whether the Deployment controller has counted the pods that PgBouncer's Deployment wants, or cannot make them.
///
/// Until it has, the outer status would compare none with none, and call a cluster `ready` whose PgBouncer has not begun.
/// A PostgreSQL of the real operator takes seconds more than that count (in each trace, k1 with its old data too); the
/// double's takes less, so that it waits for it.
fn is_counted(deployment: &Value) -> bool {
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or_default();
    let status = &deployment["status"];
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    wanted == 0
        || status["replicas"].is_number()
        || conditions.any(|each| each["type"] == "ReplicaFailure" && each["status"] == "True")
}

/// Pods by instance set: how many there are, are ready, and match their template. A count of zero is left out.
///
/// A pod that has become ready since the databases were looked at is not counted before they are `usable`: the outer
/// status would say `ready` while the Secret does not log in (no trace has that).
fn instances(inner: &DynamicObject, pods: &[DynamicObject], stateful: &[DynamicObject], usable: bool) -> Vec<Value> {
    let nonzero = |count: usize| if count == 0 { Value::Null } else { json!(count) };
    let sets = inner.data["spec"]["instances"].as_array().into_iter().flatten();
    sets.map(|set| {
        let mine: Vec<_> = pods.iter().filter(|pod| label(pod, "instance-set") == set["name"]).collect();
        let mut before = inner.data["status"]["instances"].as_array().into_iter().flatten();
        let before = before.find(|each| each["name"] == set["name"] && each["replicas"].is_number());
        // The moment in which a pod takes the place of another: a pass of the real operator takes longer than that.
        let mut workloads = stateful.iter().filter(|each| label(each, "instance-set") == set["name"]);
        if let Some(before) = before.filter(|_| mine.is_empty() && workloads.any(is_between_pods)) {
            let mut kept = before.clone();
            kept.as_object_mut().map(|kept| kept.remove("readyReplicas"));
            return kept;
        }
        json!(without_nulls(json!({
            "name": set["name"],
            "readyReplicas": nonzero(mine.iter().filter(|pod| usable && is_ready(pod)).count()),
            "replicas": nonzero(mine.len()),
            "updatedReplicas": nonzero(mine.iter().filter(|pod| matches_template(pod, stateful)).count()),
        })))
    })
    .collect()
}

/// Whether a StatefulSet wants a pod, and has not found out yet that the one that it had is gone.
fn is_between_pods(stateful: &DynamicObject) -> bool {
    let count = |part: &str| stateful.data[part]["replicas"].as_i64().unwrap_or_default();
    count("spec") > 0 && count("status") > 0 && !deleting(stateful)
}

/// Whether a pod is of the revision that its StatefulSet wants.
pub(super) fn matches_template(pod: &DynamicObject, stateful: &[DynamicObject]) -> bool {
    let owner = stateful.iter().find(|each| each.name_any() == label(pod, "instance"));
    owner.is_some_and(|owner| {
        let hash = pod.labels().get("controller-revision-hash");
        hash.is_some_and(|hash| owner.data["status"]["updateRevision"] == hash.as_str())
    })
}

fn conditions(
    inner: &DynamicObject,
    workload: &Value,
    backups: &Outcome,
    resizing: Option<&[&'static str; 4]>,
) -> Vec<Value> {
    let generation = inner.metadata.generation.unwrap_or_default();
    let mut conditions = inner.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .retain(|condition| condition["type"] != PAUSED[0] && (resizing.is_some() || condition["type"] != RESIZING));
    for condition in resizing.into_iter().chain(&backups.conditions) {
        observe(&mut conditions, generation, *condition, &now());
    }
    // That of PgBouncer's Deployment, under another name.
    let mut all = workload["conditions"].as_array().into_iter().flatten();
    if let Some(available) = all.find(|each| each["type"] == "Available") {
        let mut condition = json!({ "observedGeneration": generation, "type": "ProxyAvailable" });
        for field in ["lastTransitionTime", "message", "reason", "status"] {
            condition[field] = available[field].clone();
        }
        match conditions.iter_mut().find(|each| each["type"] == "ProxyAvailable") {
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::no_deployment(json!(null), true)]
    #[case::none_wanted(json!({ "spec": { "replicas": 0 } }), true)]
    #[case::not_seen(json!({ "spec": { "replicas": 1 } }), false)]
    #[case::seen_and_not_counted(
        json!({ "spec": { "replicas": 1 }, "status": { "observedGeneration": 1, "unavailableReplicas": 1, "conditions": [
            { "type": "Available", "status": "False" }, { "type": "Progressing", "status": "True" }] } }),
        false)]
    #[case::counted(json!({ "spec": { "replicas": 1 }, "status": { "replicas": 1, "unavailableReplicas": 1 } }), true)]
    #[case::refused(
        json!({ "spec": { "replicas": 1 },
                "status": { "conditions": [{ "type": "ReplicaFailure", "status": "True" }] } }),
        true)]
    fn pgbouncer_is_counted_before_postgresql_is(#[case] deployment: Value, #[case] expected: bool) {
        assert_eq!(is_counted(&deployment), expected);
    }

    #[rstest]
    #[case::new(json!(null), false)]
    #[case::not_ready(json!({ "instances": [{ "name": "instance1", "replicas": 1 }] }), false)]
    #[case::ready(json!({ "instances": [{ "name": "instance1", "replicas": 1, "readyReplicas": 1 }] }), true)]
    fn a_cluster_that_was_ready_stays_so_while_pgbouncer_is_scaled_up(#[case] status: Value, #[case] expected: bool) {
        assert_eq!(was_ready(&status), expected);
    }
}
