//! What an operation says, field by field: the choices, forms and words that its type leaves open.

use std::ops::Range;

use serde_json::Value;

use crate::scenario::nearest::nearest;
use crate::scenario::node::{Key, Node};
use crate::scenario::operations::{
    Action, Admission, AdmissionExpectation, AdmissionRequest, Assert, Object, ObjectSelector, SqlExpectation, TIMES,
    Tls, WaitFor,
};
use crate::scenario::types::Scenario;

use super::{Problems, span_of};

/// The fields above the steps.
pub(super) fn head(scenario: &Scenario, node: &Node, problems: &mut Problems) {
    let span = |field: &str| node.get(field).map_or(0..0, |node| node.span.clone());
    if !scenario.claim.trim().ends_with('.') || scenario.claim.trim().contains('\n') {
        let help = "say what must hold, such as `No pod runs before its database is ready.`".to_owned();
        problems.add(&span("claim"), "a claim is one sentence and ends with a full stop", help);
    }
    for id in node.list("covers") {
        let text = id.text().unwrap_or_default();
        let word = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        if text.split('/').count() != 2 || !text.split('/').all(word) {
            let help = "an area and a name in lower case, such as `gate/secret-absent`".to_owned();
            problems.add(&id.span, format!("`{text}` is no id of a requirement"), help);
        }
    }
    if scenario.steps.is_empty() {
        problems.add(&span("steps"), "a scenario without steps claims nothing", None);
    }
    for (step, node) in scenario.steps.iter().zip(node.list("steps")) {
        if step.r#use.is_some() {
            for (key, _) in ["try", "catch", "finally"].iter().filter_map(|key| node.entry(key)) {
                let help = "put it into the template, or into a step of its own".to_owned();
                problems.add(&key.span, format!("either `use` or `{}`, not both", key.text), help);
            }
        } else if step.r#try.is_empty() {
            let span = node.entry("try").map_or(node.span.clone(), |(key, _)| key.span.clone());
            let help = "write them under `try`, or name a template that holds them: `use`".to_owned();
            problems.add(&span, "a step without operations does nothing", help);
        }
    }
}

