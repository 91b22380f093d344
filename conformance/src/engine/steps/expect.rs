//! `assert` and `error`: what objects must look like, or must not.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::secrets;
use crate::engine::trouble::{Failure, Mismatched, Subject, Trouble};
use crate::engine::wait;
use crate::engine::watch::{Feed, Kind, Record};
use crate::path::Path;
use crate::redact;
use crate::scenario::EVENT;
use crate::scenario::operations::{Assert, Object, Refute};
use crate::scenario::pattern::{Mismatch, Pattern, stale};

/// A pattern and the objects that it is about.
pub(super) struct Expectation {
    pub subject: Subject,
    pub feed: Arc<Feed>,
    pattern: Pattern,
    any_generation: bool,
}

impl Expectation {
    /// Evaluates `template` and opens the watch.
    pub fn of(template: &Object, any_generation: bool, context: &Context) -> Result<Self, Failure> {
        let template = Value::Object(context.differences.translated(template));
        let pattern = Pattern::resolve(&template, &context.bindings)?;
        let text = |path: &[&str]| pattern.value(path).and_then(Value::as_str).map(str::to_owned);
        let (Some(api_version), Some(kind)) = (text(&["apiVersion"]), text(&["kind"])) else {
            return Err(Failure::new("the pattern names no apiVersion and kind"));
        };
        let kind = Kind { api_version, kind };
        let namespace = text(&["metadata", "namespace"]);
        let feed = context.feed(&kind, namespace.as_deref());
        let namespace = Some(namespace.unwrap_or_else(|| context.namespace.clone()));
        let subject = Subject { kind, namespace, name: text(&["metadata", "name"]) };
        Ok(Self { subject, feed, pattern, any_generation })
    }

    /// What is wrong with `object`.
    pub fn judge(&self, object: &Value) -> Vec<Mismatch> {
        let mut found = self.pattern.mismatches(Some(object));
        if !self.any_generation {
            found.extend(stale(&self.pattern, object));
        }
        found
    }

    /// What matches, and what is wrong with the object that comes nearest; with one that cannot be judged before all others.
    fn look(&self, record: &Record) -> (Matching, Option<Failure>) {
        let candidates = record.objects().iter().filter(|(key, _)| self.subject.matches(key));
        let mut matching = Matching::default();
        let mut nearest: Option<(Subject, &Value, Vec<Mismatch>)> = None;
        for (key, object) in candidates {
            let found = self.judge(object);
            if found.is_empty() {
                matching.add(object);
                continue;
            }
            matching.undecided |= Mismatch::undecided(&found);
            let far = |found: &[Mismatch]| (!Mismatch::undecided(found), found.len());
            if nearest.as_ref().is_none_or(|(_, _, other)| far(&found) < far(other)) {
                let subject = Subject { name: Some(key.name.clone()), ..self.subject.clone() };
                nearest = Some((subject, object, found));
            }
        }
        let failure = nearest.map(|(subject, object, found)| {
            let mismatches = mismatched(&subject, object, found);
            Failure { mismatches, ..Failure::new(format!("{subject} does not match")) }.about(subject)
        });
        (matching, failure)
    }

    /// Whether fewer than `limit` match, and of each that is known.
    fn absent(&self, record: &Record, limit: u64, context: &Context) -> Result<(), Failure> {
        let (matching, nearest) = self.look(record);
        if let Some(failure) = nearest.filter(|_| matching.undecided) {
            let message = format!("{} cannot be judged, and must not match", self.subject);
            return Err(Failure { message, ..failure });
        }
        let Some(object) = matching.first.filter(|_| matching.count >= limit) else { return Ok(()) };
        let subject = context.subject(&object);
        let often = if limit == 1 { String::new() } else { format!(" {} times", matching.count) };
        Err(Failure::new(format!("{subject} matches{often}, and must not")).about(subject))
    }
}

/// The objects that match a pattern.
#[derive(Default)]
struct Matching {
    first: Option<Arc<Value>>,
    count: u64,
    /// Whether there is an object of which nobody knows.
    undecided: bool,
}

impl Matching {
    fn add(&mut self, object: &Arc<Value>) {
        self.count += occurrences(object);
        self.first.get_or_insert_with(|| object.clone());
    }
}

/// How often what `object` tells of has happened. Kubernetes folds repeated Events into one with a `count`, or a `series`.
fn occurrences(object: &Value) -> u64 {
    if object["kind"] != EVENT {
        return 1;
    }
    [&object["count"], &object["series"]["count"]].into_iter().filter_map(Value::as_u64).max().unwrap_or(1).max(1)
}

