//! Answers admission reviews, after looking up what the answer needs.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use kube::core::response::{StatusCause, StatusDetails};
use kube::core::{DynamicObject, Status};
use kube::{Api, Client, Resource as _, ResourceExt};

use super::review::{self, Surroundings};
use crate::api::{DittoServer, names};
use crate::reconcile::validate::FieldError;
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
        let text = answer.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        response = response.deny(text);
        response.result = invalid(&new.name_any(), &answer.errors, response.result);
    }
    response
}

/// What the API server itself would say about invalid fields.
fn invalid(name: &str, errors: &[FieldError], denied: Status) -> Status {
    let cause = |error: &FieldError| StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        message: error.message.clone(),
        field: error.path.to_owned(),
    };
    let details = StatusDetails {
        name: name.to_owned(),
        group: DittoServer::group(&()).into_owned(),
        kind: DittoServer::kind(&()).into_owned(),
        causes: errors.iter().map(cause).collect(),
        uid: String::new(),
        retry_after_seconds: 0,
    };
    Status { code: 422, reason: "Invalid".to_owned(), details: Some(details), ..denied }
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
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    if let Some(name) = questions.backup_secret {
        around.backup_secret = secrets.get_opt(name).await?;
    }
    if let Some(ca) = questions.ca {
        around.ca_secret = secrets.get_opt(&ca.name).await?;
    }
    Ok(around)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use rstest::rstest;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;
    use crate::testing::{ApiServer, server};

    /// A cluster in which Percona's CRD answers with `crd`, and nothing else exists.
    fn cluster(crd: Option<Value>) -> Client {
        let request = "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/perconapgclusters.pgv2.percona.com";
        let api = crd.map_or_else(ApiServer::default, |crd| ApiServer::answering([(request, 200, crd)]));
        api.client()
    }

    async fn ask(client: Client, review: Value) -> Value {
        let request =
            Request::post(PATH).header("content-type", "application/json").body(Body::from(review.to_string()));
        let response = router(client, Metrics::default()).oneshot(request.unwrap()).await.unwrap();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn create(spec: &str) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "operation": "CREATE", "name": "demo", "namespace": "team-a", "userInfo": {}, "dryRun": false,
                "kind": { "group": "dittofs.dittofs.com", "version": "v1alpha1", "kind": "DittoServer" },
                "resource": { "group": "dittofs.dittofs.com", "version": "v1alpha1", "resource": "dittoservers" },
                "object": server(spec), "oldObject": null,
            },
        })
    }

    fn crd(metadata: &Value) -> Value {
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata })
    }

    #[rstest]
    #[case::not_installed(None, false)]
    #[case::installed(Some(crd(&json!({ "name": names::PERCONA_CRD }))), true)]
    #[case::going(Some(crd(&json!({ "name": names::PERCONA_CRD, "deletionTimestamp": "2026-11-24T08:00:00Z" }))), false)]
    #[tokio::test]
    async fn the_crd_is_asked_for_at_the_time(#[case] crd: Option<Value>, #[case] allowed: bool) {
        let answer = ask(cluster(crd), create("percona: {enabled: true}")).await;
        assert_eq!(answer["response"]["uid"], "1");
        assert_eq!(answer["response"]["allowed"], allowed, "{answer}");
    }

    #[tokio::test]
    async fn an_invalid_field_is_told_as_the_api_server_would() {
        let spec = "percona: {enabled: true, backup: {enabled: true, bucket: b, endpoint: 's3:0', \
                    credentialsSecretRef: {name: k}, fullSchedule: daily}}";
        let answer = ask(cluster(Some(crd(&json!({ "name": names::PERCONA_CRD })))), create(spec)).await;
        insta::assert_yaml_snapshot!(answer["response"]["status"]);
    }

    #[tokio::test]
    async fn warnings_come_with_what_is_allowed() {
        let spec = "percona: {enabled: true}\ndatabase: {postgresSecretRef: {name: db, key: url}}";
        let answer = ask(cluster(Some(crd(&json!({ "name": names::PERCONA_CRD })))), create(spec)).await;
        assert_eq!(answer["response"]["allowed"], true);
        assert!(answer["response"]["warnings"][0].as_str().unwrap().contains("spec.database is ignored"), "{answer}");
    }

    #[tokio::test]
    async fn a_deletion_has_no_object() {
        let mut review = create("");
        review["request"]["operation"] = json!("DELETE");
        review["request"]["object"] = Value::Null;
        assert_eq!(ask(cluster(None), review).await["response"]["allowed"], true);
    }
}
