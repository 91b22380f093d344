//! What an implementation file declares to be different must be something that there is: requirements, and the types and
//! reasons of conditions that scenarios ask for.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use super::diagnostic::{Diagnostic, Source};
use super::load::Entry;
use super::nearest::nearest;
use super::node::Node;
use super::operations::{Action, Object, WaitFor};
use super::parse;
use super::requirements::Requirements;

/// The kind of which conditions may have other names.
pub const SERVER: &str = "DittoServer";

/// The kind that tells of them.
pub const EVENT: &str = "Event";

/// Everything that the implementation file `source` declares and that is unknown: requirements that are none, and names
/// of conditions that no scenario asks for. The file itself has been read before.
pub fn declared_problems(source: &Source, requirements: &Requirements, scenarios: &[Entry]) -> Vec<Diagnostic> {
    let node: Node = match parse::read(source) {
        Ok(node) => node,
        Err(problem) => return vec![problem],
    };
    let ids = || requirements.all.iter().map(|requirement| requirement.id.as_str());
    let mut problems = Vec::new();
    let mut say = |span: &Range<usize>, message: String, near: Option<&str>, otherwise: &str| {
        let help = near.map_or_else(|| otherwise.to_owned(), |near| format!("did you mean `{near}`?"));
        problems.push(Diagnostic::new(source, span.clone(), message).help(help));
    };
    for place in node.list("unsupported").iter().filter_map(|entry| entry.get("requirement")) {
        let Some(pattern) = place.text() else { continue };
        let meant = |id: &str| pattern.strip_suffix('*').map_or(id == pattern, |prefix| id.starts_with(prefix));
        if !ids().any(meant) {
            let message = format!("{pattern} is no requirement");
            say(&place.span, message, nearest(pattern, ids()), "`conformance list --requirements` shows all of them");
        }
    }
    let names = conditions(scenarios);
    for (key, value) in node.get("conditions").map(Node::entries).unwrap_or_default() {
        let near = || nearest(&key.text, names.iter().map(String::as_str));
        if !names.contains(&key.text) {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let message = format!("no scenario asks for a condition or reason `{}`", key.text);
            say(&key.span, message, near(), &format!("asked for are: {}", known.join(", ")));
        } else if value.text() == Some(key.text.as_str()) {
            let message = format!("`{}` is called as it is everywhere", key.text);
            say(&key.span, message, None, "remove the entry");
        }
    }
    problems
}

/// The types and reasons of a server's conditions that scenarios ask for.
fn conditions(scenarios: &[Entry]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for scenario in scenarios.iter().filter_map(|entry| entry.scenario.as_ref().ok()) {
        for operation in scenario.operations() {
            match &operation.action {
                Action::Assert(assert) => assert.objects.iter().for_each(|object| of_object(object, &mut names)),
                Action::Error(refute) => refute.objects.iter().for_each(|object| of_object(object, &mut names)),
                Action::Guard(guard) => {
                    [&guard.never, &guard.holds].into_iter().flatten().for_each(|object| of_object(object, &mut names));
                }
                Action::Wait(wait) if wait.r#ref.kind == SERVER => {
                    if let WaitFor::Condition { name, reason, .. } = &wait.r#for {
                        names.extend([Some(name), reason.as_ref()].into_iter().flatten().cloned());
                    }
                }
                _ => {}
            }
        }
    }
    names
}

fn of_object(object: &Object, names: &mut BTreeSet<String>) {
    if object.get("kind").is_some_and(|kind| kind == SERVER)
        && let Some(conditions) = object.get("status").and_then(|status| status.get("conditions"))
    {
        of_value(conditions, names);
    }
    if object.get("kind").is_some_and(|kind| kind == EVENT)
        && let Some(reason) = object.get("reason").and_then(Value::as_str).filter(|reason| !reason.contains("${"))
    {
        names.insert(reason.to_owned());
    }
}

fn of_value(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|entry| of_value(entry, names)),
        Value::Object(fields) => {
            for (field, value) in fields {
                match value {
                    Value::String(name) if !name.contains("${") => {
                        if matches!(field.as_str(), "type" | "reason") {
                            names.insert(name.clone());
                        }
                    }
                    value => of_value(value, names),
                }
            }
        }
        // In an expression the names stand between quotes.
        Value::String(text) if text.contains("${") => {
            for quote in ['\'', '"'] {
                let quoted = text.split(quote).skip(1).step_by(2);
                let name = |text: &&str| text.starts_with(|c: char| c.is_ascii_uppercase()) && !text.contains(' ');
                names.extend(quoted.filter(name).map(str::to_owned));
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::diagnostic::render;
    use crate::scenario::{Filter, load};

    const SCENARIO: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Scenario
claim: It holds.
covers: [gate/secret]
steps:
  - name: s
    try:
      - assert:
          resource:
            apiVersion: dittofs.dittofs.com/v1alpha1
            kind: DittoServer
            metadata: {name: demo}
            status:
              conditions:
                - {type: DatabaseReady, reason: \"${self == 'WaitingForCredentials'}\"}
      - wait:
          ref: {apiVersion: dittofs.dittofs.com/v1alpha1, kind: DittoServer, name: demo}
          for: {condition: {name: Ready}}
";

    const IMPLEMENTATION: &str = "\
unsupported:
  - { requirement: gate/secret, reason: r }
  - { requirement: gate/*, reason: r }
  - { requirement: gate/secrets, reason: r }
  - { requirement: observability/*, reason: r }
conditions:
  DatabaseReady: DBReady
  WaitingForCredentials: Waiting
  Ready: Ready
  DatabasReady: DBReady
  Nothing: AtAll
";

    #[test]
    fn what_is_unknown_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("gate")).unwrap();
        std::fs::write(directory.path().join("gate/a.yaml"), SCENARIO).unwrap();
        let scenarios = load(directory.path(), &Filter::default()).unwrap();
        assert!(scenarios[0].scenario.is_ok(), "{:?}", scenarios[0].scenario);
        let requirements = "{apiVersion: conformance.dittofs.com/v1alpha1, kind: Requirements, requirements: [\
            {id: gate/secret, level: core, source: percona, statement: s}]}";
        let requirements = Requirements::parse(&Source::new("requirements.yaml", requirements)).unwrap();
        let source = Source::new("my-operator.yaml", IMPLEMENTATION);
        let problems = declared_problems(&source, &requirements, &scenarios);
        insta::assert_snapshot!(render(&problems, 100, false));
    }
}
