//! The status that follows from what was seen, and the events that follow from a change of it. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::backup;
use super::deadline::{PROGRESS_DEADLINE_EXCEEDED, Wait};
use super::gate::{Cluster, Facts, Source, Verdict};
use crate::api::{DittoServer, DittoServerStatus, Phase, names};

/// Something that stops the server until a person, or time, helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Reason of `Ready` and of the event.
    pub reason: &'static str,
    /// What happened, and what to do.
    pub message: String,
}

/// Everything that the status is made from.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The server as it was read, with the status that it had.
    pub server: &'a DittoServer,
    /// What was read for the gate.
    pub facts: &'a Facts,
    /// What the gate says.
    pub verdict: &'a Verdict,
    /// The StatefulSet, when there is one.
    pub workload: Option<&'a StatefulSet>,
    /// What went wrong, if something did.
    pub failure: Option<&'a Failure>,
    /// How the wait for the database stands, when there is one.
    pub wait: Option<Wait>,
}

/// An event about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is a warning.
    pub warning: bool,
    /// Its reason.
    pub reason: &'static str,
    /// Its text.
    pub note: String,
}

/// The parts of a condition that are decided; the rest is bookkeeping.
struct Said {
    kind: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

/// The status of a server that is not being deleted.
pub fn next(seen: &Seen<'_>, now: &Time) -> DittoServerStatus {
    let rollout = Rollout::of(seen.server.spec.replicas, seen.workload);
    let verdict = seen.verdict;
    let ready = ready(seen, &rollout);
    let progressing = progressing(seen, &rollout);
    let mut said = vec![
        Said { kind: "Ready", status: ready.0, reason: ready.1, message: ready.2 },
        Said { kind: "DatabaseReady", status: verdict.ready, reason: verdict.reason, message: verdict.message.clone() },
        Said { kind: "Progressing", status: progressing.0, reason: progressing.1, message: progressing.2 },
    ];
    if let Some((status, reason, message)) = backup::ready(seen.server, seen.facts, seen.verdict) {
        said.insert(2, Said { kind: "BackupReady", status, reason, message });
    }
    DittoServerStatus {
        phase: Some(phase(seen, &rollout)),
        observed_generation: seen.server.metadata.generation,
        ready_replicas: rollout.ready,
        percona_cluster_name: cluster_name(seen),
        conditions: conditions(seen.server, said, now),
    }
}

/// The name of the server's cluster, also while one that was there is gone: that it is made again is worth an event.
fn cluster_name(seen: &Seen<'_>) -> Option<String> {
    match (Source::of(seen.server), &seen.facts.cluster) {
        (Source::Percona, Cluster::Ours(_)) => {
            Some(names::cluster(seen.server.metadata.name.as_deref().unwrap_or_default()))
        }
        (Source::Percona, Cluster::NotFound | Cluster::NotInstalled | Cluster::Refused(_)) => {
            seen.server.status.as_ref()?.percona_cluster_name.clone()
        }
        _ => None,
    }
}

/// The status of a server that is not reconciled: its spec cannot be built, or it is being deleted. What was last known
/// of its database and pods stays.
pub fn halted(
    server: &DittoServer,
    phase: Phase,
    reason: &'static str,
    message: &str,
    now: &Time,
) -> DittoServerStatus {
    let before = server.status.clone().unwrap_or_default();
    let said = ["Ready", "Progressing"].map(|kind| Said { kind, status: false, reason, message: message.to_owned() });
    let mut conditions = conditions(server, said.into(), now);
    let kept = before.conditions.iter().filter(|old| !["Ready", "Progressing"].contains(&old.type_.as_str()));
    // A deletion counts as a generation, of the spec that was judged; a spec that cannot be built is another one.
    let judged = |old: &Condition| match phase {
        Phase::Deleting => server.metadata.generation,
        _ => old.observed_generation,
    };
    conditions.extend(kept.map(|old| Condition { observed_generation: judged(old), ..old.clone() }));
    DittoServerStatus { phase: Some(phase), observed_generation: server.metadata.generation, conditions, ..before }
}

/// Whether both say the same, in whatever order.
pub fn same(before: &DittoServerStatus, after: &DittoServerStatus) -> bool {
    let sorted = |status: &DittoServerStatus| {
        let mut status = status.clone();
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status
    };
    sorted(before) == sorted(after)
}

/// The events that follow from the change of `server`'s status to `after`: one per transition, none for a repetition.
pub fn notices(server: &DittoServer, after: &DittoServerStatus) -> Vec<Notice> {
    let before = server.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let find = |conditions: &[Condition], kind: &str| conditions.iter().find(|one| one.type_ == kind).cloned();
    ["DatabaseReady", "Ready", "Progressing"]
        .into_iter()
        .filter_map(|kind| {
            let (warning, reason) = event(&find(&after.conditions, kind)?)?;
            let repeated = find(before, kind).and_then(|old| event(&old)).is_some_and(|old| old.1 == reason);
            let note = find(&after.conditions, kind)?.message;
            (!repeated).then_some(Notice { warning, reason, note })
        })
        .collect()
}

/// The event that belongs to a condition, if one does.
fn event(condition: &Condition) -> Option<(bool, &'static str)> {
    match (condition.type_.as_str(), condition.status.as_str(), condition.reason.as_str()) {
        ("DatabaseReady", _, "SQLite") => None,
        ("DatabaseReady", _, "ClusterNotOurs") => Some((true, "ClusterNotOurs")),
        ("DatabaseReady", _, "PerconaPGClusterRefused") => Some((true, "PerconaPGClusterRefused")),
        ("DatabaseReady", "True", _) => Some((false, "PostgreSQLReady")),
        ("DatabaseReady", _, _) => Some((false, "WaitingForDatabase")),
        ("Ready", _, "PostgreSQLFailed") => Some((true, "PostgreSQLFailed")),
        ("Ready", _, "StatefulSetRejected") => Some((true, "StatefulSetRejected")),
        ("Ready", _, "ServiceRejected") => Some((true, "ServiceRejected")),
        ("Ready", _, "InvalidSpec") => Some((true, "InvalidSpec")),
        ("Progressing", _, PROGRESS_DEADLINE_EXCEEDED) => Some((true, PROGRESS_DEADLINE_EXCEEDED)),
        _ => None,
    }
}

/// How far the pods are.
struct Rollout {
    wanted: i32,
    ready: i32,
    existing: i32,
    /// Every pod is of the current template, and the StatefulSet controller has seen that template.
    current: bool,
}

impl Rollout {
    fn of(wanted: i32, workload: Option<&StatefulSet>) -> Self {
        let Some(workload) = workload else { return Self { wanted, ready: 0, existing: 0, current: false } };
        let status = workload.status.clone().unwrap_or_default();
        Self {
            wanted,
            ready: status.ready_replicas.unwrap_or_default(),
            existing: status.replicas,
            current: status.observed_generation >= workload.metadata.generation
                && status.updated_replicas.unwrap_or_default() == wanted,
        }
    }

