//! What must be true of every scenario, whatever it is about.
//!
//! The operator was not restarted, did not panic and ended when it was asked to, it asked for nothing that its roles do
//! not allow, and no secret value stands where somebody could read it who may not read Secrets.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::context::Context;
use super::evidence::list;
use super::requests::{Tail, forbidden};
use super::secrets;
use super::trouble::{Failure, Trouble};
use crate::environment::{EnvironmentError, OperatorState, Site};
use crate::redact;

/// How a panic begins in a log: Rust's, and Go's.
const PANICS: [&str; 4] = ["panicked at ", "panic: ", "Observed a panic", "fatal error: "];

/// What happened before the scenario and is not the scenario's.
pub struct Before {
    /// None where the environment does not know the operator.
    operator: Option<Operator>,
    /// None where there is no audit log.
    requests: Option<Tail>,
}

struct Operator {
    unexpected_exits: u32,
    killed: u32,
    log_length: u64,
}

impl Before {
    /// From now on, what the operator does counts as done after this call.
    pub async fn again(&mut self, site: &dyn Site) -> Result<(), EnvironmentError> {
        self.operator = operator_now(site).await?;
        Ok(())
    }

    /// What the operator has logged since; empty where it is not known.
    pub async fn log(&self, state: &OperatorState) -> String {
        match &self.operator {
            Some(operator) => operator.log(state).await,
            None => String::new(),
        }
    }
}

impl Operator {
    async fn log(&self, state: &OperatorState) -> String {
        read_from(&state.log, self.log_length).await
    }
}

/// Looks at the operator before the scenario begins.
pub async fn before(site: &dyn Site) -> Result<Before, EnvironmentError> {
    let operator = operator_now(site).await?;
    let requests = match site.audit_log() {
        Some(log) => Some(Tail::end(log).await),
        None => None,
    };
    Ok(Before { operator, requests })
}

