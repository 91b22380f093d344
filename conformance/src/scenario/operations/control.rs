//! Operations that put a frame around others: guards, faults, admission, more databases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Object, ObjectRef};
use crate::environment::{DatabaseRequest, Fault};
use crate::scenario::timeouts::Timeout;
use crate::scenario::types::Binding;

/// `guard`: judged on every version of the objects that the watch delivers. When the watch had a gap the guard is
/// inconclusive, which is an error of the environment and neither a pass nor a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Guard {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How `release` calls it.
    pub name: String,
    /// A pattern that no version of any object may match. One of this, `holds` and `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never: Option<Object>,
    /// A pattern with a name: the object must exist and every version of it must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Object>,
    /// How many requests the operator may make in the scenario's namespace, as the audit log tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestsAllowed>,
}

/// Requests that are counted from a guard to its release. A watch does not show a write that changes nothing; the audit
/// log does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestsAllowed {
    /// How many there may be.
    pub at_most: usize,
    /// The verbs that count, as roles name them; by default all that write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// Resources (`leases`, `dittoservers/status`) that do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// `permissions`: about the whole run. It comes last. That something is unused says nothing unless all scenarios have passed: what
/// an operator needs in a case that was not tried would seem to be unused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PermissionsUsed {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Which of both is judged.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub about: PermissionsAbout,
    /// Permissions that may be unused, with `*`: `update */finalizers`, `get secrets`, `patch statefulsets.apps/status`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// What of the permissions is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PermissionsAbout {
    /// What the roles allow and the operator has not used.
    #[default]
    Unused,
    /// What the operator has asked for and the roles do not allow.
    Forbidden,
}

/// `release`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Release {
    /// The name of a guard: it is judged up to the state of the API server at this moment, and ends.
    Guard(String),
    /// The name of a fault: normal operation has begun again.
    Fault(String),
}

/// `admission`: a real write, which takes effect when it is allowed, unless `dryRun` says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Admission {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `apply` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// The write.
    pub request: AdmissionRequest,
    /// What the answer must be.
    pub expect: AdmissionExpectation,
    /// Lets the API server judge the request and store nothing (`dryRun=All`): for many answers at little cost.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub dry_run: bool,
    /// Sends the request again until the answer is right or the limit is over: only where the operator learns of a
    /// change by itself and nothing shows when it has.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub eventually: bool,
    /// What later operations need of `result`; only with `allowed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
}

/// The write of an `admission`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum AdmissionRequest {
    /// Creates this object.
    Create(Object),
    /// Applies this object (server-side apply).
    Apply(Object),
    /// Changes an object by a JSON merge patch.
    Patch {
        /// Which object.
        r#ref: ObjectRef,
        /// The patch.
        merge: Object,
    },
    /// Deletes an object.
    Delete(ObjectRef),
}

/// What the API server must answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum AdmissionExpectation {
    /// It refuses, by its schema or by a webhook, and says why. Any other error (an unreachable webhook, an unknown
    /// kind, a conflict) is none.
    Denied {
        /// Texts that the message must contain, each, upper and lower case alike.
        #[schemars(length(min = 1))]
        message: Vec<String>,
        /// Field paths, such as `spec.percona.replicas`, that the message or its causes must name, each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fields: Vec<String>,
    },
    /// It cannot ask a webhook, and so lets nothing through: `failurePolicy: Fail`.
    Unanswered {},
    /// It accepts.
    Allowed {
        /// Texts, each of which a warning must contain, upper and lower case alike; an empty list means no warning at
        /// all. Not judged by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warnings: Option<Vec<String>>,
    },
}

/// `fault`: in force when the operation ends. What has not been released by the end of the scenario is cleared then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InjectFault {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `fault` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// How `release` calls it.
    pub name: String,
    /// What breaks.
    pub inject: Fault,
}

/// `database`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MakeDatabase {
    /// Why, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limit; `database` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// What to make.
    pub request: DatabaseRequest,
    /// Name of a Secret that is created with the fields of `result` as its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What later operations need of `result`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Binding>,
}
