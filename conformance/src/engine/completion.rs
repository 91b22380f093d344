//! Completes the clusters that the operator under test makes, as far as Percona needs and the implementation declares to
//! leave it out (`tolerate`): one defect must not hide all others.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::differences::{CLUSTER, Differences};
use super::watch::{Feed, Hub, Kind, Observation};
use crate::environment::Tolerated;
use crate::scenario::SERVER;

/// Field manager of what is added.
const MANAGER: &str = "dittofs-conformance-completion";

/// Images that belong to Percona 2.8.2, by the major version of PostgreSQL (its release notes and `deploy/cr.yaml`).
const POSTGRESQL: [(i64, &str); 6] =
    [(13, "13.23-2"), (14, "14.20-2"), (15, "15.15-2"), (16, "16.11-2"), (17, "17.7-2"), (18, "18.1-3")];
const PGBOUNCER: &str = "docker.io/percona/percona-pgbouncer:1.25.0-1";
const PGBACKREST: &str = "docker.io/percona/percona-pgbackrest:2.57.0-1";

/// Completes the clusters of `namespace` until the handle is dropped; `None` when nothing is tolerated.
pub(super) fn complete(
    hub: &Arc<Hub>,
    client: &Client,
    namespace: &str,
    differences: &Arc<Differences>,
) -> Option<AbortOnDropHandle<()>> {
    if differences.declared().tolerate.is_empty() {
        return None;
    }
    let feed = hub.feed(&Kind::new("pgv2.percona.com/v2", CLUSTER), Some(namespace));
    let (client, differences) = (client.clone(), differences.clone());
    Some(AbortOnDropHandle::new(tokio::spawn(follow(feed, client, namespace.to_owned(), differences))))
}

async fn follow(feed: Arc<Feed>, client: Client, namespace: String, differences: Arc<Differences>) {
    let mut versions = feed.subscribe();
    while let Some(observation) = versions.recv().await {
        let Observation::Version(cluster) = observation else { continue };
        let Some((patch, added)) = completion(&cluster, &differences.declared().tolerate) else { continue };
        // Seen, so it is served.
        let Some((resource, _)) = feed.resource() else { continue };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        let name = cluster["metadata"]["name"].as_str().unwrap_or_default();
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(name, &parameters, &Patch::Merge(&patch)).await {
            Ok(_) => added.into_iter().for_each(|what| differences.note(format!("the suite added {what} to {name}"))),
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => tracing::warn!(cluster = name, %error, "the cluster cannot be completed"),
        }
    }
}

/// What `cluster` lacks of that which may be missing: a merge patch, and the paths in it. Nothing of one that a scenario
/// has made: it is as it is on purpose.
fn completion(cluster: &Value, tolerate: &BTreeSet<Tolerated>) -> Option<(Value, Vec<&'static str>)> {
    let metadata = &cluster["metadata"];
    let entries = |field: &str| metadata[field].as_array().into_iter().flatten();
    let owned = entries("ownerReferences").any(|owner| owner["kind"] == SERVER);
    let by_a_scenario = |entry: &Value| entry["manager"].as_str().is_some_and(|name| name.starts_with("conformance/"));
    let made_by_a_scenario = !owned && entries("managedFields").any(by_a_scenario);
    if !metadata["deletionTimestamp"].is_null() || made_by_a_scenario {
        return None;
    }
    let spec = &cluster["spec"];
    let bouncer = &spec["proxy"]["pgBouncer"];
    let mut patch = json!({});
    let mut added = Vec::new();
    if tolerate.contains(&Tolerated::MissingProxy) && bouncer.is_null() {
        // Without an image Percona would wait for that next.
        patch["proxy"]["pgBouncer"] = json!({"replicas": 1, "image": PGBOUNCER});
        added.push("spec.proxy.pgBouncer");
    }
    if tolerate.contains(&Tolerated::MissingImages) {
        if spec["image"].is_null() {
            patch["image"] = json!(postgresql(spec["postgresVersion"].as_i64()));
            added.push("spec.image");
        }
        if !bouncer.is_null() && bouncer["image"].is_null() {
            patch["proxy"]["pgBouncer"]["image"] = json!(PGBOUNCER);
            added.push("spec.proxy.pgBouncer.image");
        }
        let pgbackrest = &spec["backups"]["pgbackrest"];
        if spec["backups"]["enabled"] != false && pgbackrest["image"].is_null() {
            patch["backups"]["pgbackrest"]["image"] = json!(PGBACKREST);
            added.push("spec.backups.pgbackrest.image");
        }
    }
    (!added.is_empty()).then(|| (json!({"spec": patch}), added))
}

fn postgresql(major: Option<i64>) -> String {
    let known = POSTGRESQL.iter().find(|(known, _)| Some(*known) == major);
    let tag = known.map_or("16.11-2", |(_, tag)| tag);
    format!("docker.io/percona/percona-distribution-postgresql:{tag}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const BOTH: [Tolerated; 2] = [Tolerated::MissingProxy, Tolerated::MissingImages];

    #[rstest]
    #[case::nothing_is_there(
        json!({"spec": {"postgresVersion": 17, "backups": {"enabled": false}}}), &BOTH,
        json!({"spec": {"image": "docker.io/percona/percona-distribution-postgresql:17.7-2",
            "proxy": {"pgBouncer": {"replicas": 1, "image": PGBOUNCER}}}}))]
    #[case::the_proxy_alone(
        json!({"spec": {"backups": {"enabled": false}}}), &BOTH[..1],
        json!({"spec": {"proxy": {"pgBouncer": {"replicas": 1, "image": PGBOUNCER}}}}))]
    #[case::images_alone(
        json!({"spec": {"proxy": {"pgBouncer": {"replicas": 2}}}}), &BOTH[1..],
        json!({"spec": {"image": "docker.io/percona/percona-distribution-postgresql:16.11-2",
            "proxy": {"pgBouncer": {"image": PGBOUNCER}}, "backups": {"pgbackrest": {"image": PGBACKREST}}}}))]
    fn only_what_is_missing_and_tolerated_is_added(
        #[case] cluster: Value,
        #[case] tolerate: &[Tolerated],
        #[case] expected: Value,
    ) {
        let tolerate = tolerate.iter().copied().collect();
        assert_eq!(completion(&cluster, &tolerate).map(|(patch, _)| patch), Some(expected));
    }

    #[test]
    fn a_complete_cluster_one_that_goes_and_one_of_a_scenario_are_left_alone() {
        let complete =
            json!({"spec": {"image": "i", "proxy": {"pgBouncer": {"image": "i"}}, "backups": {"enabled": false}}});
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}});
        let managed = json!([{"manager": "conformance/creation/foreign", "operation": "Apply"}]);
        let foreign = json!({"metadata": {"managedFields": managed}, "spec": {}});
        for cluster in [complete, going, foreign] {
            assert_eq!(completion(&cluster, &BOTH.into_iter().collect()), None);
        }
        let owner = json!([{"kind": "DittoServer", "name": "demo"}]);
        let edited = json!({"metadata": {"managedFields": managed, "ownerReferences": owner}, "spec": {}});
        assert!(completion(&edited, &BOTH.into_iter().collect()).is_some());
    }
}
