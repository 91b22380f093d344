//! The status of a pod, as the kubelet would write it. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::lifecycle::Lifecycle;
use super::slot::{Hindrance, Phase, Role, Slot, Termination};

/// Writes the status of one pod, and remembers since when each condition is what it is.
#[derive(Debug)]
pub(super) struct StatusWriter {
    started: Timestamp,
    address: IpAddr,
    transitions: BTreeMap<&'static str, (bool, Timestamp)>,
}

/// A condition's status, and why it is not true: reason and message.
type Condition = (&'static str, bool, Option<(&'static str, Option<String>)>);

impl StatusWriter {
    pub(super) fn new(address: IpAddr, now: Timestamp) -> Self {
        Self { started: now, address, transitions: BTreeMap::new() }
    }

    /// The status as a strategic merge patch: conditions of other writers stay, and what is no longer said is `null`.
    pub(super) fn render(&mut self, pod: &Pod, lifecycle: &Lifecycle, node: IpAddr, now: Timestamp) -> Value {
        let render = |slot: &Slot| container(pod, slot, has_init(lifecycle));
        let (main, init): (Vec<&Slot>, Vec<&Slot>) = lifecycle.slots.iter().partition(|slot| slot.role == Role::Main);
        let conditions = conditions(pod, lifecycle).into_iter().map(|condition| self.condition(condition, now));
        let conditions = conditions.collect::<Vec<_>>();
        // It comes with the sandbox, for which the kubelet waits until the volumes are set up.
        let address = Some(self.address).filter(|_| !lifecycle.waits_for_volumes());
        json!({
            "conditions": conditions,
            "containerStatuses": main.into_iter().map(render).collect::<Vec<_>>(),
            "initContainerStatuses": init.into_iter().map(render).collect::<Vec<_>>(),
            "hostIP": node,
            "hostIPs": [{"ip": node}],
            "phase": lifecycle.pod_phase(),
            "podIP": address,
            "podIPs": address.map(|ip| json!([{"ip": ip}])),
            "startTime": time(self.started),
        })
    }

    fn condition(&mut self, (kind, holds, why): Condition, now: Timestamp) -> Value {
        let transition = self.transitions.entry(kind).or_insert((holds, now));
        if transition.0 != holds {
            *transition = (holds, now);
        }
        let (reason, message) = why.unzip();
        json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "lastProbeTime": null,
            "lastTransitionTime": time(transition.1),
            "reason": reason,
            "message": message.flatten(),
        })
    }
}

fn has_init(lifecycle: &Lifecycle) -> bool {
    lifecycle.slots.iter().any(|slot| slot.role != Role::Main)
}

fn conditions(pod: &Pod, lifecycle: &Lifecycle) -> [Condition; 4] {
    let incomplete = names(lifecycle.slots.iter().filter(|slot| slot.role != Role::Main && !slot.is_complete()));
    let unready = names(lifecycle.slots.iter().filter(|slot| slot.role != Role::Init && !slot.ready));
    let initialized = if lifecycle.is_initialized() {
        None
    } else {
        Some(("ContainersNotInitialized", Some(format!("containers with incomplete status: {incomplete}"))))
    };
    let containers = if lifecycle.pod_phase() == "Succeeded" {
        Some(("PodCompleted", None))
    } else if unready == "[]" {
        None
    } else {
        Some(("ContainersNotReady", Some(format!("containers with unready status: {unready}"))))
    };
    let ready = containers.clone().or_else(|| closed_gate(pod).map(|gate| ("ReadinessGatesNotReady", Some(gate))));
    [
        ("PodReadyToStartContainers", !lifecycle.is_over() && !lifecycle.waits_for_volumes(), None),
        ("Initialized", initialized.is_none(), initialized),
        ("ContainersReady", containers.is_none(), containers),
        ("Ready", ready.is_none(), ready),
    ]
}

/// A readiness gate whose condition, which somebody else writes, is not true.
fn closed_gate(pod: &Pod) -> Option<String> {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let conditions: Vec<_> = pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).collect();
    gates.map(|gate| &gate.condition_type).find_map(|kind| {
        match conditions.iter().find(|condition| condition.type_ == *kind) {
            Some(condition) if condition.status == "True" => None,
            Some(condition) => {
                Some(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", condition.status))
            }
            None => Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
        }
    })
}

fn names<'a>(slots: impl Iterator<Item = &'a Slot>) -> String {
    format!("[{}]", slots.map(|slot| slot.spec.name.as_str()).collect::<Vec<_>>().join(" "))
}

