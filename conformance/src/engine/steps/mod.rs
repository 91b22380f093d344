//! The operations, one file each.
//!
//! Each takes its part of the scenario, evaluates the expressions in it, acts, and gives its `result`. None knows the
//! others, and none decides about verdicts: that is the runner's.

mod admission;
mod again;
mod control;
mod delete;
mod expect;
mod http;
mod operator_log;
mod s3;
mod script;
mod select;
mod sql;
mod wait_for;
mod write;

pub use control::clear_all;
use serde_json::Value;

use super::context::Context;
use super::deadline::Deadline;
use super::trouble::{Failure, Trouble};
use crate::scenario::expression::{self, ExpressionError, RESULT};
use crate::scenario::{Action, Binding, Operation, SERVER};

/// Performs `operation` and binds its outputs.
pub async fn perform(operation: &Operation, context: &mut Context, deadline: &Deadline) -> Result<(), Trouble> {
    let result = match &operation.action {
        Action::Apply(write) => write::apply(write, context, deadline).await?,
        Action::Create(write) => write::create(write, context, deadline).await?,
        Action::Patch(patch) => write::patch(patch, context, deadline).await?,
        Action::Delete(delete) => delete::delete(delete, context, deadline).await?,
        Action::Assert(assert) => expect::assert(assert, context, deadline).await?,
        Action::Error(refute) => expect::refute(refute, context, deadline).await?,
        Action::Wait(wait) => wait_for::wait(wait, context, deadline).await?,
        Action::Script(script) => script::script(script, context, deadline).await?,
        Action::Guard(guard) => control::guard(guard, context, deadline).await?,
        Action::Release(release) => control::release(release, context, deadline).await?,
        Action::Sql(sql) => sql::sql(sql, context, deadline).await?,
        Action::Http(http) => http::http(http, context, deadline).await?,
        Action::OperatorLog(log) => operator_log::operator_log(log, context, deadline).await?,
        Action::S3(s3) => s3::s3(s3, context, deadline).await?,
        Action::Admission(admission) => admission::admission(admission, context, deadline).await?,
        Action::Fault(fault) => control::fault(fault, context, deadline).await?,
        Action::Database(database) => control::database(database, context, deadline).await?,
        Action::Permissions(permissions) => control::permissions(permissions, context).await?,
    };
    bind_outputs(operation.action.outputs(), result, context)
}

/// Evaluates `bindings` in order: a later one may use an earlier one.
pub fn bind(bindings: &[Binding], context: &mut Context) -> Result<(), Trouble> {
    for binding in bindings {
        let value = expression::evaluate(&binding.value, &context.bindings)?;
        context.bindings.set(&binding.name, value);
    }
    Ok(())
}

fn bind_outputs(outputs: &[Binding], result: Value, context: &mut Context) -> Result<(), Trouble> {
    let mut scope = context.bindings.clone();
    let server = result["kind"] == SERVER;
    scope.set(RESULT, result);
    for output in outputs {
        let named = if server { context.differences.expression(&output.value) } else { output.value.clone() };
        let value = expression::evaluate(&named, &scope)
            .map_err(|error| Failure::new(format!("output {} cannot be had: {error}", output.name)))?;
        scope.set(&output.name, value.clone());
        context.bindings.set(&output.name, value);
    }
    Ok(())
}

/// What an expression lacks was not there: the product's doing, since the language itself was checked before the start.
impl From<ExpressionError> for Trouble {
    fn from(error: ExpressionError) -> Self {
        Failure::new(error.to_string()).into()
    }
}

impl From<ExpressionError> for Failure {
    fn from(error: ExpressionError) -> Self {
        Self::new(error.to_string())
    }
}
