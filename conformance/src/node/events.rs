//! Events of pods, as the kubelet posts them: warnings only, because nobody should depend on the others.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::NODE;

/// Longest text of an event, in bytes; the API server refuses more than 1024.
const LONGEST: usize = 1000;

/// Posts events in the background: losing one must not hold a pod up.
#[derive(Clone)]
pub(super) struct Events {
    recorder: Recorder,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Events {
    pub(super) fn new(client: Client, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        let reporter = Reporter { controller: "kubelet".to_owned(), instance: Some(NODE.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), tasks, shutdown }
    }

    pub(super) fn warn(&self, pod: &Pod, reason: &'static str, mut note: String) {
        note.truncate(note.floor_char_boundary(LONGEST));
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            action: action(reason, &note),
            note: Some(note),
            secondary: None,
        };
        let (recorder, pod) = (self.recorder.clone(), pod.object_ref(&()));
        self.tasks.spawn(self.shutdown.clone().run_until_cancelled_owned(async move {
            if let Err(error) = recorder.publish(&event, &pod).await {
                tracing::debug!(%error, pod = pod.name, reason, "cannot post an event");
            }
        }));
    }
}

/// The recorder takes events for one and the same when only their texts differ, and keeps the first; the kubelet does not. So
/// each text is an action of its own.
fn action(reason: &str, note: &str) -> String {
    let mut hasher = DefaultHasher::new();
    note.hash(&mut hasher);
    format!("{reason}-{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_something_else_is_another_event() {
        assert_eq!(action("FailedMount", "no secret"), action("FailedMount", "no secret"));
        assert_ne!(action("FailedMount", "no secret"), action("FailedMount", "no key"));
        assert!(action("FailedMount", "no secret").starts_with("FailedMount-"));
    }
}
