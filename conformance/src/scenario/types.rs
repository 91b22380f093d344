//! A scenario as it stands in its file. What each operation may say is in [`super::operations`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::declared::SERVER;
use super::operations::{Action, Object, PermissionsAbout};
use super::timeouts::{Limit, TimeoutName};
use crate::environment::{Capability, Isolation};

/// One scenario: one file, one claim about the operator under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Its name: the path of its file below the scenarios' directory, without `.yaml`. Set when it is loaded.
    #[serde(skip)]
    pub name: String,
    /// Version of this language.
    pub api_version: ApiVersion,
    /// Always `Scenario`.
    pub kind: Kind,
    /// What must hold, in one sentence.
    pub claim: String,
    /// The requirements that it covers, such as `gate/secret-absent`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub covers: BTreeSet<String>,
    /// What the environment must be able to do; where it cannot, the scenario is skipped with the reason.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<Capability>,
    /// How much of the environment it has for itself.
    #[serde(default)]
    pub isolation: Isolation,
    /// Limits that differ from the defaults, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub timeouts: BTreeMap<TimeoutName, Limit>,
    /// Names for values, usable in every expression below. A later one may use an earlier one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
    /// What is done, in this order. The first failure ends the scenario.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// Done when a step has failed, to show more of the failure. Their own failures are reported and change nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catch: Vec<Operation>,
    /// Done at the end, whatever has happened. What the scenario created is removed anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finally: Vec<Operation>,
}

/// Version of the scenario language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one.
    #[serde(rename = "conformance.dittofs.com/v1alpha1")]
    V1alpha1,
}

/// Kind of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// The only one.
    Scenario,
}

/// A name for a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Binding {
    /// How expressions call it: letters, digits and `_`.
    #[schemars(regex(pattern = r"^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub name: String,
    /// The value, or an expression that gives it.
    pub value: Value,
}

/// A named group of operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// What it does, for the report.
    pub name: String,
    /// Names for values, known until the end of the step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
    /// A file that holds the operations, relative to this one: a `StepTemplate`, which several scenarios share. Stands in
    /// place of `try`, `catch` and `finally`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#use: Option<String>,
    /// The operations, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub r#try: Vec<Operation>,
    /// Done when one of `try` has failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catch: Vec<Operation>,
    /// Done after `try` and `catch`, whatever has happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finally: Vec<Operation>,
}

/// Operations that several scenarios share, in a file of their own. A step names it in `use`; its expressions know what that
/// step knows, and what its operations give stays known in the scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepTemplate {
    /// Version of this language.
    pub api_version: ApiVersion,
    /// Always `StepTemplate`.
    pub kind: TemplateKind,
    /// What it does, and which names it expects to be bound.
    pub description: String,
    /// The operations, in this order.
    #[schemars(length(min = 1))]
    pub r#try: Vec<Operation>,
    /// Done when one of `try` has failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catch: Vec<Operation>,
    /// Done after `try` and `catch`, whatever has happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finally: Vec<Operation>,
}

/// Kind of a file with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TemplateKind {
    /// The only one.
    StepTemplate,
}

/// One operation and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Operation {
    /// What it does.
    pub action: Action,
    /// Where it stands in its file. Set when it is loaded.
    #[serde(skip)]
    pub at: Position,
    /// Its file, when that is not the scenario's: the path of a template. Set when it is loaded.
    #[serde(skip)]
    pub file: Option<Arc<str>>,
}

/// A place in a scenario file, both counted from 1; 0 when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Step {
    /// All operations, in the order of the file.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.r#try.iter().chain(&self.catch).chain(&self.finally)
    }
}

impl Scenario {
    /// All operations, in the order of the file: steps first, then the scenario's own `catch` and `finally`.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.steps.iter().flat_map(Step::operations).chain(&self.catch).chain(&self.finally)
    }

    /// How many servers it makes.
    pub fn servers(&self) -> u64 {
        let of = |operation: &Operation| {
            let (Action::Apply(write) | Action::Create(write)) = &operation.action else { return BTreeMap::new() };
            let servers = write.objects.iter().filter(|object| object.get("kind").is_some_and(|kind| kind == SERVER));
            // Whoever applies one again makes no other.
            let place = |object: &Object| object.get("metadata").map(ToString::to_string).unwrap_or_default();
            servers.map(|object| (place(object), u64::from(write.times.unwrap_or(1)))).collect()
        };
        self.operations().flat_map(of).collect::<BTreeMap<_, _>>().values().sum()
    }

    /// Whether it judges what all scenarios of a run have seen together: then it comes last.
    pub fn about_the_run(&self) -> bool {
        self.operations().any(|operation| matches!(operation.action, Action::Permissions(_)))
    }

    /// Whether it can fail only in a run of all scenarios, of which each has passed.
    pub fn needs_the_whole_run(&self) -> bool {
        self.operations().any(|operation| {
            matches!(&operation.action, Action::Permissions(judged) if judged.about == PermissionsAbout::Unused)
        })
    }
}
