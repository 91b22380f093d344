//! `wait`: for a condition of an object, or for its end.

use serde_json::{Value, json};

use super::delete::gone;
use super::expect::mismatched;
use super::select::Selection;
use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Trouble};
use crate::engine::wait;
use crate::scenario::expression::evaluate_as;
use crate::scenario::operations::{Wait, WaitFor};
use crate::scenario::pattern::{Pattern, stale};

/// Waits until all selected objects, at least one, are as `wait` says.
pub async fn wait(wait: &Wait, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let selection = Selection::of(&wait.r#ref, context)?;
    let WaitFor::Condition { name, value, reason } = evaluate_as(&wait.r#for, &context.bindings)? else {
        if context.differences.may_stay(&selection.subject.kind.kind) {
            return Ok(Value::Null);
        }
        return gone(&selection, context, deadline).await;
    };
    let kind = &selection.subject.kind.kind;
    let name = context.differences.name(kind, &name);
    let mut condition = json!({"type": name, "status": value});
    if let Some(reason) = reason {
        condition["reason"] = context.differences.name(kind, &reason).into();
    }
    let pattern = Pattern::literal(&json!({"status": {"conditions": [condition]}}));
    let since = jiff::Timestamp::now();
    let last = wait::until(&context.hub, &selection.feed, deadline, |record| {
        let objects = selection.existing(record);
        for object in &objects {
            let mut subject = selection.subject.clone();
            subject.name = object["metadata"]["name"].as_str().map(str::to_owned);
            let found = [pattern.mismatches(Some(object)), stale(&pattern, object)].concat();
            if !found.is_empty() {
                let message = format!("{subject} does not have the condition {name}={value}");
                let mismatches = mismatched(&subject, object, found);
                return Err(Failure { mismatches, ..Failure::new(message) }.about(subject));
            }
        }
        let missing = || Failure::new(format!("{} does not exist", selection.subject)).about(selection.subject.clone());
        objects.last().cloned().ok_or_else(missing)
    })
    .await?;
    context.sighted(&last, since);
    Ok(Value::Null)
}
