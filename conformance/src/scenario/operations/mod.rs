//! The operations and their fields.
//!
//! Every string and every value below may hold expressions (`${…}`, see [`super::expression`]), but for names that tie
//! operations together (of guards, faults, bindings, timeouts) and for SQL and scripts, which take values as
//! `parameters` and `env`. A pattern is a value of which each part must be found in the judged one, see
//! [`super::pattern`].

mod control;
mod objects;
mod probes;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use control::{
    Admission, AdmissionExpectation, AdmissionRequest, Guard, InjectFault, MakeDatabase, PermissionsAbout,
    PermissionsUsed, Release, RequestsAllowed,
};
pub use objects::{
    Assert, Delete, Object, ObjectRef, ObjectSelector, Patch, Propagation, Refute, TIMES, Wait, WaitFor, Write,
};
pub use probes::{Http, OperatorLog, S3, Script, SecretKey, Sql, SqlExpectation, Tls};

use super::timeouts::{Timeout, TimeoutName};
use super::types::Binding;

/// What an operation does: a map with exactly one of these keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Creates or changes objects (server-side apply). `result` is the (last) object.
    Apply(Write),
    /// Creates objects that must not exist yet. `result` is the (last) object.
    Create(Write),
    /// Changes an existing object. `result` is the object.
    Patch(Patch),
    /// Deletes objects and waits until they are gone.
    Delete(Delete),
    /// Waits until objects match a pattern. `result` is the object that matches (the first by name of several).
    Assert(Assert),
    /// Waits until no object matches a pattern.
    Error(Refute),
    /// Waits for a condition, or for deletion.
    Wait(Wait),
    /// Runs a shell script on the harness's machine. `result` has `exitCode`, `stdout`, `stderr`.
    Script(Script),
    /// From here to its `release`, every version of an object is judged.
    Guard(Guard),
    /// Ends a guard, which then must have held, or clears a fault.
    Release(Release),
    /// Runs a query in a real PostgreSQL. `result` has `rows`.
    Sql(Sql),
    /// Asks a Service by HTTP. `result` has `status` and `body` (parsed when it is JSON).
    Http(Http),
    /// Looks for a line in the log of the operator under test.
    OperatorLog(OperatorLog),
    /// Looks into a bucket. `result` has `objects`, the keys without the prefix.
    S3(S3),
    /// Sends a write that must be denied, or be allowed with certain warnings. `result` is the object when allowed.
    Admission(Admission),
    /// Breaks something on purpose.
    Fault(InjectFault),
    /// Makes one more real PostgreSQL. `result` has `host`, `port`, `user`, `password`, `dbname`, `uri`, `ca`.
    Database(MakeDatabase),
    /// Judges that each permission of the operator was used by now, in the whole run, or that nothing else was asked for.
    Permissions(PermissionsUsed),
}

impl Action {
    /// The word in YAML.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Create(_) => "create",
            Self::Patch(_) => "patch",
            Self::Delete(_) => "delete",
            Self::Assert(_) => "assert",
            Self::Error(_) => "error",
            Self::Wait(_) => "wait",
            Self::Script(_) => "script",
            Self::Guard(_) => "guard",
            Self::Release(_) => "release",
            Self::Sql(_) => "sql",
            Self::Http(_) => "http",
            Self::OperatorLog(_) => "operatorLog",
            Self::S3(_) => "s3",
            Self::Admission(_) => "admission",
            Self::Fault(_) => "fault",
            Self::Database(_) => "database",
            Self::Permissions(_) => "permissions",
        }
    }

    /// Why it is there, if the file says so.
    pub fn description(&self) -> Option<&str> {
        match self {
            Self::Apply(Write { description, .. })
            | Self::Create(Write { description, .. })
            | Self::Patch(Patch { description, .. })
            | Self::Delete(Delete { description, .. })
            | Self::Assert(Assert { description, .. })
            | Self::Error(Refute { description, .. })
            | Self::Wait(Wait { description, .. })
            | Self::Script(Script { description, .. })
            | Self::Guard(Guard { description, .. })
            | Self::Sql(Sql { description, .. })
            | Self::Http(Http { description, .. })
            | Self::OperatorLog(OperatorLog { description, .. })
            | Self::S3(S3 { description, .. })
            | Self::Admission(Admission { description, .. })
            | Self::Fault(InjectFault { description, .. })
            | Self::Database(MakeDatabase { description, .. })
            | Self::Permissions(PermissionsUsed { description, .. }) => description.as_deref(),
            Self::Release(_) => None,
        }
    }

    /// Its limit: what the file says, or the default of its kind.
    pub fn timeout(&self) -> Timeout {
        let (timeout, name) = match self {
            Self::Apply(Write { timeout, .. })
            | Self::Create(Write { timeout, .. })
            | Self::Patch(Patch { timeout, .. })
            | Self::Admission(Admission { timeout, .. }) => (timeout, TimeoutName::Apply),
            Self::Delete(Delete { timeout, .. }) | Self::Wait(Wait { timeout, r#for: WaitFor::Deletion {}, .. }) => {
                (timeout, TimeoutName::Deletion)
            }
            Self::Assert(Assert { timeout, .. })
            | Self::OperatorLog(OperatorLog { timeout, .. })
            | Self::Error(Refute { timeout, .. })
            | Self::Wait(Wait { timeout, .. }) => (timeout, TimeoutName::Assert),
            Self::Script(Script { timeout, .. }) => (timeout, TimeoutName::Script),
            Self::Sql(Sql { timeout, .. }) => (timeout, TimeoutName::Sql),
            Self::Http(Http { timeout, .. }) => (timeout, TimeoutName::Http),
            Self::S3(S3 { timeout, .. }) => (timeout, TimeoutName::S3),
            Self::Fault(InjectFault { timeout, .. }) => (timeout, TimeoutName::Fault),
            Self::Database(MakeDatabase { timeout, .. }) => (timeout, TimeoutName::Database),
            // Its watch must be in step with the API server before the scenario goes on, and again when it ends.
            Self::Guard(_) | Self::Release(Release::Guard(_)) | Self::Permissions(_) => (&None, TimeoutName::Assert),
            Self::Release(Release::Fault(_)) => (&None, TimeoutName::Fault),
        };
        timeout.unwrap_or(Timeout::Named(name))
    }

    /// What it binds for later operations.
    pub fn outputs(&self) -> &[Binding] {
        match self {
            Self::Apply(Write { outputs, .. })
            | Self::Create(Write { outputs, .. })
            | Self::Patch(Patch { outputs, .. })
            | Self::Assert(Assert { outputs, .. })
            | Self::Script(Script { outputs, .. })
            | Self::Sql(Sql { outputs, .. })
            | Self::Http(Http { outputs, .. })
            | Self::S3(S3 { outputs, .. })
            | Self::Admission(Admission { outputs, .. })
            | Self::Database(MakeDatabase { outputs, .. }) => outputs,
            Self::Delete(_)
            | Self::OperatorLog(_)
            | Self::Error(_)
            | Self::Wait(_)
            | Self::Guard(_)
            | Self::Release(_)
            | Self::Fault(_)
            | Self::Permissions(_) => &[],
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
