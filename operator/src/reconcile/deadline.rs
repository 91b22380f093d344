//! How long a server may wait for its database before the status says what to look at. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::gate::{Cluster, Facts, Verdict};
use crate::api::{DittoServer, names};

/// How a wait stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The deadline is this far away.
    Within(Duration),
    /// It is over; the text says what to look at.
    Over(String),
}

/// How `server`'s wait for its database stands; none when it does not wait, or when `DatabaseReady` says all there is to say.
pub fn judge(server: &DittoServer, facts: &Facts, verdict: &Verdict, deadline: Duration, now: &Time) -> Option<Wait> {
    if verdict.ready {
        return None;
    }
    let advice = advice(server, facts, verdict)?;
    let conditions = server.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let before = conditions.iter().find(|old| old.type_ == "DatabaseReady" && old.status == "False");
    let since = before.map_or(now.0, |old| old.last_transition_time.0);
    // A clock that went back has waited for nothing.
    let waited = Duration::try_from(now.0.duration_since(since)).unwrap_or_default();
    Some(match deadline.checked_sub(waited) {
        Some(left) if !left.is_zero() => Wait::Within(left),
        _ => Wait::Over(format!("{}, for more than {} s: {advice}", verdict.message, deadline.as_secs())),
    })
}

fn advice(server: &DittoServer, facts: &Facts, verdict: &Verdict) -> Option<String> {
    let Cluster::Ours(cluster) = &facts.cluster else { return None };
    let name = names::cluster(server.metadata.name.as_deref().unwrap_or_default());
    if verdict.reason == "WaitingForCredentials" {
        return Some(format!(
            "any change of PerconaPGCluster {name}, such as an annotation, makes Percona complete the Secret; see also the \
             events of PostgresCluster {name}"
        ));
    }
    match cluster.status.as_ref().map_or("", |status| status.state.as_str()) {
        // Somebody wants it so.
        "paused" | "stopping" => None,
        "" => Some(format!(
            "look whether the Percona Operator for PostgreSQL runs and watches namespace {}",
            server.metadata.namespace.as_deref().unwrap_or_default()
        )),
        _ => Some(format!(
            "look at the events of PostgresCluster {name} (missing images) and of its pods (images, volumes, the Secret of \
             the backups), and whether the Percona Operator for PostgreSQL runs"
        )),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::reconcile::gate;
    use crate::testing::{CREDENTIALS, cluster, secret, server};

    fn at(second: u8) -> Time {
        serde_json::from_value(json!(format!("2026-11-24T08:00:{second:02}Z"))).unwrap()
    }

    fn waiting(status: &str, since: Option<u8>, now: u8) -> Option<Wait> {
        let mut server = server("percona: {enabled: true}");
        if let Some(since) = since {
            let condition = |kind: &str, status: &str, since: u8| json!({ "type": kind, "status": status, "reason": "X", "message": "", "lastTransitionTime": at(since) });
            let others = [condition("Ready", "False", 0), condition("BackupReady", "True", 0)];
            let conditions = [&others[..], &[condition("DatabaseReady", "False", since)]].concat();
            server.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
        }
        let facts = Facts {
            cluster: Cluster::Ours(Box::new(cluster(status))),
            secret: Some(secret(&CREDENTIALS[..3])),
            backup_secret_missing: false,
        };
        let verdict = gate::judge(&server, &facts);
        judge(&server, &facts, &verdict, Duration::from_secs(30), &at(now))
    }

    #[rstest]
    #[case::begins(None, 7, 30)]
    #[case::goes_on(Some(7), 17, 20)]
    #[case::clock_went_back(Some(17), 7, 30)]
    fn the_deadline_counts_from_the_transition(#[case] since: Option<u8>, #[case] now: u8, #[case] left: u64) {
        assert_eq!(waiting("", since, now), Some(Wait::Within(Duration::from_secs(left))));
    }

    #[rstest]
    #[case::no_state("", Some("has no state yet, for more than 30 s: look whether the Percona Operator"))]
    #[case::initializing("status: {state: initializing}", Some("PostgresCluster demo-postgres (missing images)"))]
    #[case::credentials("status: {state: ready}", Some("any change of PerconaPGCluster demo-postgres"))]
    #[case::paused("status: {state: paused}", None)]
    fn it_says_what_to_look_at(#[case] status: &str, #[case] expected: Option<&str>) {
        match (waiting(status, Some(0), 30), expected) {
            (Some(Wait::Over(said)), Some(expected)) => assert!(said.contains(expected), "{said}"),
            (None, None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}
