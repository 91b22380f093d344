//! Events of pods, as the kubelet posts them: warnings only, because nobody should depend on the others.

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
            note: Some(note),
            action: reason.to_owned(),
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
