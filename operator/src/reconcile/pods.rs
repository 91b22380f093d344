//! What a pod's status says about its wait for the database. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

use crate::api::names;

/// Longest part of an init container's last words that is repeated in a condition.
const MESSAGE_LIMIT: usize = 512;

/// Why the init container of `pod` gave up, until a later run of it succeeds.
pub fn gave_up(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == names::INIT_CONTAINER)?;
    let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.clone())
    };
    let last = terminated(&status.state).or_else(|| terminated(&status.last_state))?;
    (last.exit_code != 0).then(|| describe(&pod.metadata.name.clone().unwrap_or_default(), &last))
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
    #[case::runs_first(names::INIT_CONTAINER, json!({"running": {}}), json!({}), None)]
    #[case::succeeded(names::INIT_CONTAINER, ended(0, None), ended(1, Some("x")), None)]
    #[case::other_container("migrate", ended(1, Some("x")), json!({}), None)]
    #[case::failed(names::INIT_CONTAINER, ended(1, Some("a\ngave up\n\n")), json!({}), Some("gave up"))]
    #[case::backs_off(names::INIT_CONTAINER, json!({"waiting": {}}), ended(1, Some("gave up")), Some("gave up"))]
    #[case::runs_again(names::INIT_CONTAINER, json!({"running": {}}), ended(1, Some("gave up")), Some("gave up"))]
    #[case::says_nothing(names::INIT_CONTAINER, ended(137, None), json!({}), Some("exit code 137"))]
    fn a_wait_that_gave_up_stays_until_one_succeeds(
        #[case] name: &str,
        #[case] state: Value,
        #[case] last: Value,
        #[case] expected: Option<&str>,
    ) {
        let said = gave_up(&pod(&status(name, &state, &last)));
        match expected {
            Some(words) => assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{said:?}"),
            None => assert_eq!(said, None),
        }
    }
}
