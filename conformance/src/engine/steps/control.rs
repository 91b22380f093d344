//! `guard` and `release`, `fault`, `database`: frames around other operations.

use serde_json::{Value, json};

use super::expect::{Expectation, mismatched};
use super::write;
use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::guard::Demand;
use crate::engine::requests::{Allowance, Tail, WRITES};
use crate::engine::trouble::{Failure, Mismatched, Trouble};
use crate::environment::{AuditLog, FaultId};
use crate::scenario::expression::evaluate_as;
use crate::scenario::glob;
use crate::scenario::operations::{
    Guard, InjectFault, MakeDatabase, Object, PermissionsAbout, PermissionsUsed, Release, RequestsAllowed, Write,
};
use crate::scenario::pattern::Mismatch;

/// Puts a guard in force.
pub async fn guard(guard: &Guard, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let (template, never) = match (&guard.never, &guard.holds, &guard.requests) {
        (Some(template), None, None) => (template, true),
        (None, Some(template), None) => (template, false),
        (None, None, Some(allowed)) => return requests(&guard.name, allowed, context).await,
        _ => return Err(Trouble::broken(format!("guard {} needs one of never, holds, requests", guard.name))),
    };
    // A guard is about every version, also those between a change of the spec and the status that follows.
    let expectation = Expectation::of(template, true, context)?;
    let (subject, feed) = (expectation.subject.clone(), expectation.feed.clone());
    let judged = subject.clone();
    let demand = Demand {
        name: guard.name.clone(),
        word: if never { "never" } else { "holds" },
        subject,
        must_exist: !never,
        judge: Box::new(move |object| match (never, expectation.judge(object)) {
            (true, found) if found.is_empty() || Mismatch::undecided(&found) => Err(mismatched(&judged, object, found)),
            (false, found) if !found.is_empty() => Err(mismatched(&judged, object, found)),
            _ => Ok::<(), Vec<Mismatched>>(()),
        }),
    };
    // It begins with the present state, not with an older one that the watch is about to leave.
    if !context.hub.catch_up(&feed, deadline.remaining()).await {
        return Err(Trouble::broken(format!("the watch of {} did not catch up within {deadline}", feed.kind())));
    }
    context.guards.begin(feed, demand).await;
    Ok(Value::Null)
}

/// Counts the operator's requests from now on.
async fn requests(name: &str, allowed: &RequestsAllowed, context: &mut Context) -> Result<Value, Trouble> {
    let verbs = if allowed.verbs.is_empty() { WRITES.map(str::to_owned).into() } else { allowed.verbs.clone() };
    let allowance = Allowance {
        name: name.to_owned(),
        namespace: context.namespace.clone(),
        verbs: verbs.into_iter().collect(),
        except: allowed.except.iter().cloned().collect(),
        at_most: allowed.at_most,
    };
    context.guards.count(Tail::end(audit_log(context)?).await, allowance);
    Ok(Value::Null)
}

fn audit_log(context: &Context) -> Result<AuditLog, Trouble> {
    context.site.audit_log().ok_or_else(|| Trouble::Unsupported("the audit log cannot be read here".to_owned()))
}

/// Judges that the operator's roles allow nothing that it has not used in this run, or that it has asked for nothing else.
pub async fn permissions(permissions: &PermissionsUsed, context: &mut Context) -> Result<Value, Trouble> {
    let log = audit_log(context)?;
    context.permissions.note(log.clone()).await?;
    if permissions.about == PermissionsAbout::Forbidden {
        let lines = context.permissions.forbidden().await;
        if lines.is_empty() {
            return context.missing.some_scenarios().map_or(Ok(Value::Null), |why| Err(Trouble::Unsupported(why)));
        }
        let lines = lines.join("\n");
        let message = format!("in the whole run the operator has asked for what its roles do not allow\n{lines}");
        return Err(Failure::new(message).into());
    }
    let unused = context.permissions.unused(&context.client, &log.operator).await?;
    let unused = unused.iter().filter(|grant| {
        let permission = grant.permission();
        !permissions.except.iter().any(|pattern| glob::matches(pattern, &permission))
    });
    let lines: Vec<String> = unused.map(ToString::to_string).collect();
    if lines.is_empty() {
        return Ok(Value::Null);
    }
    if let Some(why) = context.missing.some_passed() {
        return Err(Trouble::Unsupported(why));
    }
    let message = format!("in the whole run the operator has not used what its roles allow\n{}", lines.join("\n"));
    Err(Failure::new(message).into())
}

