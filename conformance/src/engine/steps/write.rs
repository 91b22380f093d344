//! `apply`, `create`, `patch`: writes that must succeed.

use std::sync::Arc;

use kube::api::{Patch as Body, PatchParams, PostParams, ValidationDirective};
use kube::core::Request;
use serde_json::{Value, json};

use crate::engine::access::{self, Answer};
use crate::engine::context::{Context, Served};
use crate::engine::deadline::Deadline;
use crate::engine::secrets;
use crate::engine::trouble::{Failure, Subject, Trouble};
use crate::engine::wait;
use crate::engine::watch::{Feed, Kind, resource_version};
use crate::scenario::expression::{INDEX, evaluate, evaluate_as};
use crate::scenario::operations::{Object, ObjectRef, Patch, Write};

/// Server-side apply of each object.
pub async fn apply(write: &Write, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let mut result = Value::Null;
    for object in repeated(write, context) {
        let draft = Draft::of(&object?, context, deadline).await?;
        let parameters = PatchParams { field_validation: Some(ValidationDirective::Strict), ..apply_params(context) };
        result = accepted(draft.apply(&parameters), &draft.subject, &draft.feed, context, deadline).await?;
    }
    Ok(result)
}

/// Creation of each object.
pub async fn create(write: &Write, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let mut result = Value::Null;
    for object in repeated(write, context) {
        let draft = Draft::of(&object?, context, deadline).await?;
        let request = draft.create(&create_params(context));
        // Noted before it is sent: whoever interrupts that leaves it to be removed, if it was made here.
        if let ("Namespace", Some(name)) = (draft.subject.kind.kind.as_str(), &draft.subject.name) {
            context.more_namespaces.push(name.clone());
        }
        result = accepted(request, &draft.subject, &draft.feed, context, deadline).await?;
    }
    Ok(result)
}

/// The objects, evaluated, as often as is asked for.
fn repeated(write: &Write, context: &Context) -> Vec<Result<Value, Failure>> {
    let mut bindings = context.bindings.clone();
    let numbered =
        (1..=write.times.unwrap_or(1)).flat_map(|index| write.objects.iter().map(move |object| (index, object)));
    numbered
        .map(|(index, object)| {
            if write.times.is_some() {
                bindings.set(INDEX, json!(index));
            }
            Ok(evaluate(&Value::Object(object.clone()), &bindings)?)
        })
        .collect()
}

