//! Operations on objects of the API server.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::scenario::timeouts::Timeout;
use crate::scenario::types::Binding;

/// `apply` and `create`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Write {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `apply` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// The object. Either this or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Object>,
    /// A YAML file with one or more objects, relative to the scenario's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How often it is done, once by default: expressions in `resource` then know the number, `index`, from 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *TIMES.start(), max = *TIMES.end()))]
    pub times: Option<u32>,
    /// What later operations need of `result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
    /// The objects: `resource`, or what `file` held. Set when the scenario is loaded.
    #[serde(skip)]
    pub objects: Vec<Object>,
}

/// What `times` can be: without it an object is written once.
pub const TIMES: RangeInclusive<u32> = 2..=1000;

/// A Kubernetes object, or a part of one.
pub type Object = Map<String, Value>;

/// `patch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `apply` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Which object.
    pub r#ref: ObjectRef,
    /// A JSON merge patch (`null` removes a field). Either this or `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Object>,
    /// A JSON patch (RFC 6902): a list of operations. Either this or `merge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Vec<Object>>,
    /// The subresource that is patched, such as `status` or `scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
    /// How often it is done, once by default: expressions in `ref`, `merge` and `json` then know the number, `index`, from 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *TIMES.start(), max = *TIMES.end()))]
    pub times: Option<u32>,
    /// What later operations need of `result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
}

/// Names one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; the scenario's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Names one object, or several by label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectSelector {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name. Either this or `selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Label selector, such as `app=a,tier!=b`. Either this or `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Namespace; the scenario's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// `delete`. An object that is already gone is fine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delete {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `deletion` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Which objects.
    pub r#ref: ObjectSelector,
    /// What happens to the objects that they own.
    #[serde(default)]
    pub propagation: Propagation,
    /// Whether to wait until they are gone. `false` when the scenario is about what holds them.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// What happens to owned objects on deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    /// They are collected afterwards.
    #[default]
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// `assert`. With `metadata.name` the pattern is about that object; without, about all objects of the kind in the
/// namespace (labels in the pattern select as any other field does), and at least one must match, or exactly `count`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assert {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `assert` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// The pattern. Either this or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Object>,
    /// A YAML file with patterns, relative to the scenario's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How many objects must match; only for patterns without a name. At least one by default. An Event that says that it
    /// happened several times counts as so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<u32>,
    /// Also lets conditions (and a status) count that were made for an older generation of the object.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub any_generation: bool,
    /// What later operations need of `result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
    /// The patterns: `resource`, or what `file` held. Set when the scenario is loaded.
    #[serde(skip)]
    pub objects: Vec<Object>,
}

/// `error`: an absent object and an absent kind match nothing. One match is too many, or `count` of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refute {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `assert` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// The pattern. Either this or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Object>,
    /// A YAML file with patterns, relative to the scenario's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How many matches are an error; one by default. Events count as in `assert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub count: Option<u32>,
    /// The patterns: `resource`, or what `file` held. Set when the scenario is loaded.
    #[serde(skip)]
    pub objects: Vec<Object>,
}

/// `wait`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wait {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `assert` by default, `deletion` for a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Which objects: one by name, or by selector at least one and all of them.
    pub r#ref: ObjectSelector,
    /// What for.
    pub r#for: WaitFor,
}

/// What `wait` waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum WaitFor {
    /// A condition of `status.conditions`, made for the current generation.
    Condition {
        /// Its type.
        name: String,
        /// Its status.
        #[serde(default = "condition_true")]
        value: String,
        /// Its reason; any by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The objects are gone.
    Deletion {},
}

fn yes() -> bool {
    true
}

fn condition_true() -> String {
    "True".to_owned()
}
