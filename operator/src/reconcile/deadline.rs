//! How long a server may wait for its database before the status says what to look at. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::gate::{Cluster, Facts, Verdict};
use crate::api::{DittoServer, names};

/// The reason of `Progressing` when the deadline is over.
pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// How a wait stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The deadline is this far away.
    Within(Duration),
    /// It is over; the text says what to look at.
    Over(String),
    /// Nothing happens until somebody acts, so no time counts.
    Blocked,
}

/// How `server`'s wait for its database stands; none when it does not wait.
///
/// It began when `DatabaseReady` became False, or, where somebody had to act first, when `Progressing` became True.
pub fn judge(server: &DittoServer, facts: &Facts, verdict: &Verdict, deadline: Duration, now: &Time) -> Option<Wait> {
    if verdict.ready {
        return None;
    }
    let Some(advice) = advice(server, facts, verdict) else { return Some(Wait::Blocked) };
    let conditions = server.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let find = |kind: &str| conditions.iter().find(|old| old.type_ == kind);
    let waits = find("DatabaseReady").filter(|old| old.status == "False");
    let goes_on = find("Progressing").filter(|old| old.status == "True" || old.reason == PROGRESS_DEADLINE_EXCEEDED);
    let since = match (waits, goes_on) {
        (Some(waits), Some(goes_on)) if goes_on.status == "True" => {
            waits.last_transition_time.0.max(goes_on.last_transition_time.0)
        }
        (Some(waits), Some(_)) => waits.last_transition_time.0,
        _ => now.0,
    };
    // A clock that went back has waited for nothing.
    let waited = Duration::try_from(now.0.duration_since(since)).unwrap_or_default();
    Some(match deadline.checked_sub(waited) {
        Some(left) if !left.is_zero() => Wait::Within(left),
        _ => Wait::Over(format!("{}, for more than {} s: {advice}", verdict.message, deadline.as_secs())),
    })
}

/// What to look at while time counts.
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

    /// A condition with status, reason and the second of its transition.
    type Before = (&'static str, &'static str, &'static str, u8);

    fn waiting(status: &str, before: &[Before], now: u8) -> Option<Wait> {
        let mut server = server("percona: {enabled: true}");
        let others = [("Ready", "False", "DatabaseNotReady", 0), ("BackupReady", "True", "ReadyForBackup", 0)];
        let conditions: Vec<_> = others
            .iter()
            .chain(before)
            .map(|(kind, status, reason, since)| {
                json!({ "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": at(*since) })
            })
            .collect();
        server.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
        let facts = Facts {
            cluster: Cluster::Ours(Box::new(cluster(status))),
            secret: Some(secret(&CREDENTIALS[..3])),
            missing_backup_secret: None,
        };
        let verdict = gate::judge(&server, &facts);
        judge(&server, &facts, &verdict, Duration::from_secs(30), &at(now))
    }

    /// `DatabaseReady` is False since then.
    fn database(since: u8) -> Before {
        ("DatabaseReady", "False", "WaitingForPostgreSQL", since)
    }

    fn progressing(status: &'static str, reason: &'static str, since: u8) -> Before {
        ("Progressing", status, reason, since)
    }

    #[rstest]
    #[case::begins(&[], 7, 30)]
    #[case::lost(&[("DatabaseReady", "True", "PostgreSQLReady", 0), progressing("False", "Settled", 0)], 7, 30)]
    #[case::goes_on(&[database(7), progressing("True", "WaitingForDatabase", 7)], 17, 20)]
    #[case::lost_in_a_rollout(&[database(7), progressing("True", "RollingOut", 0)], 17, 20)]
    #[case::was_paused(&[database(0), progressing("False", "Blocked", 0)], 17, 30)]
    #[case::goes_on_after_a_pause(&[database(0), progressing("True", "WaitingForDatabase", 17)], 27, 20)]
    #[case::a_longer_deadline(&[database(7), progressing("False", PROGRESS_DEADLINE_EXCEEDED, 9)], 17, 20)]
    #[case::clock_went_back(&[database(17), progressing("True", "WaitingForDatabase", 17)], 7, 30)]
    fn the_deadline_counts_from_when_nobody_was_waited_for(
        #[case] before: &[Before],
        #[case] now: u8,
        #[case] left: u64,
    ) {
        assert_eq!(waiting("", before, now), Some(Wait::Within(Duration::from_secs(left))));
    }

    #[rstest]
    #[case::no_state("", Some("has no state yet, for more than 30 s: look whether the Percona Operator"))]
    #[case::initializing("status: {state: initializing}", Some("PostgresCluster demo-postgres (missing images)"))]
    #[case::credentials("status: {state: ready}", Some("any change of PerconaPGCluster demo-postgres"))]
    #[case::paused("status: {state: paused}", None)]
    fn it_says_what_to_look_at(
        #[case] status: &str,
        #[case] expected: Option<&str>,
        #[values(("True", "WaitingForDatabase"), ("False", PROGRESS_DEADLINE_EXCEEDED))] was: (
            &'static str,
            &'static str,
        ),
    ) {
        match (waiting(status, &[database(0), progressing(was.0, was.1, 0)], 30), expected) {
            (Some(Wait::Over(said)), Some(expected)) => assert!(said.contains(expected), "{said}"),
            (Some(Wait::Blocked), None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}
