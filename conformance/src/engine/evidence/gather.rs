//! Asks the watches, the API server and the environment. What cannot be had is left out: a failure must be told even
//! when the cluster is gone.

use std::time::Duration;

use serde_json::Value;

use super::{ContainerReport, EventLine, FailureReport, MismatchLine, ObjectTimeline, Place, PodReport};
use crate::engine::access;
use crate::engine::containers::statuses;
use crate::engine::context::Context;
use crate::engine::trouble::{Failure, Mismatched, Subject, Trouble};
use crate::engine::watch::{Entry, Key, Record, Timeline, What};
use crate::environment::Container;
use crate::redact::redact;

/// Entries of a timeline that are shown.
const ENTRIES: usize = 20;
/// Events that are shown.
const EVENTS: usize = 25;
/// Lines of each log that are shown.
const LINES: usize = 30;
/// How long gathering may take: a broken cluster must not hold up the report.
const LIMIT: Duration = Duration::from_secs(10);

/// The report of `failure`.
pub async fn gather(place: Place, failure: Failure, context: &Context) -> FailureReport {
    let since =
        |found: &Mismatched| timeline(context, &found.subject, |timeline| timeline.since(&found.path)).flatten();
    let mismatches: Vec<MismatchLine> = failure
        .mismatches
        .into_iter()
        .map(|found| MismatchLine {
            since: since(&found),
            subject: found.subject,
            path: found.path,
            expected: found.expected,
            actual: found.actual,
        })
        .collect();
    let mut subjects = failure.subjects;
    subjects.sort();
    subjects.dedup();
    let timelines = subjects.iter().flat_map(|subject| timelines(context, subject)).collect();
    let asked = tokio::time::timeout(LIMIT, async { (events(context).await, pods(context).await) });
    let (events, pods) = asked.await.unwrap_or_default();
    FailureReport { place, message: redact(&failure.message), mismatches, timelines, events, pods }
}

fn timeline<T>(context: &Context, subject: &Subject, look: impl FnOnce(&Timeline) -> T) -> Option<T> {
    let feed = context.feed(&subject.kind, subject.namespace.as_deref());
    feed.read(|record| find(record, subject).next().map(|(_, timeline)| look(timeline)))
}

fn find<'a>(record: &'a Record, subject: &'a Subject) -> impl Iterator<Item = (&'a Key, &'a Timeline)> {
    record.timelines().iter().filter(|(key, _)| subject.matches(key))
}

/// The timelines of the subject; of the first few objects when it names none.
fn timelines(context: &Context, subject: &Subject) -> Vec<ObjectTimeline> {
    let feed = context.feed(&subject.kind, subject.namespace.as_deref());
    feed.read(|record| {
        let shown = find(record, subject).take(3).map(|(key, timeline)| {
            let entries = timeline.entries();
            let hidden = entries.len().saturating_sub(ENTRIES);
            ObjectTimeline {
                subject: Subject { name: Some(key.name.clone()), ..subject.clone() },
                earlier: timeline.forgotten() + hidden,
                entries: timeline.entries().skip(hidden).map(redacted).collect(),
            }
        });
        shown.collect()
    })
}

fn redacted(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    if let What::Changed(changes) = &mut entry.what {
        for value in changes.iter_mut().flat_map(|change| [&mut change.before, &mut change.after]).flatten() {
            redact_value(value);
        }
    }
    entry
}