async fn operator_now(site: &dyn Site) -> Result<Option<Operator>, EnvironmentError> {
    match site.operator().await {
        Ok(state) => {
            let log_length = tokio::fs::metadata(&state.log).await.map_or(0, |file| file.len());
            let OperatorState { unexpected_exits, killed, .. } = state;
            Ok(Some(Operator { unexpected_exits, killed, log_length }))
        }
        Err(EnvironmentError::Unsupported(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Everything that is not as it must be.
pub async fn check(before: &mut Before, context: &mut Context) -> Result<Vec<Failure>, Trouble> {
    let mut failures = of_the_operator(before, context).await?;
    failures.extend(objects(context).await?.into_iter().map(|place| leak(&place)));
    failures.extend(logs(context).await?.into_iter().map(|place| leak(&place)));
    Ok(failures)
}

/// What of it the operator does, and not the objects that it made. Requests count since the last call.
pub async fn of_the_operator(before: &mut Before, context: &Context) -> Result<Vec<Failure>, Trouble> {
    let mut failures = Vec::new();
    if let Some(requests) = &mut before.requests {
        failures.extend(forbidden(&requests.read().await?, &context.namespace));
    }
    if let Some(before) = &before.operator {
        let state = context.site.operator().await?;
        let log = before.log(&state).await;
        failures.extend(operator(before, &state, &log));
    }
    Ok(failures)
}

fn operator(before: &Operator, state: &OperatorState, log: &str) -> Vec<Failure> {
    let mut failures = Vec::new();
    let exits = state.unexpected_exits.saturating_sub(before.unexpected_exits);
    if exits > 0 {
        let times = if exits == 1 { "once".to_owned() } else { format!("{exits} times") };
        failures.push(Failure::new(format!("the operator ended {times} without being asked to\n{}", tail(log))));
    }
    if state.killed > before.killed {
        failures.push(Failure::new("the operator did not end when it was asked to (SIGTERM), and was killed"));
    }
    if let Some(line) = log.lines().find(|line| PANICS.iter().any(|panic| line.contains(panic))) {
        failures.push(Failure::new(format!("the operator panicked: {}", line.trim())));
    }
    if redact::leaks(log) {
        failures.push(leak("the operator's log"));
    }
    failures
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn leak(place: &str) -> Failure {
    Failure::new(format!("a secret value stands in {place}"))
}

async fn read_from(path: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    let Ok(mut file) = tokio::fs::File::open(path).await else { return String::new() };
    // A log that was rotated is read from its beginning.
    let length = file.metadata().await.map_or(0, |file| file.len());
    let offset = if length < offset { 0 } else { offset };
    if file.seek(std::io::SeekFrom::Start(offset)).await.is_ok() {
        let _ = file.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The objects of the namespace that hold a secret value and are no Secrets.
async fn objects(context: &Context) -> Result<Vec<String>, Trouble> {
    let mut places = Vec::new();
    for (plural, kind) in [("events", "Event"), ("configmaps", "ConfigMap"), ("pods", "Pod"), ("services", "Service")] {
        for object in list(context, plural).await? {
            places.extend(leaking(kind, &object));
        }
    }
    for feed in context.hub.feeds() {
        let own = feed.namespace().is_none_or(|namespace| namespace == context.namespace);
        let objects: Vec<_> = feed.read(|record| record.objects().values().cloned().collect());
        let leaks = objects.iter().filter(|_| own).filter_map(|object| leaking(&feed.kind().kind, object));
        places.extend(leaks);
    }
    places.sort();
    places.dedup();
    Ok(places)
}

/// Where in `object` a secret value stands: of a Secret only its metadata is looked at.
fn leaking(kind: &str, object: &Value) -> Option<String> {
    let secret = kind == "Secret" || secrets::is_secret(object);
    let fields = object.as_object().into_iter().flatten();
    let (field, _) =
        fields.filter(|(name, _)| !secret || *name == "metadata").find(|(_, value)| holds_secret(value))?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Some(format!("{kind} {name} ({field})"))
}

/// Looks at each string by itself: in JSON text a quote or a backslash of a password would be escaped.
fn holds_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => redact::leaks(text),
        Value::Array(list) => list.iter().any(holds_secret),
        Value::Object(object) => object.iter().any(|(key, value)| redact::leaks(key) || holds_secret(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The containers whose logs hold a secret value, also in pods that are gone.
async fn logs(context: &mut Context) -> Result<Vec<String>, Trouble> {
    let pods = list(context, "pods").await?;
    let mut places = Vec::new();
    for container in context.containers.seen(&context.namespace, &pods) {
        if redact::leaks(&context.site.logs(&container).await?) {
            places.push(format!("the log of container {} of pod {}", container.container, container.pod));
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn judged(exits: u32, log: &str) -> Vec<String> {
        let before = Operator { unexpected_exits: 1, killed: 0, log_length: 0 };
        let state = OperatorState { unexpected_exits: exits, killed: 0, running: true, log: "log".into() };
        operator(&before, &state, log).into_iter().map(|failure| failure.message).collect()
    }

    #[rstest]
    #[case::quiet(1, "reconciled\n", &[])]
    #[case::restarted(2, "bye\n", &["the operator ended once without being asked to\nbye"])]
    #[case::rust_panic(1, "thread 'main' panicked at src/x.rs:1:2:\nx\n", &["the operator panicked: thread 'main' panicked at src/x.rs:1:2:"])]
    #[case::go_panic(1, "panic: runtime error\n", &["the operator panicked: panic: runtime error"])]
    fn the_operator_is_judged_by_what_is_new(#[case] exits: u32, #[case] log: &str, #[case] expected: &[&str]) {
        assert_eq!(judged(exits, log), expected);
    }

    #[test]
    fn an_operator_ends_when_it_is_asked_to() {
        let before = Operator { unexpected_exits: 0, killed: 1, log_length: 0 };
        let state = |killed| OperatorState { unexpected_exits: 0, killed, running: true, log: "log".into() };
        assert!(operator(&before, &state(1), "").is_empty());
        let failures = operator(&before, &state(2), "");
        assert_eq!(failures[0].message, "the operator did not end when it was asked to (SIGTERM), and was killed");
    }

    #[test]
    fn a_secret_value_is_found_wherever_it_stands_but_in_secrets() {
        redact::register("inv4riant-s3cret");
        let object = |field: &str| json!({"metadata": {"name": "x"}, field: {"a": "pw=inv4riant-s3cret"}});
        assert_eq!(leaking("DittoServer", &object("status")), Some("DittoServer x (status)".to_owned()));
        assert_eq!(leaking("Secret", &object("data")), None);
        let annotated = json!({"metadata": {"name": "x", "annotations": {"a": "inv4riant-s3cret"}}});
        assert_eq!(leaking("Secret", &annotated), Some("Secret x (metadata)".to_owned()));
        assert_eq!(judged(1, "pw inv4riant-s3cret"), ["a secret value stands in the operator's log"]);
    }
}
