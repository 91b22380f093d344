//! What the operations need of an environment: `needs` and `isolation` must cover it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::environment::{Capability, Fault, Isolation};
use crate::scenario::SERVER;
use crate::scenario::node::Node;
use crate::scenario::operations::{Action, Admission, AdmissionExpectation, AdmissionRequest, Object};
use crate::scenario::types::Scenario;

use super::Problems;

/// Kinds without a namespace that all scenarios of a control plane share.
const SHARED_KINDS: [&str; 9] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "Node",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingWebhookConfiguration",
];

pub(super) fn check(scenario: &Scenario, node: &Node, problems: &mut Problems) {
    let mut missing: BTreeMap<Capability, Range<usize>> = BTreeMap::new();
    let mut least = (Isolation::Namespace, 0..0);
    for (action, place) in operations(scenario, node) {
        for capability in capabilities(action) {
            if !scenario.needs.contains(&capability) {
                missing.entry(capability).or_insert_with(|| place.clone());
            }
        }
        let isolation = isolation(action);
        if isolation > least.0 {
            least = (isolation, place);
        }
    }
    if scenario.isolation < least.0 {
        let (isolation, place) = least;
        let word = word(isolation);
        let message = format!("others would notice this: it needs `isolation: {word}`");
        problems.add(&place, message, format!("the scenario says `{}`", self::word(scenario.isolation)));
    }
    if scenario.isolation == Isolation::Cluster && !scenario.needs.contains(&Capability::ControlPlanes) {
        let place = node.entry("isolation").map_or(0..0, |(key, _)| key.span.clone());
        missing.entry(Capability::ControlPlanes).or_insert(place);
    }
    for (capability, place) in missing {
        let word = self::word(capability);
        problems.add(&place, format!("this needs `{word}`"), format!("add `{word}` to `needs`"));
    }
}

/// All operations with the places of their words; of those that stand in a template, that of the step's `use`.
fn operations<'a>(scenario: &'a Scenario, node: &Node) -> Vec<(&'a Action, Range<usize>)> {
    let steps = node.list("steps").iter().flat_map(|step| ["try", "catch", "finally"].map(|key| step.list(key)));
    let nodes = steps.chain([node.list("catch"), node.list("finally")]).flatten();
    let mut own = nodes.map(|node| node.entries().first().map_or(node.span.clone(), |(key, _)| key.span.clone()));
    let shared = scenario.steps.iter().zip(node.list("steps")).flat_map(|(step, node)| {
        let place = node.entry("use").map(|(key, _)| key.span.clone());
        std::iter::repeat_n(place, step.operations().count())
    });
    let places = shared.chain(std::iter::repeat(None));
    let place = |place: Option<Range<usize>>| place.or_else(|| own.next()).unwrap_or_default();
    scenario.operations().map(|operation| &operation.action).zip(places.map(place)).collect()
}

fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What one operation needs.
fn capabilities(action: &Action) -> Vec<Capability> {
    match action {
        Action::S3(_) => vec![Capability::S3],
        Action::Http(_) => vec![Capability::Pods],
        Action::Database(_) => vec![Capability::Databases],
        // Who starts the operator has its log.
        Action::OperatorLog(_) => vec![Capability::OperatorControl],
        Action::Guard(guard) if guard.requests.is_some() => vec![Capability::AuditLog],
        Action::Permissions(_) => vec![Capability::AuditLog],
        Action::Fault(fault) => match &fault.inject {
            Fault::StopOperator {} | Fault::KillOperator {} => vec![Capability::OperatorControl],
            Fault::KillOperatorAtWrites {} | Fault::FailOperatorRequests { .. } => {
                vec![Capability::OperatorControl, Capability::OperatorRequests]
            }
            Fault::LeaderElection {} | Fault::SuspendLeader {} => {
                vec![Capability::OperatorControl, Capability::LeaderElection]
            }
            Fault::PreviousRelease {} => vec![Capability::OperatorControl, Capability::PreviousRelease],
            Fault::S3Outage { .. } => vec![Capability::S3, Capability::S3Control],
            _ => vec![Capability::PerconaControl],
        },
        Action::Apply(write) | Action::Create(write) => write.objects.iter().flat_map(of_object).collect(),
        Action::Admission(Admission { request, expect, dry_run, .. }) => {
            let allowed = !dry_run && matches!(expect, AdmissionExpectation::Allowed { .. });
            let mut needed = match request {
                AdmissionRequest::Create(object) | AdmissionRequest::Apply(object) if allowed => of_object(object),
                _ => Vec::new(),
            };
            if matches!(expect, AdmissionExpectation::Unanswered {}) {
                needed.push(Capability::Webhook);
            }
            // What the CRD's schema refuses is refused without a webhook; only a webhook can warn.
            if matches!(expect, AdmissionExpectation::Allowed { warnings: Some(warnings) } if !warnings.is_empty()) {
                needed.push(Capability::Webhook);
            }
            needed
        }
        _ => Vec::new(),
    }
}

fn of_object(object: &Object) -> Vec<Capability> {
    if object.get("kind").is_none_or(|kind| kind != SERVER) {
        return Vec::new();
    }
    let percona = object.get("spec").and_then(|spec| spec.get("percona"));
    let on = |value: Option<&serde_json::Value>| value.and_then(|value| value.get("enabled")) == Some(&true.into());
    if !on(percona) {
        return Vec::new();
    }
    let backups = on(percona.and_then(|percona| percona.get("backup")));
    [Capability::Percona].into_iter().chain(backups.then_some(Capability::Backups)).collect()
}

fn isolation(action: &Action) -> Isolation {
    let of_kind = |kind: Option<&str>| match kind {
        Some(kind) if SHARED_KINDS.contains(&kind) => Isolation::Cluster,
        _ => Isolation::Namespace,
    };
    let of_object = |object: &Object| of_kind(object.get("kind").and_then(serde_json::Value::as_str));
    match action {
        Action::Fault(fault) => fault.inject.isolation(),
        // It comes when all others have ended.
        Action::Permissions(_) => Isolation::Operator,
        Action::Apply(write) | Action::Create(write) => write.objects.iter().map(of_object).max().unwrap_or_default(),
        Action::Patch(patch) => of_kind(Some(&patch.r#ref.kind)),
        Action::Delete(delete) => of_kind(Some(&delete.r#ref.kind)),
        Action::Admission(admission) => match &admission.request {
            AdmissionRequest::Create(object) | AdmissionRequest::Apply(object) => of_object(object),
            AdmissionRequest::Patch { r#ref, .. } | AdmissionRequest::Delete(r#ref) => of_kind(Some(&r#ref.kind)),
        },
        _ => Isolation::Namespace,
    }
}