/// One operation. `key` is its word, `node` what stands under it.
pub(super) fn operation(action: &Action, key: &Key, node: &Node, problems: &mut Problems) {
    let mut one_of = |fields: &[&str], owner: &Node, owner_key: &Key| {
        let there: Vec<&Key> = fields.iter().filter_map(|field| owner.entry(field).map(|(key, _)| key)).collect();
        let words = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>();
        match there.as_slice() {
            [] => problems.add(&owner_key.span, format!("`{}` needs {}", owner_key.text, words.join(" or ")), None),
            [_] => {}
            [_, second, ..] => problems.add(&second.span, format!("either {}, not both", words.join(" or ")), None),
        }
    };
    match action {
        Action::Apply(_) | Action::Create(_) | Action::Assert(_) | Action::Error(_) => {
            one_of(&["resource", "file"], node, key);
        }
        Action::Patch(_) => one_of(&["merge", "json"], node, key),
        Action::Guard(_) => one_of(&["never", "holds", "requests"], node, key),
        Action::Sql(_) => one_of(&["secret", "uri"], node, key),
        Action::Delete(_) | Action::Wait(_) => {
            if let Some((key, node)) = node.entry("ref") {
                one_of(&["name", "selector"], node, key);
            }
        }
        _ => {}
    }
    match action {
        Action::Apply(write) | Action::Create(write) => {
            self::times(write.times, key, node, problems);
            if let Some(resource) = &write.resource {
                object(resource, &span_of(node, "resource", key), problems);
                if !named(resource) {
                    problems.add(&span_of(node, "resource", key), "the object has no `metadata.name`", None);
                }
            }
        }
        Action::Assert(assert) => self::assert(assert, key, node, problems),
        Action::Error(refute) => {
            if let Some(resource) = &refute.resource {
                object(resource, &span_of(node, "resource", key), problems);
            }
            if let Some(count) = refute.count.filter(|count| *count < 2) {
                let help = "leave it out for one".to_owned();
                problems.add(&span_of(node, "count", key), format!("`count` is 2 or more, not {count}"), help);
            }
        }
        Action::Guard(guard) => {
            for (field, pattern) in [("never", &guard.never), ("holds", &guard.holds)] {
                let Some(pattern) = pattern else { continue };
                object(pattern, &span_of(node, field, key), problems);
                if field == "holds" && !named(pattern) {
                    let message = "`holds` is about one object: it needs `metadata.name`";
                    problems.add(&span_of(node, field, key), message, None);
                }
            }
        }
        Action::Patch(patch) => {
            self::times(patch.times, key, node, problems);
            json_patch(node.list("json"), problems);
        }
        Action::Wait(wait) => wait_for(&wait.r#for, &wait.r#ref, node, problems),
        Action::Script(script) => no_shortcuts(&script.content, &["kubectl", "sleep"], node.get("content"), problems),
        Action::Sql(sql) => {
            no_shortcuts(&sql.query, &["pg_sleep"], node.get("query"), problems);
            if (sql.tls == Tls::VerifyFull) != sql.ca.is_some() {
                problems.add(&span_of(node, "tls", key), "`tls: verifyFull` and `ca` belong together", None);
            }
            if let Some(SqlExpectation::Error { sqlstate }) = &sql.expect
                && (sqlstate.len() != 5 || !sqlstate.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()))
            {
                let help = "five digits or capital letters, such as 28P01".to_owned();
                problems.add(&span_of(node, "expect", key), format!("`{sqlstate}` is no SQLSTATE"), help);
            }
        }
        Action::Http(http) if !http.path.starts_with('/') && !http.path.starts_with("${") => {
            problems.add(&span_of(node, "path", key), "a path begins with `/`", None);
        }
        Action::OperatorLog(log) if log.line.is_empty() => {
            let help = "every line contains nothing".to_owned();
            problems.add(&span_of(node, "line", key), "`line` must hold at least one text", help);
        }
        Action::S3(s3) if s3.objects.is_empty() && s3.absent.is_empty() && s3.count.is_none() => {
            problems.add(&key.span, "`s3` needs `objects`, `absent` or `count`", None);
        }
        Action::Admission(admission) => self::admission(admission, key, node, problems),
        _ => {}
    }
}

/// What every object and pattern says.
pub(super) fn object(object: &Object, span: &Range<usize>, problems: &mut Problems) {
    for field in ["apiVersion", "kind"] {
        if !object.get(field).is_some_and(Value::is_string) {
            problems.add(span, format!("the object has no `{field}`"), None);
        }
    }
}

fn named(object: &Object) -> bool {
    object.get("metadata").and_then(|metadata| metadata.get("name")).is_some_and(Value::is_string)
}

fn times(times: Option<u32>, key: &Key, node: &Node, problems: &mut Problems) {
    if let Some(times) = times.filter(|times| !TIMES.contains(times)) {
        let (least, most) = (TIMES.start(), TIMES.end());
        let help = "leave it out for once".to_owned();
        problems.add(&span_of(node, "times", key), format!("`times` is {least} to {most}, not {times}"), help);
    }
}

fn assert(assert: &Assert, key: &Key, node: &Node, problems: &mut Problems) {
    let Some(resource) = &assert.resource else { return };
    object(resource, &span_of(node, "resource", key), problems);
    match assert.count {
        Some(0) => {
            let help = "`error` waits until nothing matches".to_owned();
            problems.add(&span_of(node, "count", key), "`count` is at least 1", help);
        }
        Some(_) if named(resource) => {
            let help = "leave out `metadata.name`, or `count`".to_owned();
            problems.add(&span_of(node, "count", key), "there can be only one object of a name", help);
        }
        _ => {}
    }
}

