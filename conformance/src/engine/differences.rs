//! Where the implementation under test declares to differ: what it calls otherwise is asked for by its names, and what is
//! let pass is noted, so that the report can say so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::environment::Declared;
use crate::scenario::operations::Object;
use crate::scenario::{EVENT, SERVER};

/// The kind that an implementation may keep when its server is deleted.
pub(super) const CLUSTER: &str = "PerconaPGCluster";

/// See the module. One per run of a scenario.
#[derive(Debug, Default)]
pub struct Differences {
    declared: Declared,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    noted: BTreeSet<String>,
    server_deleted: bool,
}

impl Differences {
    /// Nothing has been let pass yet.
    pub fn new(declared: Declared) -> Arc<Self> {
        Arc::new(Self { declared, state: Mutex::default() })
    }

    /// What is declared.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Notes that something was judged by what is declared.
    pub fn note(&self, what: impl Into<String>) {
        self.state().noted.insert(what.into());
    }

    /// What was let pass so far.
    pub fn noted(&self) -> Vec<String> {
        self.state().noted.iter().cloned().collect()
    }

    /// The pattern of an object by the implementation's names for conditions and their reasons, of which an Event has one, too.
    pub fn translated(&self, template: &Object) -> Object {
        let mut translated = template.clone();
        match template.get("kind").and_then(Value::as_str) {
            Some(SERVER) => {
                if let Some(conditions) = translated.get_mut("status").and_then(|status| status.get_mut("conditions")) {
                    self.translate(conditions);
                }
            }
            Some(EVENT) => {
                if let Some(Value::String(reason)) = translated.get_mut("reason") {
                    *reason = self.name(SERVER, reason);
                }
            }
            _ => {}
        }
        translated
    }

    /// The implementation's name for a type or reason of conditions of `kind`.
    pub fn name(&self, kind: &str, ours: &str) -> String {
        match self.declared.conditions.get(ours) {
            Some(theirs) if kind == SERVER => {
                self.note(format!("the condition or reason {ours} is called {theirs}"));
                theirs.clone()
            }
            _ => ours.to_owned(),
        }
    }

    fn translate(&self, value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|entry| self.translate(entry)),
            Value::Object(fields) => {
                for (field, value) in fields {
                    match value {
                        Value::String(text) if !text.contains("${") => {
                            if matches!(field.as_str(), "type" | "reason") {
                                *text = self.name(SERVER, text);
                            }
                        }
                        value => self.translate(value),
                    }
                }
            }
            // In an expression the names stand between quotes.
            Value::String(text) if text.contains("${") => *text = self.quoted(text),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// An expression about a server by the implementation's names.
    pub fn expression(&self, expression: &Value) -> Value {
        let mut translated = expression.clone();
        self.translate(&mut translated);
        translated
    }

    /// `expression` with each name between quotes looked up once: what one is called may be our name of another.
    fn quoted(&self, expression: &str) -> String {
        let mut translated = String::with_capacity(expression.len());
        let mut rest = expression;
        while let Some((begin, quote)) = rest.char_indices().find(|(_, c)| matches!(c, '\'' | '"')) {
            let (before, word) = rest.split_at(begin + 1);
            translated.push_str(before);
            let Some((word, after)) = word.split_once(quote) else {
                rest = word;
                break;
            };
            translated.push_str(&self.name(SERVER, word));
            translated.push(quote);
            rest = after;
        }
        translated + rest
    }

    /// An object of `kind` is deleted by the scenario.
    pub fn deleted(&self, kind: &str) {
        self.state().server_deleted |= kind == SERVER;
    }

    /// Whether an object of `kind` may be there although it should be gone: the cluster of a deleted server.
    pub fn may_stay(&self, kind: &str) -> bool {
        let stays = self.declared.keeps_cluster_on_delete && kind == CLUSTER && self.state().server_deleted;
        if stays {
            self.note("the PerconaPGCluster is kept when its server is deleted");
        }
        stays
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn differences() -> Arc<Differences> {
        let conditions = [("DatabaseReady", "DBReady"), ("WaitingForCredentials", "Waiting"), ("Waiting", "Other")];
        let conditions = conditions.map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned())).into();
        Differences::new(Declared { conditions, keeps_cluster_on_delete: true, ..Declared::default() })
    }

    fn translated(differences: &Differences, template: &Value) -> Value {
        Value::Object(differences.translated(template.as_object().unwrap()))
    }

    #[test]
    fn conditions_of_a_server_are_asked_for_by_their_names_once() {
        let differences = differences();
        let pattern = json!({"kind": "DittoServer", "metadata": {"name": "Waiting"}, "status": {"conditions": [
            {"type": "DatabaseReady", "status": "False", "reason": "WaitingForCredentials", "message": "DatabaseReady"},
            {"type": "Ready", "reason": "${self == 'WaitingForCredentials' || self == \"DatabaseReady\"}"},
        ]}});
        let expected = json!({"kind": "DittoServer", "metadata": {"name": "Waiting"}, "status": {"conditions": [
            {"type": "DBReady", "status": "False", "reason": "Waiting", "message": "DatabaseReady"},
            {"type": "Ready", "reason": "${self == 'Waiting' || self == \"DBReady\"}"},
        ]}});
        assert_eq!(translated(&differences, &pattern), expected);
        assert_eq!(
            differences.noted(),
            [
                "the condition or reason DatabaseReady is called DBReady",
                "the condition or reason WaitingForCredentials is called Waiting"
            ]
        );
    }

    #[rstest]
    #[case("${x in ['WaitingForCredentials', 'Waiting']}", "${x in ['Waiting', 'Other']}")]
    #[case("${x == \"it's\" || x == 'Waiting'}", "${x == \"it's\" || x == 'Other'}")]
    #[case("${x == 'Waiting", "${x == 'Waiting")]
    #[case("${Waiting}", "${Waiting}")]
    fn a_name_in_an_expression_is_looked_up_once(#[case] expression: &str, #[case] expected: &str) {
        assert_eq!(differences().expression(&json!(expression)), json!(expected));
    }

    #[test]
    fn an_event_has_the_reason_of_its_condition() {
        let differences = differences();
        let pattern = json!({"kind": "Event", "reason": "WaitingForCredentials", "type": "DatabaseReady"});
        let expected = json!({"kind": "Event", "reason": "Waiting", "type": "DatabaseReady"});
        assert_eq!(translated(&differences, &pattern), expected);
        assert_eq!(differences.noted().len(), 1);
    }

    #[test]
    fn what_is_not_about_a_server_or_names_nothing_declared_is_left_alone() {
        let differences = differences();
        for kind in ["PerconaPGCluster", "DittoServer"] {
            let name = if kind == "DittoServer" { "Ready" } else { "DatabaseReady" };
            let pattern = json!({"kind": kind, "status": {"conditions": [{"type": name}]}});
            assert_eq!(translated(&differences, &pattern), pattern);
        }
        assert!(differences.noted().is_empty());
    }

    #[test]
    fn a_cluster_may_stay_only_once_its_server_was_deleted() {
        let differences = differences();
        assert!(!differences.may_stay(CLUSTER));
        differences.deleted("Secret");
        assert!(!differences.may_stay(CLUSTER) && differences.noted().is_empty());
        differences.deleted(SERVER);
        assert!(differences.may_stay(CLUSTER) && !differences.may_stay("StatefulSet"));
        assert_eq!(differences.noted(), ["the PerconaPGCluster is kept when its server is deleted"]);
        let strict = Differences::new(Declared::default());
        strict.deleted(SERVER);
        assert!(!strict.may_stay(CLUSTER));
    }
}
