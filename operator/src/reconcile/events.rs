//! Publishes events. Each is an object of its own: kube's `Recorder` folds repetitions into a series and keeps the first
//! text, but a second outage says something else than the first.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};

use super::status::Notice;
use crate::api::{DittoServer, names};

/// The API server refuses longer notes; it counts bytes.
const NOTE_LIMIT: usize = 1024;

/// Publishes `notice` about `server`. A failure is logged: no reconciliation depends on an event.
pub async fn publish(client: &Client, instance: &str, server: &DittoServer, notice: &Notice) {
    let namespace = server.namespace().unwrap_or_default();
    let event = event(instance, server, notice);
    tracing::info!(server = %server.name_any(), %namespace, reason = notice.reason, note = %notice.note, "event");
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if let Err(error) = events.create(&PostParams::default(), &event).await {
        tracing::warn!(%error, server = %server.name_any(), %namespace, reason = notice.reason, "cannot publish an event");
    }
}

fn event(instance: &str, server: &DittoServer, notice: &Notice) -> Event {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{nanos:x}", server.name_any())),
            namespace: server.namespace(),
            ..ObjectMeta::default()
        },
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(notice.reason.to_owned()),
        note: Some(notice.note[..notice.note.floor_char_boundary(NOTE_LIMIT)].to_owned()),
        action: Some("Reconcile".to_owned()),
        regarding: Some(server.object_ref(&())),
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(names::OPERATOR.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ApiServer, server};

    #[tokio::test]
    async fn an_event_says_who_tells_what_of_whom() {
        let api = ApiServer::default();
        let notice = |warning, note: &str| Notice { warning, reason: "Because", note: note.to_owned() };
        publish(&api.client(), "operator-0", &server(""), &notice(false, "that is why")).await;
        publish(&api.client(), "operator-0", &server(""), &notice(true, &"long ".repeat(300))).await;
        publish(&api.client(), "operator-0", &server(""), &notice(true, &format!("a{}", "ü".repeat(600)))).await;
        let sent = api.sent();
        let names: Vec<_> = sent.iter().map(|(_, event)| event["metadata"]["name"].as_str().unwrap()).collect();
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.starts_with("demo.")), "{names:?}");
        assert_eq!(sent[1].1["note"].as_str().unwrap().len(), NOTE_LIMIT);
        assert_eq!(
            sent[2].1["note"].as_str().unwrap(),
            format!("a{}", "ü".repeat(511)),
            "a character is whole or not there"
        );
        assert_eq!((&sent[0].1["type"], &sent[1].1["type"]), (&"Normal".into(), &"Warning".into()));
        insta::assert_yaml_snapshot!(sent[0], {
            "[1].metadata.name" => "<name>",
            "[1].eventTime" => "<time>",
        });
    }
}
