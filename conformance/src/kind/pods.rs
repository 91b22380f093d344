//! Why pods do not run, and whether a Deployment is as it should be.
//!
//! Pure.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::ready::{Missing, Seen};

/// Reasons for which a container waits that nobody but a person can end.
const HOPELESS: [&str; 5] =
    ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"];

/// The statuses of all containers, init containers first.
pub fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let others = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().flatten().chain(others.into_iter().flatten())
}

/// An image that a pod waits for in vain: a sentence with what to do.
pub fn missing_image(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    statuses(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| HOPELESS.contains(reason))?;
        let message = waiting.message.as_deref().unwrap_or("no message");
        let image = &container.image;
        Some(format!(
            "container {} of pod {name} cannot start from image {image} ({reason}: {message}); load it with \
             `--image-archive`, or let the nodes reach its registry",
            container.name
        ))
    })
}

/// Whether every pod that a Deployment asks for is there in its newest version and ready, and no other. `pods` are its pods:
/// they tell what keeps it.
pub fn rolled_out(deployment: Option<&Deployment>, pods: &Seen<Pod>) -> Result<(), Missing> {
    if let Some(missing) = pods.values().find_map(missing_image) {
        return Err(Missing::ForGood(missing));
    }
    let Some(deployment) = deployment else { return Err(Missing::Yet("there is no such Deployment".to_owned())) };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let current = status.observed_generation >= deployment.metadata.generation;
    let count = |number: Option<i32>| number.unwrap_or_default();
    let (updated, ready, all) = (count(status.updated_replicas), count(status.ready_replicas), count(status.replicas));
    if current && updated == wanted && ready == wanted && all == wanted {
        return Ok(());
    }
    let described: Vec<String> = pods.values().map(describe).collect();
    Err(Missing::Yet(format!(
        "{ready} of {wanted} replicas are ready, {updated} of the newest version; pods: {}",
        if described.is_empty() { "none".to_owned() } else { described.join(", ") }
    )))
}

/// A pod in a few words.
pub fn describe(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown");
    let details: Vec<String> = statuses(pod).filter(|container| !container.ready).filter_map(waits).collect();
    if details.is_empty() { format!("{name} {phase}") } else { format!("{name} {phase} ({})", details.join("; ")) }
}

fn waits(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let name = &container.name;
    if let Some(waiting) = &state.waiting {
        return Some(format!("{name}: {}", waiting.reason.as_deref().unwrap_or("waiting")));
    }
    let ended = state.terminated.as_ref()?;
    (ended.exit_code != 0).then(|| format!("{name}: ended with {}", ended.exit_code))
}

/// How often the containers of a pod were started again.
pub fn restarts(pod: &Pod) -> u32 {
    statuses(pod).map(|container| u32::try_from(container.restart_count).unwrap_or_default()).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(state: &Value) -> Pod {
        let status = json!({ "name": "operator", "image": "operator:1", "imageID": "", "ready": false,
            "restartCount": 2, "state": state });
        serde_json::from_value(json!({
            "metadata": { "name": "operator-x" },
            "status": { "phase": "Pending", "containerStatuses": [status] },
        }))
        .unwrap()
    }

    fn waiting(reason: &str) -> Pod {
        pod(&json!({ "waiting": { "reason": reason, "message": "not found" } }))
    }

    fn deployment(ready: i32, generation: i64) -> Deployment {
        serde_json::from_value(json!({
            "metadata": { "generation": 2 }, "spec": { "replicas": 1, "selector": {}, "template": {} },
            "status": { "observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready },
        }))
        .unwrap()
    }

    #[test]
    fn a_missing_image_is_told_at_once_with_what_to_do() {
        insta::assert_snapshot!(missing_image(&waiting("ErrImageNeverPull")).unwrap(), @"container operator of pod operator-x cannot start from image operator:1 (ErrImageNeverPull: not found); load it with `--image-archive`, or let the nodes reach its registry");
        assert_eq!(missing_image(&waiting("ContainerCreating")), None);
        assert_eq!(restarts(&waiting("ContainerCreating")), 2);
    }

    #[rstest::rstest]
    #[case::ready(Some(deployment(1, 2)), waiting("ContainerCreating"), Ok(()))]
    #[case::of_an_older_version(Some(deployment(1, 1)), waiting("ContainerCreating"), Err("1 of 1 replicas are ready"))]
    #[case::crashing(
        Some(deployment(0, 2)),
        waiting("CrashLoopBackOff"),
        Err("operator-x Pending (operator: CrashLoopBackOff)")
    )]
    #[case::hopeless(Some(deployment(0, 2)), waiting("ImagePullBackOff"), Err("cannot start from image"))]
    #[case::absent(None, waiting("ContainerCreating"), Err("there is no such Deployment"))]
    fn a_deployment_is_rolled_out_or_says_what_keeps_it(
        #[case] deployment: Option<Deployment>,
        #[case] pod: Pod,
        #[case] expected: Result<(), &str>,
    ) {
        let pods = Seen::from([("operator-x".to_owned(), pod)]);
        match (rolled_out(deployment.as_ref(), &pods), expected) {
            (Ok(()), Ok(())) => {}
            (Err(Missing::Yet(text) | Missing::ForGood(text)), Err(part)) => assert!(text.contains(part), "{text}"),
            (outcome, expected) => panic!("{outcome:?} is not {expected:?}"),
        }
    }
}