fn container(pod: &Pod, slot: &Slot, has_init: bool) -> Value {
    let image = slot.spec.image.as_deref().unwrap_or_default();
    let state = match &slot.phase {
        Phase::Running { since } => json!({"running": {"startedAt": time(*since)}}),
        Phase::Terminated(end) => terminated(end),
        Phase::Waiting { hindrance: Hindrance::Restarting, .. } if slot.last.is_some() => {
            slot.last.as_ref().map(terminated).unwrap_or_default()
        }
        Phase::Waiting { hindrance, .. } => {
            let (reason, message) = waiting(pod, slot, hindrance, image, has_init);
            json!({"waiting": {"reason": reason, "message": message}})
        }
    };
    let last = match &slot.phase {
        Phase::Waiting { hindrance: Hindrance::Restarting, .. } => None,
        _ => slot.last.as_ref().map(terminated),
    };
    json!({
        "name": slot.spec.name,
        "image": image,
        "imageID": if slot.starts > 0 { image } else { "" },
        "ready": if slot.role == Role::Init { slot.is_complete() } else { slot.ready },
        "started": slot.is_running() && slot.started,
        "restartCount": slot.starts.saturating_sub(1),
        "state": state,
        "lastState": last.unwrap_or_else(|| json!({})),
    })
}

fn waiting(
    pod: &Pod,
    slot: &Slot,
    hindrance: &Hindrance,
    image: &str,
    has_init: bool,
) -> (&'static str, Option<String>) {
    match hindrance {
        Hindrance::Creating | Hindrance::Restarting => {
            (if has_init { "PodInitializing" } else { "ContainerCreating" }, None)
        }
        Hindrance::CrashLoopBackOff { delay } => {
            let metadata = &pod.metadata;
            let message = format!(
                "back-off {delay:?} restarting failed container={} pod={}_{}({})",
                slot.spec.name,
                metadata.name.as_deref().unwrap_or_default(),
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.uid.as_deref().unwrap_or_default(),
            );
            ("CrashLoopBackOff", Some(message))
        }
        Hindrance::Configuration(message) => ("CreateContainerConfigError", Some(message.clone())),
        Hindrance::Pull => (
            "ErrImagePull",
            Some(format!("failed to pull image {image:?}: the node double has no local program for it")),
        ),
        Hindrance::PullBackOff => ("ImagePullBackOff", Some(format!("Back-off pulling image {image:?}"))),
    }
}

fn terminated(end: &Termination) -> Value {
    json!({"terminated": {
        "exitCode": end.exit_code,
        "reason": end.reason,
        "message": end.message,
        "startedAt": time(end.started),
        "finishedAt": time(end.finished),
    }})
}

