//! The status of a `PerconaPGCluster`, computed from what exists.
//!
//! Pure. Source: `contract.md` 1.5 to 1.7; the field sets are those of the traces, in which zero values are written out.

use serde_json::{Map, Value, json};

/// What the outer controller looks at.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.pause`.
    pub paused: bool,
    /// `<cluster>-pgbouncer.<namespace>.svc`, whatever the Secret's `host` says.
    pub host: &'a str,
    /// Status of the `PostgresCluster`; null while it has none.
    pub inner: &'a Value,
    /// PostgreSQL pods by instance set: name, how many there are, how many are ready.
    pub instances: &'a [(String, i64, i64)],
    /// Of PgBouncer's Deployment: `status.replicas` and `status.readyReplicas`.
    pub pgbouncer: (i64, i64),
    /// Now, as Kubernetes writes it.
    pub now: &'a str,
}

/// The word in `status.state`; the first rule that applies.
fn state(seen: &Seen<'_>) -> &'static str {
    let size: i64 = seen.instances.iter().map(|set| set.1).sum();
    let ready: i64 = seen.instances.iter().map(|set| set.2).sum();
    if seen.paused {
        return if ready > 0 { "stopping" } else { "paused" };
    }
    let updated: i64 = seen.inner["instances"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|set| set["updatedReplicas"].as_i64())
        .sum();
    let repo_host = &seen.inner["pgbackrest"]["repoHost"];
    let waiting = (repo_host.is_object() && repo_host["ready"] != true)
        || seen.pgbouncer.0 != seen.pgbouncer.1
        || size != ready
        || updated != size
        || size == 0;
    if waiting { "initializing" } else { "ready" }
}

/// The whole status that follows `previous`.
pub fn next(previous: &Value, seen: &Seen<'_>) -> Value {
    let named: Vec<&str> =
        seen.inner["instances"].as_array().into_iter().flatten().filter_map(|set| set["name"].as_str()).collect();
    let instances: Vec<Value> = seen
        .instances
        .iter()
        .filter(|set| named.contains(&set.0.as_str()))
        .map(|(name, size, ready)| json!({ "name": name, "size": size, "ready": ready }))
        .collect();
    let postgres = &previous["postgres"];
    let patroni = previous["patroniVersion"].as_str().unwrap_or_default();
    let mut status = json!({
        "conditions": conditions(previous, seen),
        "host": seen.host,
        "installedCustomExtensions": [],
        "observedGeneration": seen.generation,
        "patroni": { "status": seen.inner.get("patroni").cloned().unwrap_or(json!({})), "version": patroni },
        "patroniVersion": patroni,
        "pgbouncer": { "ready": seen.pgbouncer.1, "size": seen.pgbouncer.0 },
        "postgres": {
            "imageID": postgres["imageID"].as_str().unwrap_or_default(),
            "instances": instances,
            "ready": seen.instances.iter().map(|set| set.2).sum::<i64>(),
            "size": seen.instances.iter().map(|set| set.1).sum::<i64>(),
            "version": postgres["version"].as_i64().unwrap_or_default(),
        },
        "state": state(seen),
    });
    if let Some(pgbackrest) = seen.inner.get("pgbackrest") {
        status["pgbackrest"] = pgbackrest.clone();
    }
    status
}

/// The status with what is known as soon as the first PostgreSQL pod runs. Written on its own, before everything else, so
/// that a cluster can have a first status without `state`.
pub fn with_version(previous: &Value, patroni: &str, version: i64, image: &str) -> Value {
    let mut status = if previous.is_object() { previous.clone() } else { json!({}) };
    status["patroni"]["version"] = json!(patroni);
    status["patroniVersion"] = json!(patroni);
    status["postgres"]["version"] = json!(version);
    status["postgres"]["imageID"] = json!(image);
    status
}

/// `ReadyForBackup`, kept current, and the inner conditions, each as it was when it was first seen (a defect of 2.8).
fn conditions(previous: &Value, seen: &Seen<'_>) -> Vec<Value> {
    let inner = |kind: &str| seen.inner["conditions"].as_array().and_then(|all| find(all, kind));
    let is_true = |kind: &str| inner(kind).is_some_and(|condition| condition["status"] == "True");
    let (status, reason) = if !is_true("PGBackRestRepoHostReady") {
        ("False", "PGBackRestRepoHostReady")
    } else if !is_true("PGBackRestReplicaCreate") {
        ("False", "PGBackRestReplicaCreate")
    } else {
        ("True", "AllConditionsAreTrue")
    };
    let mut conditions = previous["conditions"].as_array().cloned().unwrap_or_default();
    set(&mut conditions, "ReadyForBackup", status, reason, "", seen.now);
    for condition in seen.inner["conditions"].as_array().into_iter().flatten() {
        if find(&conditions, condition["type"].as_str().unwrap_or_default()).is_none() {
            conditions.push(condition.clone());
        }
    }
    conditions
}

fn find<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Sets a condition; its transition time changes only when its status does.
pub fn set(conditions: &mut Vec<Value>, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    let Some(known) = conditions.iter_mut().find(|condition| condition["type"] == kind) else {
        conditions.push(json!({
            "lastTransitionTime": now, "message": message, "reason": reason, "status": status, "type": kind,
        }));
        return;
    };
    if known["status"] != status {
        known["lastTransitionTime"] = json!(now);
    }
    known["status"] = json!(status);
    known["reason"] = json!(reason);
    known["message"] = json!(message);
}

/// Sets one of the inner controller's conditions: type, status, reason, message.
pub fn observe(conditions: &mut Vec<Value>, generation: i64, condition: [&str; 4], now: &str) {
    let [kind, status, reason, message] = condition;
    set(conditions, kind, status, reason, message, now);
    if let Some(known) = conditions.iter_mut().find(|condition| condition["type"] == kind) {
        known["observedGeneration"] = json!(generation);
    }
}

/// A map without the fields that are null: the inner status omits what is empty.
pub fn without_nulls(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn seen<'a>(inner: &'a Value, instances: &'a [(String, i64, i64)], pgbouncer: (i64, i64)) -> Seen<'a> {
        Seen {
            generation: 1,
            paused: false,
            host: "demo-pgbouncer.a.svc",
            inner,
            instances,
            pgbouncer,
            now: "2026-11-24T06:29:47Z",
        }
    }

    fn set_of(size: i64, ready: i64) -> Vec<(String, i64, i64)> {
        vec![("instance1".to_owned(), size, ready)]
    }

    /// The table of `contract.md` 1.6.
    #[rstest]
    #[case::nothing_yet(json!(null), 0, 0, (0, 0), "initializing")]
    #[case::pod_not_ready(json!({"instances": [{"name": "instance1", "updatedReplicas": 1}]}), 1, 0, (1, 1), "initializing")]
    #[case::pgbouncer_not_ready(json!({"instances": [{"name": "instance1", "updatedReplicas": 1}]}), 1, 1, (1, 0), "initializing")]
    #[case::no_pgbouncer_wanted(json!({"instances": [{"name": "instance1", "updatedReplicas": 1}]}), 1, 1, (0, 0), "ready")]
    #[case::old_template(json!({"instances": [{"name": "instance1"}]}), 1, 1, (1, 1), "initializing")]
    #[case::repo_host_not_ready(
        json!({"instances": [{"name": "instance1", "updatedReplicas": 1}], "pgbackrest": {"repoHost": {"ready": false}}}),
        1, 1, (1, 1), "initializing")]
    #[case::stanza_missing_is_not_looked_at(
        json!({"instances": [{"name": "instance1", "updatedReplicas": 1}],
               "pgbackrest": {"repoHost": {"ready": true}, "repos": [{"name": "repo1", "stanzaCreated": false}]}}),
        1, 1, (1, 1), "ready")]
    fn the_first_rule_decides(
        #[case] inner: Value,
        #[case] size: i64,
        #[case] ready: i64,
        #[case] pgbouncer: (i64, i64),
        #[case] expected: &str,
    ) {
        assert_eq!(state(&seen(&inner, &set_of(size, ready), pgbouncer)), expected);
    }

    #[rstest]
    #[case(1, "stopping")]
    #[case(0, "paused")]
    fn a_paused_cluster_stops_first(#[case] ready: i64, #[case] expected: &str) {
        let instances = set_of(1, ready);
        assert_eq!(state(&Seen { paused: true, ..seen(&json!({}), &instances, (0, 0)) }), expected);
    }

    /// The first status of trace a, field by field.
    #[test]
    fn the_first_status_is_the_recorded_one() {
        let expected = json!({
            "conditions": [{"lastTransitionTime": "2026-11-24T06:29:47Z", "message": "", "reason": "PGBackRestRepoHostReady", "status": "False", "type": "ReadyForBackup"}],
            "host": "demo-pgbouncer.a.svc", "installedCustomExtensions": [], "observedGeneration": 1,
            "patroni": {"status": {}, "version": ""}, "patroniVersion": "", "pgbouncer": {"ready": 0, "size": 0},
            "postgres": {"imageID": "", "instances": [], "ready": 0, "size": 0, "version": 0}, "state": "initializing",
        });
        assert_eq!(next(&Value::Null, &seen(&Value::Null, &[], (0, 0))), expected);
    }

    #[test]
    fn inner_conditions_are_frozen_and_ready_for_backup_is_not() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R"});
        let inner = |repo: &str, backup: &str| json!({"conditions": [condition("PGBackRestRepoHostReady", repo), condition("PGBackRestReplicaCreate", backup)]});
        let early = inner("False", "False");
        let first = next(&Value::Null, &seen(&early, &[], (0, 0)));
        let late = inner("True", "True");
        let later = Seen { now: "2026-11-24T07:00:00Z", ..seen(&late, &[], (0, 0)) };
        let second = next(&first, &later);
        let words: Vec<[&str; 3]> = second["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| ["type", "status", "reason"].map(|field| c[field].as_str().unwrap()))
            .collect();
        assert_eq!(
            words,
            [
                ["ReadyForBackup", "True", "AllConditionsAreTrue"],
                ["PGBackRestRepoHostReady", "False", "R"],
                ["PGBackRestReplicaCreate", "False", "R"],
            ]
        );
        assert_eq!(second["conditions"][0]["lastTransitionTime"], "2026-11-24T07:00:00Z");
    }

    #[test]
    fn the_version_can_come_before_everything_else() {
        let status = with_version(&Value::Null, "4.0.7", 17, "image@sha256:0");
        let expected = json!({"patroni": {"version": "4.0.7"}, "patroniVersion": "4.0.7",
            "postgres": {"imageID": "image@sha256:0", "version": 17}});
        assert_eq!(status, expected, "as in trace i");
        assert_eq!(next(&status, &seen(&Value::Null, &[], (0, 0)))["postgres"]["imageID"], "image@sha256:0");
    }
}
