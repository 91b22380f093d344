//! Answers admission reviews, after looking up what the answer needs.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use kube::{Api, Client, ResourceExt};

use super::review::{self, Surroundings};
use crate::api::{DittoServer, names};
use crate::serve::Metrics;

/// Where the API server sends reviews of `DittoServer`s.
pub const PATH: &str = "/validate-dittofs-dittofs-com-v1alpha1-dittoserver";

#[derive(Clone)]
struct Shared {
    client: Client,
    metrics: Metrics,
}

/// Routes of the webhook.
pub fn router(client: Client, metrics: Metrics) -> Router {
    Router::new().route(PATH, post(handle)).with_state(Shared { client, metrics })
}

async fn handle(
    State(shared): State<Shared>,
    Json(review): Json<AdmissionReview<DittoServer>>,
) -> Json<AdmissionReview<DynamicObject>> {
    let request: Result<AdmissionRequest<DittoServer>, _> = review.try_into();
    let response = match request {
        Ok(request) => respond(&shared.client, &request).await,
        Err(error) => AdmissionResponse::invalid(error),
    };
    shared.metrics.admitted(response.allowed);
    Json(response.into_review())
}

async fn respond(client: &Client, request: &AdmissionRequest<DittoServer>) -> AdmissionResponse {
    let mut response = AdmissionResponse::from(request);
    // Deletions have no object; they are never refused.
    let Some(new) = &request.object else { return response };
    let old = request.old_object.as_ref();
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let around = match surroundings(client, namespace, new, old).await {
        Ok(around) => around,
        Err(error) => return response.deny(format!("cannot judge the DittoServer, try again: {error}")),
    };
    let answer = review::answer(new, old, &around);
    tracing::debug!(server = %new.name_any(), namespace, errors = ?answer.errors, warnings = ?answer.warnings, "admission");
    if !answer.warnings.is_empty() {
        response.warnings = Some(answer.warnings);
    }
    if !answer.errors.is_empty() {
        response = response.deny(answer.errors.join("; "));
        response.result.code = 422;
        "Invalid".clone_into(&mut response.result.reason);
    }
    response
}

/// Asks the API server at the time of the request: a cache could still miss a CRD that was installed a moment ago.
async fn surroundings(
    client: &Client,
    namespace: &str,
    new: &DittoServer,
    old: Option<&DittoServer>,
) -> kube::Result<Surroundings> {
    let mut around = Surroundings::default();
    let Some(questions) = review::questions(new, old) else { return Ok(around) };
    if questions.percona {
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let crd = crds.get_metadata_opt(names::PERCONA_CRD).await?;
        around.percona_installed = crd.is_some_and(|crd| crd.metadata.deletion_timestamp.is_none());
    }
    if let Some(name) = questions.backup_secret {
        around.backup_secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
    }
    Ok(around)
}