/// Waits until every pattern is matched.
pub async fn assert(assert: &Assert, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let mut result = Value::Null;
    for template in &assert.objects {
        let expectation = Expectation::of(template, assert.any_generation, context)?;
        let since = jiff::Timestamp::now();
        let wanted = assert.count.map(u64::from);
        if wanted.is_some() {
            // What was written before counts, though the watch has not delivered it yet.
            wait::up_to_date(&context.hub, &expectation.feed, deadline).await?;
        }
        let object = wait::until(&context.hub, &expectation.feed, deadline, |record| {
            let (matching, nearest) = expectation.look(record);
            match (matching.first, wanted) {
                (Some(first), None) => Ok(first),
                (Some(first), Some(wanted)) if matching.count == wanted => Ok(first),
                (_, Some(wanted)) => {
                    let seen = matching.count;
                    let message = format!("{seen} objects of {} match, and not {wanted}", expectation.subject.kind);
                    let failure = nearest.filter(|_| seen < wanted).unwrap_or_default();
                    Err(Failure { message, ..failure })
                }
                (None, None) => Err(nearest.unwrap_or_else(|| {
                    let message = format!("{} does not exist", expectation.subject);
                    Failure::new(message).about(expectation.subject.clone())
                })),
            }
        })
        .await?;
        context.sighted(&object, since);
        result = Arc::unwrap_or_clone(object);
    }
    Ok(result)
}

/// Waits until no pattern is matched, all at the same time.
pub async fn refute(refute: &Refute, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let mut unwanted = Vec::new();
    for template in &refute.objects {
        let expectation = Expectation::of(template, true, context)?;
        if !(asks_for_absence(template) && context.differences.may_stay(&expectation.subject.kind.kind)) {
            unwanted.push(expectation);
        }
    }
    let limit = refute.count.map_or(1, u64::from);
    loop {
        for expectation in &unwanted {
            // What was written before must be seen: an object that the watch has not delivered yet would pass for absent.
            wait::up_to_date(&context.hub, &expectation.feed, deadline).await?;
            wait::until(&context.hub, &expectation.feed, deadline, |record| expectation.absent(record, limit, context))
                .await?;
        }
        // While one was waited for, another may have come.
        let absent = |expectation: &Expectation| {
            expectation.feed.read(|record| expectation.absent(record, limit, context)).is_ok()
        };
        if unwanted.iter().all(absent) {
            return Ok(Value::Null);
        }
    }
}

/// Whether a pattern is about an object's existence and nothing else.
fn asks_for_absence(template: &Object) -> bool {
    let known = |fields: &Object, known: &[&str]| fields.keys().all(|field| known.contains(&field.as_str()));
    let metadata = template.get("metadata").and_then(Value::as_object);
    known(template, &["apiVersion", "kind", "metadata"])
        && metadata.is_none_or(|metadata| known(metadata, &["name", "namespace"]))
}

/// The mismatches of `object`, ready to be shown: values of Secrets as fingerprints.
pub(in crate::engine) fn mismatched(subject: &Subject, object: &Value, found: Vec<Mismatch>) -> Vec<Mismatched> {
    let hidden = secrets::is_secret(object);
    let show = |Mismatch { path, expected, actual, undecided: _ }| {
        let secret = hidden && (path.starts_with("data") || path.starts_with("stringData"));
        let actual = actual.map(|value| if secret { secrets::fingerprint_of(&value) } else { value.to_string() });
        Mismatched {
            subject: subject.clone(),
            path: Path::from(path.as_str()),
            expected: redact::redact(&expected),
            actual: actual.map(|text| redact::redact(&text)),
        }
    };
    found.into_iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::no_event(json!({"kind": "Job", "count": 3}), 1)]
    #[case::once(json!({"kind": "Event"}), 1)]
    #[case::told_by_the_newer_api(json!({"kind": "Event", "count": 0, "series": null}), 1)]
    #[case::folded(json!({"kind": "Event", "count": 3}), 3)]
    #[case::in_a_series(json!({"kind": "Event", "count": 1, "series": {"count": 4}}), 4)]
    fn an_event_counts_as_often_as_it_happened(#[case] object: Value, #[case] expected: u64) {
        assert_eq!(occurrences(&object), expected);
    }
}