pub(super) fn redact_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact(text),
        Value::Array(list) => list.iter_mut().for_each(redact_value),
        Value::Object(object) => object.values_mut().for_each(redact_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The objects of a namespaced core kind as they are now.
///
/// # Errors
/// The API server does not list them: the environment is broken.
pub(in crate::engine) async fn list(context: &Context, plural: &str) -> Result<Vec<Value>, Trouble> {
    let broken = |why: String| Trouble::broken(format!("the {plural} of namespace {}: {why}", context.namespace));
    let url = format!("/api/v1/namespaces/{}/{plural}", context.namespace);
    let request = http::Request::get(url).body(Vec::new()).map_err(|error| broken(error.to_string()))?;
    let answer = access::send(&context.client, request).await.map_err(|error| broken(error.to_string()))?;
    let mut listed = answer.result.map_err(|status| broken(status.message.clone()))?;
    match listed["items"].take() {
        Value::Array(items) => Ok(items),
        other => Err(broken(format!("the API server lists {other}"))),
    }
}

async fn events(context: &Context) -> Vec<EventLine> {
    let mut events: Vec<EventLine> = list(context, "events").await.unwrap_or_default().iter().map(event).collect();
    events.sort_by(|a, b| a.at.cmp(&b.at));
    let hidden = events.len().saturating_sub(EVENTS);
    events.drain(..hidden);
    events
}

fn event(event: &Value) -> EventLine {
    let text = |value: &Value| redact(value.as_str().unwrap_or_default());
    // Three generations of the events API, three places for the time.
    let times = [&event["lastTimestamp"], &event["series"]["lastObservedTime"], &event["eventTime"]];
    let at = times.into_iter().find(|time| time.is_string()).unwrap_or(&event["metadata"]["creationTimestamp"]);
    let involved = &event["involvedObject"];
    EventLine {
        at: text(at),
        level: text(&event["type"]),
        object: format!("{} {}", text(&involved["kind"]), text(&involved["name"])),
        reason: text(&event["reason"]),
        message: text(&event["message"]),
        count: event["count"].as_u64().or(event["series"]["count"].as_u64()).unwrap_or(1),
    }
}

async fn pods(context: &Context) -> Vec<PodReport> {
    let mut pods = Vec::new();
    for pod in list(context, "pods").await.unwrap_or_default() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut containers = Vec::new();
        for status in statuses(&pod) {
            let container = status["name"].as_str().unwrap_or_default().to_owned();
            let asked =
                Container { namespace: context.namespace.clone(), pod: name.clone(), container: container.clone() };
            // Before it is cut into lines: a secret may have several.
            let log = redact(&context.site.logs(&asked).await.unwrap_or_default());
            let lines: Vec<&str> = log.lines().collect();
            containers.push(ContainerReport {
                name: container,
                state: state(status),
                restarts: status["restartCount"].as_u64().unwrap_or_default(),
                log: lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect(),
            });
        }
        let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown").to_owned();
        pods.push(PodReport { name, phase, containers });
    }
    pods
}

fn state(status: &Value) -> String {
    let Some((word, details)) = status["state"].as_object().and_then(|state| state.iter().next()) else {
        return "unknown".to_owned();
    };
    let parts: Vec<String> = ["reason", "exitCode", "message"]
        .into_iter()
        .filter_map(|field| match &details[field] {
            Value::Null => None,
            Value::String(text) => Some(redact(text)),
            other => Some(format!("exit code {other}")),
        })
        .collect();
    let ready = if status["ready"] == true { ", ready" } else { "" };
    let detail = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{word}{detail}{ready}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_state_reads_as_kubectl_describes_it() {
        let waiting = json!({"ready": false, "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no key uri"}}});
        assert_eq!(state(&waiting), "waiting: CreateContainerConfigError, no key uri");
        assert_eq!(state(&json!({"ready": true, "state": {"running": {"startedAt": "x"}}})), "running, ready");
        assert_eq!(
            state(&json!({"state": {"terminated": {"exitCode": 1, "reason": "Error"}}})),
            "terminated: Error, exit code 1"
        );
    }

    #[test]
    fn an_event_of_either_api_has_a_time() {
        let old = json!({"lastTimestamp": "2026-11-24T08:00:00Z", "eventTime": null, "count": 3});
        let new = json!({"lastTimestamp": null, "eventTime": "2026-11-24T08:00:01.5Z", "series": {"count": 2}});
        assert_eq!((event(&old).at.as_str(), event(&old).count), ("2026-11-24T08:00:00Z", 3));
        assert_eq!((event(&new).at.as_str(), event(&new).count), ("2026-11-24T08:00:01.5Z", 2));
    }
}
