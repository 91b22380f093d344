//! The language in which a case says what must be the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::trace::{Line, Trace};

/// A difference that is allowed, and why it is.
pub type Allowed = (&'static str, &'static str);

/// One demand.
pub enum Check {
    /// The same objects of these kinds exist or appear, each with the same fields. Fields that a kind has and that are
    /// not named are not compared. `allowed`: names (or `Kind/name`, or `Kind.field`) that may differ.
    Objects { kinds: &'static [(&'static str, &'static [&'static str])], allowed: &'static [Allowed] },
    /// The last views of the objects of a kind are the same at this path. `allowed`: paths below it that may differ.
    Last { kind: &'static str, field: &'static str, allowed: &'static [Allowed] },
    /// A field goes through the same values. `skip`: recorded values that need not be seen.
    Values { kind: &'static str, field: &'static str, pointer: &'static str, skip: &'static [Allowed] },
    /// These happen, in this order.
    Order(Vec<Milestone>),
    /// This does not happen.
    Never(Milestone),
    /// The first does not happen before the second.
    NotBefore(Milestone, Milestone),
    /// Nothing about the objects of this kind changes.
    Quiet(&'static str),
    /// The same Events are written on objects of this kind: type, reason and message.
    Events { on: &'static str, allowed: &'static [Allowed] },
    /// A mark of the driver has the same values in these fields.
    Mark { name: &'static str, fields: &'static [&'static str] },
}

/// Something that happens.
pub struct Milestone {
    what: String,
    is: Box<dyn Fn(&Line) -> bool + Send + Sync>,
}

fn milestone(what: String, is: impl Fn(&Line) -> bool + Send + Sync + 'static) -> Milestone {
    Milestone { what, is: Box::new(is) }
}

/// An object appears.
pub fn added(kind: &'static str, name: &'static str) -> Milestone {
    milestone(
        format!("{kind} {name} appears"),
        move |line| matches!(line, Line::Object { kind: k, name: n, event, .. } if k == kind && n == name && event == "ADDED"),
    )
}

/// An object is gone.
pub fn deleted(kind: &'static str, name: &'static str) -> Milestone {
    milestone(
        format!("{kind} {name} is gone"),
        move |line| matches!(line, Line::Object { kind: k, name: n, event, .. } if k == kind && n == name && event == "DELETED"),
    )
}

/// A field gets a value.
pub fn becomes(kind: &'static str, field: &'static str, pointer: &'static str, value: &'static str) -> Milestone {
    milestone(format!("{kind} {field}{pointer} becomes {value}"), move |line| {
        let Line::Object { kind: k, fields, .. } = line else { return false };
        let found = fields.get(field).and_then(|whole| whole.pointer(pointer));
        k == kind && found.is_some_and(|found| text(found) == value)
    })
}

/// The text of a string, the JSON of everything else.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The user Secret is written with these words about it.
pub fn secret(what: &'static str, is: fn(&Value) -> bool) -> Milestone {
    milestone(format!("the user Secret: {what}"), move |line| {
        matches!(line, Line::Object { kind, event, fields, .. }
            if kind == "Secret" && event != "EXISTING" && fields.get("pguser").is_some_and(is))
    })
}

/// A probe succeeds or fails.
pub fn probe(label: &'static str, ok: bool) -> Milestone {
    milestone(
        format!("{label}: {}", if ok { "succeeds" } else { "fails" }),
        move |line| matches!(line, Line::Probe { label: l, ok: o, .. } if l == label && *o == ok),
    )
}

/// A probe fails with this text.
pub fn refused(label: &'static str, text: &'static str) -> Milestone {
    milestone(
        format!("{label}: {text}"),
        move |line| matches!(line, Line::Probe { label: l, ok: false, output, .. } if l == label && output.contains(text)),
    )
}

/// The driver's mark.
pub fn mark(name: &'static str) -> Milestone {
    milestone(format!("mark {name}"), move |line| matches!(line, Line::Mark { name: n, .. } if n == name))
}

/// An Event with this reason is written.
pub fn event(on: &'static str, reason: &'static str) -> Milestone {
    milestone(format!("Event {reason} on {on}"), move |line| {
        matches!(line, Line::Event { on: o, fields, .. }
            if o.starts_with(on) && (reason == "*" || fields.get("reason").is_some_and(|r| r == reason)))
    })
}

/// What is wrong; nothing when ours is as recorded.
pub fn judge(checks: &[Check], recorded: &Trace, ours: &Trace) -> Vec<String> {
    let mut wrong = Vec::new();
    for check in checks {
        match check {
            Check::Objects { kinds, allowed } => {
                for (kind, fields) in *kinds {
                    objects(kind, fields, allowed, recorded, ours, &mut wrong);
                }
            }
            Check::Last { kind, field, allowed } => last(kind, field, allowed, recorded, ours, &mut wrong),
            Check::Values { kind, field, pointer, skip } => {
                values((kind, field, pointer), skip, recorded, ours, &mut wrong);
            }
            Check::Order(milestones) => {
                for (whose, trace) in [("the recording", recorded), ("the double", ours)] {
                    wrong.extend(disorder(milestones, trace).map(|text| format!("order, in {whose}: {text}")));
                }
            }
            Check::Never(milestone) => {
                for (whose, trace) in [("the recording", recorded), ("the double", ours)] {
                    if let Some(line) = trace.0.iter().find(|line| (milestone.is)(line)) {
                        wrong.push(format!("never, but in {whose}: {} ({line:?})", milestone.what));
                    }
                }
            }
            Check::NotBefore(early, late) => {
                for (whose, trace) in [("the recording", recorded), ("the double", ours)] {
                    let first =
                        |milestone: &Milestone| trace.0.iter().find(|line| (milestone.is)(line)).map(Line::time);
                    match (first(early), first(late)) {
                        (_, None) => wrong.push(format!("in {whose}: `{}` does not happen", late.what)),
                        (Some(early_at), Some(late_at)) if early_at < late_at => {
                            wrong.push(format!("in {whose}: `{}` comes before `{}`", early.what, late.what));
                        }
                        _ => {}
                    }
                }
            }
            Check::Quiet(kind) => {
                for (whose, trace) in [("the recording", recorded), ("the double", ours)] {
                    let changed = trace.0.iter().find(
                        |line| matches!(line, Line::Object { kind: k, event, .. } if k == kind && event != "EXISTING"),
                    );
                    wrong.extend(changed.map(|line| format!("in {whose}, a {kind} changes: {line:?}")));
                }
            }
            Check::Events { on, allowed } => events(on, allowed, recorded, ours, &mut wrong),
            Check::Mark { name, fields } => {
                for field in *fields {
                    let value = |trace: &Trace| {
                        trace.0.iter().find_map(|line| match line {
                            Line::Mark { name: n, fields, .. } if n == name => fields.get(*field).cloned(),
                            _ => None,
                        })
                    };
                    let (expected, got) = (value(recorded), value(ours));
                    if expected.is_none() {
                        wrong.push(format!("mark {name}: the recording has no {field}"));
                    } else if expected != got {
                        wrong.push(format!("mark {name}, {field}: recorded {expected:?}, got {got:?}"));
                    }
                }
            }
        }
    }
    wrong
}

fn is_allowed(allowed: &[Allowed], what: &str) -> bool {
    allowed.iter().any(|(pattern, why)| {
        assert!(!why.is_empty(), "an allowed difference needs a reason: {pattern}");
        what == *pattern || pattern.strip_suffix('*').is_some_and(|start| what.starts_with(start))
    })
}

fn objects(kind: &str, fields: &[&str], allowed: &[Allowed], recorded: &Trace, ours: &Trace, wrong: &mut Vec<String>) {
    let (expected, got) = (recorded.first(kind), ours.first(kind));
    let names: BTreeSet<&&str> = expected.keys().chain(got.keys()).collect();
    for name in names {
        let object = format!("{kind}/{name}");
        if is_allowed(allowed, &object) {
            continue;
        }
        let (Some(expected), Some(got)) = (expected.get(*name), got.get(*name)) else {
            let whose = if expected.contains_key(*name) { "only recorded" } else { "only the double makes it" };
            wrong.push(format!("{object}: {whose}"));
            continue;
        };
        for field in fields {
            // What is empty may be left out.
            let plain = |view: &Map<String, Value>| match view.get(*field) {
                Some(Value::Object(map)) if map.is_empty() => Value::Null,
                Some(Value::Array(list)) if list.is_empty() => Value::Null,
                other => other.cloned().unwrap_or_default(),
            };
            differences(&format!("{object}.{field}"), &plain(expected), &plain(got), allowed, wrong);
        }
    }
}

fn last(kind: &str, field: &str, allowed: &[Allowed], recorded: &Trace, ours: &Trace, wrong: &mut Vec<String>) {
    let (expected, got) = (recorded.last(kind), ours.last(kind));
    let pick = |views: &BTreeMap<String, Map<String, Value>>| -> BTreeMap<String, Value> {
        views.iter().filter_map(|(name, view)| Some((name.clone(), view.get(field)?.clone()))).collect()
    };
    let (expected, got) = (pick(&expected), pick(&got));
    if expected.is_empty() {
        wrong.push(format!("the recording ends without a {kind}"));
    }
    for (name, expected) in expected {
        match got.get(&name) {
            None => wrong.push(format!("{kind}/{name}: is not there at the end")),
            Some(got) => differences(&format!("{kind}.{field}"), &expected, got, allowed, wrong),
        }
    }
}

fn values(
    (kind, field, pointer): (&str, &str, &str),
    skip: &[Allowed],
    recorded: &Trace,
    ours: &Trace,
    wrong: &mut Vec<String>,
) {
    let shorten = |values: Vec<String>| {
        let mut kept: Vec<String> = values.into_iter().filter(|value| !is_allowed(skip, value)).collect();
        kept.dedup();
        kept
    };
    let expected = shorten(recorded.values(kind, field, pointer));
    let got = shorten(ours.values(kind, field, pointer));
    if expected.is_empty() {
        wrong.push(format!("the recording has no {kind} {field}{pointer}"));
    }
    if expected != got {
        wrong.push(format!("{kind} {field}{pointer}: recorded {expected:?}, got {got:?}"));
    }
}

fn events(on: &str, allowed: &[Allowed], recorded: &Trace, ours: &Trace, wrong: &mut Vec<String>) {
    let all = |trace: &Trace| -> BTreeSet<String> {
        let words = |fields: &Map<String, Value>| {
            ["type", "reason", "message"]
                .map(|field| fields.get(field).and_then(Value::as_str).unwrap_or_default().to_owned())
        };
        let written = trace.0.iter().filter_map(|line| match line {
            Line::Event { on: o, fields, .. } if o.split('/').next() == Some(on) => {
                let reason = fields.get("reason").and_then(Value::as_str).unwrap_or_default();
                (!is_allowed(allowed, reason)).then(|| format!("{o}: {}", words(fields).join(" ")))
            }
            _ => None,
        });
        written.collect()
    };
    let (expected, got) = (all(recorded), all(ours));
    wrong.extend(expected.difference(&got).map(|event| format!("Event only recorded: {event}")));
    wrong.extend(got.difference(&expected).map(|event| format!("Event only of the double: {event}")));
}

/// The first milestone that is missing or comes too early.
///
/// Objects are ordered by the version of the API server's store, exactly. Where a mark or a probe is one of the two, by
/// time: the recorder hears of an object a little after it was written.
fn disorder(milestones: &[Milestone], trace: &Trace) -> Option<String> {
    const HEARD: u64 = 100;
    let mut before: Option<(&str, &Line)> = None;
    for milestone in milestones {
        let mut found = trace.0.iter().filter(|line| (milestone.is)(line));
        let Some((what, earlier)) = before else {
            let Some(first) = found.next() else { return Some(format!("`{}` does not happen", milestone.what)) };
            before = Some((&milestone.what, first));
            continue;
        };
        let follows = |line: &&Line| {
            if line.version() > 0 && earlier.version() > 0 {
                line.version() > earlier.version()
            } else {
                line.time() + HEARD >= earlier.time()
            }
        };
        match found.find(follows) {
            Some(line) => before = Some((&milestone.what, line)),
            None => return Some(format!("`{}` does not come after `{what}`", milestone.what)),
        }
    }
    None
}

fn differences(path: &str, expected: &Value, got: &Value, allowed: &[Allowed], wrong: &mut Vec<String>) {
    if expected == got || is_allowed(allowed, path) {
        return;
    }
    match (expected, got) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let null = Value::Null;
                let (one, other) = (one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null));
                differences(&format!("{path}.{key}"), one, other, allowed, wrong);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                let name = one["type"].as_str().map_or_else(|| index.to_string(), str::to_owned);
                differences(&format!("{path}[{name}]"), one, other, allowed, wrong);
            }
        }
        _ => wrong.push(format!("{path}: recorded {expected}, got {got}")),
    }
}