    fn stopped(&self) -> bool {
        self.wanted == 0 && self.existing == 0
    }

    fn done(&self) -> bool {
        self.current && self.ready == self.wanted && self.existing == self.wanted
    }
}

/// Status, reason and message of a condition.
pub(super) type Word = (bool, &'static str, String);

fn ready(seen: &Seen<'_>, rollout: &Rollout) -> Word {
    if let Some(failure) = seen.failure {
        (false, failure.reason, failure.message.clone())
    } else if rollout.wanted == 0 {
        (false, "Stopped", "spec.replicas is 0".to_owned())
    } else if !seen.verdict.ready {
        (false, "DatabaseNotReady", seen.verdict.message.clone())
    } else if rollout.done() {
        (true, "Ready", "every pod is ready".to_owned())
    } else {
        (false, "PodsNotReady", format!("{} of {} pods are ready", rollout.ready, rollout.wanted))
    }
}

fn progressing(seen: &Seen<'_>, rollout: &Rollout) -> Word {
    if let Some(failure) = seen.failure {
        (false, failure.reason, failure.message.clone())
    } else if let Some(Wait::Over(what)) = &seen.wait {
        (false, PROGRESS_DEADLINE_EXCEEDED, what.clone())
    } else if seen.wait == Some(Wait::Blocked) {
        (false, "Blocked", seen.verdict.message.clone())
    } else if !seen.verdict.ready {
        let what =
            if seen.workload.is_some() { "the pods keep the credentials that they have" } else { "there are no pods" };
        (true, "WaitingForDatabase", format!("{what} until the database is ready"))
    } else if rollout.done() {
        (false, "Settled", "nothing is left to do".to_owned())
    } else {
        (true, "RollingOut", format!("{} of {} pods are ready", rollout.ready, rollout.wanted))
    }
}

/// The phase follows the pods, not the database: pods outlive a database that is not `ready` for a while.
fn phase(seen: &Seen<'_>, rollout: &Rollout) -> Phase {
    if seen.failure.is_some() || seen.verdict.reason == "ClusterNotOurs" {
        Phase::Failed
    } else if rollout.stopped() {
        Phase::Stopped
    } else if rollout.wanted > 0 && rollout.ready >= rollout.wanted {
        Phase::Running
    } else {
        Phase::Pending
    }
}

/// Completes what was decided. `lastTransitionTime` moves only with the status.
fn conditions(server: &DittoServer, said: Vec<Said>, now: &Time) -> Vec<Condition> {
    let before = server.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    said.into_iter()
        .map(|Said { kind, status, reason, message }| {
            let status = if status { "True" } else { "False" };
            let since = before.iter().find(|old| old.type_ == kind && old.status == status);
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: server.metadata.generation,
                last_transition_time: since.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