/// A merge patch or a JSON patch, as often as is asked for.
pub async fn patch(patch: &Patch, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let template = match (&patch.merge, &patch.json) {
        (Some(merge), _) => Value::Object(merge.clone()),
        (None, operations) => json!(operations),
    };
    let mut bindings = context.bindings.clone();
    let mut result = Value::Null;
    for index in 1..=patch.times.unwrap_or(1) {
        if patch.times.is_some() {
            bindings.set(INDEX, json!(index));
        }
        let target = Target::of(&evaluate_as(&patch.r#ref, &bindings)?, context, deadline).await?;
        let request =
            target.patch(&evaluate(&template, &bindings)?, patch.subresource.as_deref(), &patch_params(context));
        result = accepted(request, &target.subject, &target.feed, context, deadline).await?;
    }
    Ok(result)
}

/// The parameters of a server-side apply by the scenario: it takes over the fields that it names.
pub(super) fn apply_params(context: &Context) -> PatchParams {
    PatchParams::apply(&context.manager).force()
}

pub(super) fn patch_params(context: &Context) -> PatchParams {
    PatchParams { field_manager: Some(context.manager.clone()), ..PatchParams::default() }
}

pub(super) fn create_params(context: &Context) -> PostParams {
    PostParams { field_manager: Some(context.manager.clone()), ..PostParams::default() }
}

/// An object that is about to be written, and where it goes.
pub(super) struct Draft {
    pub subject: Subject,
    pub feed: Arc<Feed>,
    object: Value,
    url: String,
}

type Prepared = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

impl Draft {
    /// Evaluates `template`, and waits until its kind is served.
    pub async fn of_template(template: &Object, context: &Context, deadline: &Deadline) -> Result<Self, Trouble> {
        let object = evaluate(&Value::Object(template.clone()), &context.bindings)?;
        Self::of(&object, context, deadline).await
    }

    /// Waits until the kind of `object` is served.
    pub async fn of(object: &Value, context: &Context, deadline: &Deadline) -> Result<Self, Trouble> {
        let mut object = object.clone();
        let mut subject = context.subject(&object);
        let feed = context.feed(&subject.kind, subject.namespace.as_deref());
        let Served { resource, namespaced } = context.served(&feed, deadline).await?;
        let namespace = if namespaced { subject.namespace.take().unwrap_or_default() } else { String::new() };
        if namespaced && let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        secrets::register(&object);
        if subject.kind.kind == "Namespace" {
            let labels = &mut object["metadata"]["labels"];
            for (key, value) in &context.marks {
                labels[key] = json!(value);
            }
        }
        let url = access::collection(&resource, namespaced, &namespace);
        subject.namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        Ok(Self { subject, feed, object, url })
    }

    pub fn apply(&self, parameters: &PatchParams) -> Prepared {
        let name = self.subject.name.as_deref().unwrap_or_default();
        Request::new(&self.url).patch(name, parameters, &Body::Apply(&self.object))
    }

    pub fn create(&self, parameters: &PostParams) -> Prepared {
        Request::new(&self.url).create(parameters, self.object.to_string().into_bytes())
    }
}

/// An object that exists, or should.
pub(super) struct Target {
    pub subject: Subject,
    pub feed: Arc<Feed>,
    name: String,
    url: String,
}

impl Target {
    /// Evaluates `reference`, and waits until its kind is served.
    pub async fn of_template(reference: &ObjectRef, context: &Context, deadline: &Deadline) -> Result<Self, Trouble> {
        Self::of(&evaluate_as(reference, &context.bindings)?, context, deadline).await
    }

    /// Waits until the kind of `reference` is served.
    pub async fn of(reference: &ObjectRef, context: &Context, deadline: &Deadline) -> Result<Self, Trouble> {
        let ObjectRef { api_version, kind, name, namespace } = reference.clone();
        let kind = Kind { api_version, kind };
        let feed = context.feed(&kind, namespace.as_deref());
        let served = context.served(&feed, deadline).await?;
        let namespace = namespace.unwrap_or_else(|| context.namespace.clone());
        let url = access::collection(&served.resource, served.namespaced, &namespace);
        let subject = Subject { kind, namespace: Some(namespace), name: Some(name.clone()) };
        Ok(Self { subject, feed, name, url })
    }

    pub fn patch(&self, content: &Value, subresource: Option<&str>, parameters: &PatchParams) -> Prepared {
        let request = Request::new(&self.url);
        // The patch is sent as it was written: only its media type differs.
        let json_patch = content.is_array().then(|| serde_json::from_value(content.clone()).ok()).flatten();
        let body = json_patch.map_or(Body::Merge(content), Body::Json);
        match subresource {
            Some(subresource) => request.patch_subresource(subresource, &self.name, parameters, &body),
            None => request.patch(&self.name, parameters, &body),
        }
    }

    pub fn delete(&self, parameters: &kube::api::DeleteParams) -> Prepared {
        Request::new(&self.url).delete(&self.name, parameters)
    }
}

/// Sends a prepared request within the deadline.
pub(super) async fn send(request: Prepared, context: &Context, deadline: &Deadline) -> Result<Answer, Trouble> {
    let request = request.map_err(|error| Failure::new(format!("the request cannot be made: {error}")))?;
    let answer = deadline.bound(access::send(&context.client, request)).await;
    let answer = answer.ok_or_else(|| Trouble::broken(format!("the API server did not answer within {deadline}")))?;
    let answer = answer.map_err(|error| Trouble::broken(format!("the API server cannot be reached: {error}")))?;
    Ok(answer)
}

/// Sends a request that must succeed, and waits until the watch has seen it too: what comes next must not judge what
/// was there before.
async fn accepted(
    request: Prepared,
    subject: &Subject,
    feed: &Feed,
    context: &mut Context,
    deadline: &Deadline,
) -> Result<Value, Trouble> {
    let answer = send(request, context, deadline).await?;
    context.warnings.extend(answer.warnings.iter().map(|warning| format!("API server: {warning}")));
    let object = answer.result.map_err(|status| {
        let refusal = format!("the API server refused {subject}: {} ({})", status.message, status.code);
        Failure::new(refusal).about(subject.clone())
    })?;
    seen(feed, &object, context, deadline).await?;
    Ok(object)
}

/// Waits until the watch has come to the version `object`.
pub(super) async fn seen(feed: &Feed, object: &Value, context: &Context, deadline: &Deadline) -> Result<(), Trouble> {
    let version = resource_version(object);
    let behind = || Failure::new(format!("the watch of {} has not come to version {version}", feed.kind()));
    wait::until(&context.hub, feed, deadline, |record| if record.seen() >= version { Ok(()) } else { Err(behind()) })
        .await
}