/// Ends a guard, or clears a fault.
pub async fn release(release: &Release, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    match release {
        Release::Guard(name) => context.guards.release(&context.hub, name, deadline.remaining()).await?,
        Release::Fault(name) => {
            let fault = context.faults.remove(name);
            let fault = fault.ok_or_else(|| Trouble::broken(format!("there is no fault {name} in force")))?;
            clear(&fault, context, deadline).await?;
        }
    }
    Ok(Value::Null)
}

async fn clear(fault: &FaultId, context: &Context, deadline: &Deadline) -> Result<(), Trouble> {
    let cleared = deadline.bound(context.site.clear(fault)).await;
    Ok(cleared.ok_or_else(|| Trouble::broken(format!("a fault could not be cleared within {deadline}")))??)
}

/// Injects a fault.
pub async fn fault(fault: &InjectFault, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let inject = evaluate_as(&fault.inject, &context.bindings)?;
    let injected = deadline.bound(context.site.inject(&context.namespace, &inject)).await;
    let id = injected.ok_or_else(|| Trouble::broken(format!("the fault was not in force within {deadline}")))??;
    context.faults.insert(fault.name.clone(), id);
    Ok(Value::Null)
}

/// Makes a PostgreSQL, and a Secret with its fields if the scenario wants one.
pub async fn database(make: &MakeDatabase, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let request = evaluate_as(&make.request, &context.bindings)?;
    let answer = deadline.bound(context.site.database(&context.namespace, &request)).await;
    let database = answer.ok_or_else(|| Trouble::broken(format!("the database was not there within {deadline}")))??;
    let fields = serde_json::to_value(&database).map_err(Trouble::broken)?;
    if let Some(secret) = &make.secret {
        let name = crate::scenario::expression::evaluate_text(secret, &context.bindings)?;
        let object = secret_of(&name, &fields);
        let create = Write {
            description: None,
            timeout: None,
            resource: None,
            file: None,
            times: None,
            outputs: Vec::new(),
            objects: vec![object],
        };
        write::create(&create, context, deadline).await?;
    }
    Ok(fields)
}

fn secret_of(name: &str, fields: &Value) -> Object {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = fields.as_object().into_iter().flatten();
    // A value is data here, never an expression again.
    let data: Object = fields.map(|(key, value)| (key.clone(), text(value).replace("${", "$${").into())).collect();
    let mut object = Object::new();
    object.insert("apiVersion".to_owned(), "v1".into());
    object.insert("kind".to_owned(), "Secret".into());
    object.insert("metadata".to_owned(), json!({"name": name}));
    object.insert("stringData".to_owned(), Value::Object(data));
    object
}

/// Clears what is still in force, each within a `limit` of its own; what cannot be cleared is told, and whose fault that is.
pub async fn clear_all(context: &mut Context, limit: impl Fn() -> Deadline) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for (name, fault) in std::mem::take(&mut context.faults) {
        if let Err(trouble) = clear(&fault, context, &limit()).await {
            troubles.push(uncleared(&name, trouble));
        }
    }
    troubles
}

/// What it means for a scenario that its fault `name` was not cleared: an operator that does not come back has failed, and all
/// else is the environment's.
fn uncleared(name: &str, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Failed(failure) => {
            Failure { message: format!("clearing fault {name}: {}", failure.message), ..failure }.into()
        }
        Trouble::Broken(reason) | Trouble::Unsupported(reason) => {
            Trouble::broken(format!("clearing fault {name}: {reason}"))
        }
        Trouble::Interrupted => Trouble::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::EnvironmentError;

    #[test]
    fn a_fault_that_is_not_cleared_is_the_operator_s_only_when_the_environment_says_so() {
        let told = |error: EnvironmentError| uncleared("stopped", error.into());
        let violated = EnvironmentError::Violated("not ready within 30 s".to_owned());
        let failed = Failure::new("clearing fault stopped: not ready within 30 s");
        assert_eq!(told(violated), Trouble::Failed(failed));
        let broken = Trouble::broken("clearing fault stopped: no disk");
        assert_eq!(told(EnvironmentError::Broken("no disk".to_owned())), broken);
        assert_eq!(told(EnvironmentError::Unsupported("no disk".to_owned())), broken);
    }
}
