//! The status of a pod, as a kubelet reports it.
//!
//! Pure, except for the time.

use jiff::Timestamp;
use serde_json::{Value, json};

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its containers are waiting: for a volume, or for the init containers.
    Waiting,
    /// They run.
    Running {
        /// Whether they are ready.
        ready: bool,
    },
    /// They have ended.
    Terminated {
        /// With exit code 0.
        succeeded: bool,
    },
}

/// The whole status of a pod with this spec.
pub fn pod_status(spec: &Value, stage: Stage, address: Option<&str>) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (phase, ready) = match stage {
        Stage::Waiting => ("Pending", false),
        Stage::Running { ready } => ("Running", ready),
        Stage::Terminated { succeeded: true } => ("Succeeded", false),
        Stage::Terminated { succeeded: false } => ("Failed", false),
    };
    let container = |container: &Value, init: bool| {
        let now_in = match stage {
            Stage::Waiting => {
                json!({ "waiting": { "reason": "PodInitializing" }, "running": null, "terminated": null })
            }
            Stage::Running { .. } if init => terminated(&now, true),
            Stage::Running { .. } => json!({ "running": { "startedAt": now }, "waiting": null, "terminated": null }),
            Stage::Terminated { succeeded } => terminated(&now, succeeded || init),
        };
        json!({
            "name": container["name"], "image": container["image"], "imageID": container["image"],
            // The containers that stand beside the first one have no readiness of their own.
            "ready": if init { stage != Stage::Waiting } else { ready },
            "restartCount": 0, "state": now_in,
        })
    };
    let list = |field: &str, init: bool| -> Vec<Value> {
        spec[field].as_array().into_iter().flatten().map(|each| container(each, init)).collect()
    };
    let condition = |kind: &str, holds: bool| json!({ "type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": now });
    let mut whole = json!({
        "phase": phase,
        "startTime": now,
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", stage != Stage::Waiting),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": list("containers", false),
        "initContainerStatuses": list("initContainers", true),
    });
    if let Some(address) = address {
        whole["hostIP"] = json!("10.0.0.1");
        whole["podIP"] = json!(address);
        whole["podIPs"] = json!([{ "ip": address }]);
    }
    whole
}

fn terminated(now: &str, succeeded: bool) -> Value {
    let (code, reason) = if succeeded { (0, "Completed") } else { (1, "Error") };
    json!({
        "terminated": { "exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now },
        "running": null, "waiting": null,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::waiting(Stage::Waiting, "Pending", "waiting", "False")]
    #[case::starting(Stage::Running { ready: false }, "Running", "running", "False")]
    #[case::ready(Stage::Running { ready: true }, "Running", "running", "True")]
    #[case::done(Stage::Terminated { succeeded: true }, "Succeeded", "terminated", "False")]
    #[case::failed(Stage::Terminated { succeeded: false }, "Failed", "terminated", "False")]
    fn the_stages_are_a_kubelet_s(#[case] stage: Stage, #[case] phase: &str, #[case] state: &str, #[case] ready: &str) {
        let spec =
            json!({ "containers": [{ "name": "database", "image": "i" }], "initContainers": [{ "name": "init" }] });
        let status = pod_status(&spec, stage, Some("10.128.0.1"));
        assert_eq!(status["phase"], phase);
        assert!(status["containerStatuses"][0]["state"][state].is_object());
        assert_eq!(status["conditions"][3]["status"], ready);
        assert_eq!(status["initContainerStatuses"][0]["ready"], stage != Stage::Waiting);
    }
}