fn wait_for(what: &WaitFor, selector: &ObjectSelector, node: &Node, problems: &mut Problems) {
    let WaitFor::Condition { value, .. } = what else { return };
    if ["True", "False", "Unknown"].contains(&value.as_str()) || value.starts_with("${") {
        return;
    }
    let place = node.get("for").and_then(|node| node.get("condition")).and_then(|node| node.get("value"));
    let help = nearest(value, ["True", "False", "Unknown"]).unwrap_or("True");
    let span = place.map_or(node.span.clone(), |node| node.span.clone());
    let message = format!("a condition of `{}` is True, False or Unknown", selector.kind);
    problems.add(&span, message, format!("did you mean `\"{help}\"`?"));
}

fn admission(admission: &Admission, key: &Key, node: &Node, problems: &mut Problems) {
    match &admission.request {
        AdmissionRequest::Create(write) | AdmissionRequest::Apply(write) => {
            object(write, &span_of(node, "request", key), problems);
        }
        AdmissionRequest::Patch { .. } | AdmissionRequest::Delete(_) => {}
    }
    match &admission.expect {
        AdmissionExpectation::Denied { message, .. } if message.iter().all(|text| text.trim().is_empty()) => {
            let help = "any refusal would do, also one for a wrong reason".to_owned();
            problems.add(&span_of(node, "expect", key), "`message` must hold at least one text", help);
        }
        AdmissionExpectation::Denied { .. } if !admission.outputs.is_empty() => {
            problems.add(&span_of(node, "outputs", key), "what is denied has no result", None);
        }
        _ => {}
    }
}

/// The operations of a JSON patch (RFC 6902).
fn json_patch(items: &[Node], problems: &mut Problems) {
    const WORDS: [&str; 6] = ["add", "copy", "move", "remove", "replace", "test"];
    for item in items {
        let text = |field: &str| item.get(field).and_then(Node::text);
        let op = text("op").unwrap_or_default();
        if !WORDS.contains(&op) {
            let span = item.get("op").map_or(item.span.clone(), |node| node.span.clone());
            let help = nearest(op, WORDS)
                .map_or_else(|| format!("one of: {}", WORDS.join(", ")), |near| format!("did you mean `{near}`?"));
            problems.add(&span, format!("`{op}` is no operation of a JSON patch"), help);
            continue;
        }
        let mut pointers = vec!["path"];
        pointers.extend(matches!(op, "copy" | "move").then_some("from"));
        for field in pointers {
            match item.get(field) {
                Some(node) if node.text().is_some_and(|text| text.is_empty() || text.starts_with('/')) => {}
                Some(node) => {
                    let help = "such as /metadata/labels/app; `~1` is a `/` in a key".to_owned();
                    problems.add(&node.span, "a JSON pointer begins with `/`", help);
                }
                None => problems.add(&item.span, format!("`{op}` needs `{field}`"), None),
            }
        }
        if matches!(op, "add" | "replace" | "test") && item.get("value").is_none() {
            problems.add(&item.span, format!("`{op}` needs `value`"), None);
        }
    }
}

/// Words that would go round the harness: it would not see what they do, or only wait.
fn no_shortcuts(text: &str, words: &[&str], node: Option<&Node>, problems: &mut Problems) {
    let Some(node) = node else { return };
    let found = text.split(|c: char| !c.is_alphanumeric() && c != '_').find(|word| words.contains(word));
    if let Some(word) = found {
        let help = match word {
            "kubectl" => "use the operations on objects: a script has no access to the cluster",
            _ => "wait for what must happen (`assert`, `wait`), or guard against what must not",
        };
        let start =
            problems.source.text()[node.span.clone()].find(word).map_or(node.span.start, |at| node.span.start + at);
        problems.add(&(start..start + word.len()), format!("no `{word}` here"), help.to_owned());
    }
}