/// Kubernetes keeps whole seconds.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::back_off::BackOffLimits;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(change: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "demo-0", "namespace": "a", "uid": "u1"},
            "spec": {
                "initContainers": [{"name": "wait", "image": "postgres:16"}],
                "containers": [{"name": "dittofs", "image": "dittofs:1", "readinessProbe": {}}],
            },
        });
        json_patch::merge(&mut pod, change);
        serde_json::from_value(pod).unwrap()
    }

    fn made(pod: &Pod) -> (Lifecycle, StatusWriter) {
        let limits = BackOffLimits { base: Duration::from_secs(10), longest: Duration::from_mins(5) };
        let address = "10.64.0.9".parse().unwrap();
        (Lifecycle::new(pod.spec.as_ref().unwrap(), limits), StatusWriter::new(address, at(0)))
    }

    /// The status without what never changes.
    fn render(writer: &mut StatusWriter, pod: &Pod, lifecycle: &Lifecycle, second: i64) -> Value {
        writer.render(pod, lifecycle, "127.0.0.1".parse().unwrap(), at(second))
    }

    fn end(exit_code: i32, second: i64) -> Termination {
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        let message = (exit_code != 0).then(|| "it broke".to_owned());
        Termination { exit_code, reason, message, started: at(second - 1), finished: at(second) }
    }

    #[test]
    fn while_an_init_container_runs() {
        let pod = pod(&json!({}));
        let (mut lifecycle, mut writer) = made(&pod);
        lifecycle.has_started(0, at(1));
        insta::assert_yaml_snapshot!(render(&mut writer, &pod, &lifecycle, 1));
    }

    #[test]
    fn when_it_is_ready() {
        let pod = pod(&json!({}));
        let (mut lifecycle, mut writer) = made(&pod);
        lifecycle.has_started(0, at(1));
        lifecycle.has_ended(0, end(0, 2));
        lifecycle.has_started(1, at(3));
        let unready = render(&mut writer, &pod, &lifecycle, 3);
        lifecycle.set_ready(1, true);
        let ready = render(&mut writer, &pod, &lifecycle, 4);
        insta::assert_yaml_snapshot!(ready);
        let transition = |status: &Value, kind: &str| {
            let conditions = status["conditions"].as_array().unwrap();
            let condition = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
            condition["lastTransitionTime"].as_str().unwrap().to_owned()
        };
        assert_eq!(transition(&unready, "Initialized"), transition(&ready, "Initialized"));
        assert_ne!(transition(&unready, "Ready"), transition(&ready, "Ready"));
    }

    #[test]
    fn in_a_crash_loop() {
        let pod = pod(&json!({"spec": {"initContainers": []}}));
        let (mut lifecycle, mut writer) = made(&pod);
        for second in [2, 4] {
            lifecycle.has_started(0, at(second - 1));
            lifecycle.has_ended(0, end(1, second));
        }
        insta::assert_yaml_snapshot!(render(&mut writer, &pod, &lifecycle, 4)["containerStatuses"]);
    }

    #[test]
    fn between_an_end_and_an_immediate_restart() {
        let pod = pod(&json!({"spec": {"initContainers": []}}));
        let (mut lifecycle, mut writer) = made(&pod);
        lifecycle.has_started(0, at(1));
        lifecycle.has_ended(0, end(1, 2));
        let status = render(&mut writer, &pod, &lifecycle, 2);
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 1);
        assert_eq!(status["containerStatuses"][0]["lastState"], json!({}));
        assert_eq!(status["phase"], "Running");
    }

    #[test]
    fn what_a_container_waits_for() {
        let pod = pod(&json!({"spec": {"initContainers": []}}));
        let (mut lifecycle, mut writer) = made(&pod);
        let mut waiting = |lifecycle: &Lifecycle| {
            render(&mut writer, &pod, lifecycle, 1)["containerStatuses"][0]["state"]["waiting"].clone()
        };
        let mut seen = vec![waiting(&lifecycle)];
        lifecycle.lacks_configuration(0, "couldn't find key uri in Secret a/creds".to_owned(), at(1));
        seen.push(waiting(&lifecycle));
        for second in [2, 3] {
            lifecycle.lacks_image(0, at(second));
            seen.push(waiting(&lifecycle));
        }
        insta::assert_yaml_snapshot!(seen);
    }

    #[test]
    fn while_its_volumes_are_not_set_up() {
        let volumes = json!([{"name": "v", "secret": {"secretName": "s"}}]);
        let wait = json!({"name": "wait", "image": "postgres:16", "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let pod = pod(&json!({"spec": {"volumes": volumes, "initContainers": [wait]}}));
        let (mut lifecycle, mut writer) = made(&pod);
        lifecycle.lacks_volumes(at(1));
        let status = render(&mut writer, &pod, &lifecycle, 1);
        let reason = |list: &str| status[list][0]["state"]["waiting"]["reason"].clone();
        assert_eq!(["initContainerStatuses", "containerStatuses"].map(reason), ["PodInitializing", "PodInitializing"]);
        assert_eq!(status["phase"], "Pending");
        assert_eq!((&status["podIP"], &status["podIPs"]), (&Value::Null, &Value::Null));
        assert_eq!(status["conditions"][0]["status"], "False", "PodReadyToStartContainers");
        lifecycle.has_volumes();
        let status = render(&mut writer, &pod, &lifecycle, 2);
        assert_eq!((&status["podIP"], &status["podIPs"][0]["ip"]), (&json!("10.64.0.9"), &json!("10.64.0.9")));
    }

    #[test]
    fn when_it_is_over() {
        let pod = pod(&json!({"spec": {"initContainers": [], "restartPolicy": "Never"}}));
        let (mut lifecycle, mut writer) = made(&pod);
        lifecycle.has_started(0, at(1));
        lifecycle.has_ended(0, end(0, 2));
        insta::assert_yaml_snapshot!(render(&mut writer, &pod, &lifecycle, 2));
    }

    #[test]
    fn a_readiness_gate_of_somebody_else_is_waited_for() {
        let spec = json!({"initContainers": [], "readinessGates": [{"conditionType": "x/gate"}]});
        let mut messages = Vec::new();
        for conditions in
            [json!([]), json!([{"type": "x/gate", "status": "False"}]), json!([{"type": "x/gate", "status": "True"}])]
        {
            let pod = pod(&json!({"spec": spec, "status": {"conditions": conditions}}));
            let (mut lifecycle, mut writer) = made(&pod);
            lifecycle.has_started(0, at(1));
            lifecycle.set_ready(0, true);
            let ready = render(&mut writer, &pod, &lifecycle, 1)["conditions"][3].clone();
            messages.push((ready["status"].clone(), ready["message"].clone()));
        }
        assert_eq!(
            messages,
            [
                (json!("False"), json!(r#"corresponding condition of pod readiness gate "x/gate" does not exist."#)),
                (json!("False"), json!(r#"the status of pod readiness gate "x/gate" is not "True", but False"#)),
                (json!("True"), Value::Null),
            ]
        );
    }
}
