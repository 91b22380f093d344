//! What a pod's status says about its wait for the database. Pure.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod};

use crate::api::names;

/// Longest part of an init container's last words that is repeated in a condition.
const MESSAGE_LIMIT: usize = 512;

/// Why the init container of `pod` gave up, until a later run of it succeeds.
pub fn gave_up(pod: &Pod) -> Option<String> {
    let last = runs(pod).next()?;
    (last.exit_code != 0).then(|| describe(pod.metadata.name.as_deref().unwrap_or_default(), last))
}

/// Whether a run of the init container of `pod` gave up, be it that the next one succeeded.
pub fn has_given_up(pod: &Pod) -> bool {
    runs(pod).any(|run| run.exit_code != 0)
}

/// How the last runs of the init container ended, the last one first: Kubernetes keeps two at most.
fn runs(pod: &Pod) -> impl Iterator<Item = &ContainerStateTerminated> {
    let statuses = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let ours = statuses.filter(|status| status.name == names::INIT_CONTAINER);
    ours.flat_map(|status| [&status.state, &status.last_state])
        .filter_map(|state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref())
}

fn describe(pod: &str, last: &ContainerStateTerminated) -> String {
    let init = names::INIT_CONTAINER;
    let words = last.message.as_deref().and_then(|message| message.lines().rfind(|line| !line.trim().is_empty()));
    match words {
        Some(line) => {
            format!(
                "init container {init} of pod {pod}: {}",
                line.trim().chars().take(MESSAGE_LIMIT).collect::<String>()
            )
        }
        None => format!("init container {init} of pod {pod} ended with exit code {}: see its log", last.exit_code),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(init: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "demo-0" },
            "status": { "initContainerStatuses": [init] },
        }))
        .unwrap()
    }

    fn status(name: &str, state: &Value, last: &Value) -> Value {
        json!({
            "name": name, "image": "x", "imageID": "x", "ready": false, "restartCount": 1,
            "state": state, "lastState": last,
        })
    }

    fn ended(code: i32, message: Option<&str>) -> Value {
        json!({ "terminated": { "exitCode": code, "message": message } })
    }

    #[rstest]
    #[case::runs_first(names::INIT_CONTAINER, json!({"running": {}}), json!({}), None, false)]
    #[case::succeeded(names::INIT_CONTAINER, ended(0, None), ended(1, Some("x")), None, true)]
    #[case::other_container("migrate", ended(1, Some("x")), json!({}), None, false)]
    #[case::failed(names::INIT_CONTAINER, ended(1, Some("a\ngave up\n\n")), json!({}), Some("gave up"), true)]
    #[case::backs_off(names::INIT_CONTAINER, json!({"waiting": {}}), ended(1, Some("gave up")), Some("gave up"), true)]
    #[case::runs_again(names::INIT_CONTAINER, json!({"running": {}}), ended(1, Some("gave up")), Some("gave up"), true)]
    #[case::says_nothing(names::INIT_CONTAINER, ended(137, None), json!({}), Some("exit code 137"), true)]
    fn a_wait_that_gave_up_stays_until_one_succeeds(
        #[case] name: &str,
        #[case] state: Value,
        #[case] last: Value,
        #[case] expected: Option<&str>,
        #[case] ever: bool,
    ) {
        let pod = pod(&status(name, &state, &last));
        assert_eq!(has_given_up(&pod), ever);
        let said = gave_up(&pod);
        match expected {
            Some(words) => assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{said:?}"),
            None => assert_eq!(said, None),
        }
    }
}
