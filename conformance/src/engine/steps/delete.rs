//! `delete`: objects that must go, and be gone.

use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::Value;

use super::select::Selection;
use super::write::{Target, send};
use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Trouble};
use crate::engine::wait;
use crate::engine::watch::{Phase, Record};
use crate::scenario::operations::{Delete, ObjectRef, Propagation};

/// Deletes what is selected, and waits for its end unless the scenario does not want to.
pub async fn delete(delete: &Delete, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let selection = Selection::of(&delete.r#ref, context)?;
    let known = deadline.bound(selection.feed.known()).await;
    known.ok_or_else(|| {
        Trouble::broken(format!("whether there is {} is not known at the end of {deadline}", selection.subject.kind))
    })?;
    if selection.feed.read(Record::phase) == Phase::NotServed {
        return Ok(Value::Null);
    }
    // By label, the choice is what exists now; by name, the API server knows best.
    let names = if let Some(name) = &selection.subject.name {
        vec![name.clone()]
    } else {
        wait::up_to_date(&context.hub, &selection.feed, deadline).await?;
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        selection.feed.read(|record| selection.existing(record)).iter().map(|object| name(object)).collect()
    };
    context.differences.deleted(&selection.subject.kind.kind);
    let parameters = DeleteParams { propagation_policy: Some(policy(delete.propagation)), ..DeleteParams::default() };
    for name in names {
        let reference = ObjectRef {
            api_version: selection.subject.kind.api_version.clone(),
            kind: selection.subject.kind.kind.clone(),
            name,
            namespace: selection.subject.namespace.clone(),
        };
        let target = Target::of(&reference, context, deadline).await?;
        match send(target.delete(&parameters), context, deadline).await?.result {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => {
                let message = format!("the API server did not delete {}: {}", target.subject, status.message);
                return Err(Failure::new(message).about(target.subject).into());
            }
        }
    }
    if delete.wait { gone(&selection, context, deadline).await } else { Ok(Value::Null) }
}

/// Waits until nothing is selected any more. An absent kind has no objects.
pub(super) async fn gone(selection: &Selection, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    // The watch may be behind the deletion that was just asked for, and still know nothing of the object.
    wait::up_to_date(&context.hub, &selection.feed, deadline).await?;
    wait::until(&context.hub, &selection.feed, deadline, |record| {
        let Some(object) = selection.existing(record).into_iter().next() else { return Ok(Value::Null) };
        let metadata = &object["metadata"];
        let why = match (&metadata["deletionTimestamp"], metadata["finalizers"].as_array()) {
            (Value::Null, _) => "it is not being deleted".to_owned(),
            (_, Some(finalizers)) => {
                let names: Vec<_> = finalizers.iter().filter_map(Value::as_str).collect();
                format!("its finalizers {} remain", names.join(", "))
            }
            (_, None) => "its deletion has begun".to_owned(),
        };
        let mut subject = selection.subject.clone();
        subject.name = metadata["name"].as_str().map(str::to_owned);
        Err(Failure::new(format!("{subject} still exists ({why})")).about(subject))
    })
    .await
}

fn policy(propagation: Propagation) -> PropagationPolicy {
    match propagation {
        Propagation::Background => PropagationPolicy::Background,
        Propagation::Foreground => PropagationPolicy::Foreground,
        Propagation::Orphan => PropagationPolicy::Orphan,
    }
}
