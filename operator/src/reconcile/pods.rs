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
