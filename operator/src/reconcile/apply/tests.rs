use k8s_openapi::api::apps::v1::StatefulSet;
use rstest::rstest;

use super::*;
use crate::reconcile::gate::{self, Facts};
use crate::testing::{ApiServer, CREDENTIALS, as_json, cluster, failure, secret, server};

const CLUSTERS: &str = "POST /apis/pgv2.percona.com/v2/namespaces/team-a/perconapgclusters";
const CLUSTER: &str = "GET /apis/pgv2.percona.com/v2/namespaces/team-a/perconapgclusters/demo-postgres";
const HEADLESS: &str = "GET /api/v1/namespaces/team-a/services/demo-headless";
const API: &str = "GET /api/v1/namespaces/team-a/services/demo-api";
const WORKLOAD: &str = "PATCH /apis/apps/v1/namespaces/team-a/statefulsets/demo";
const STATUS: &str = "PATCH /apis/dittofs.dittofs.com/v1alpha1/namespaces/team-a/dittoservers/demo/status";

/// How a server-side apply is asked for.
const APPLIED: &str = "?&force=true&fieldManager=dittofs-operator";

#[rstest]
#[case::added_by_the_api_server(json!({"a": 1}), json!({"a": 1, "uid": "u"}), true)]
#[case::changed_by_somebody(json!({"a": 1}), json!({"a": 2}), false)]
#[case::removed_by_somebody(json!({"a": 1}), json!({}), false)]
#[case::one_more_in_a_list(json!({"a": [1]}), json!({"a": [1, 2]}), false)]
#[case::defaults_in_a_list(json!({"a": [{"name": "x"}]}), json!({"a": [{"name": "x", "protocol": "TCP"}]}), true)]
#[case::another_in_a_list(json!({"a": [{"name": "x"}]}), json!({"a": [{"name": "y"}]}), false)]
fn what_others_change_of_that_which_was_sent_is_seen(#[case] wanted: Value, #[case] found: Value, #[case] same: bool) {
    assert_eq!(Written::of(&wanted, &found) == Written::of(&wanted, &wanted), same);
}

#[test]
fn what_the_api_server_writes_in_its_own_way_is_no_change() {
    let wanted = json!({"cpu": "0.5", "none": {}});
    let answer = json!({"cpu": "500m", "uid": "u"});
    assert_eq!(Written::of(&wanted, &answer), Written::of(&wanted, &json!({"cpu": "500m", "other": 1})));
    assert_ne!(Written::of(&wanted, &answer), Written::of(&wanted, &json!({"cpu": "600m"})));
    assert_ne!(Written::of(&wanted, &answer), Written::of(&json!({"cpu": "500m", "none": {}}), &answer));
}

#[test]
fn what_was_applied_is_known_until_the_server_is_gone() {
    let applied = Applied::default();
    let server = server("replicas: 1");
    let written = Written::of(&json!({"a": 1}), &json!({"a": 1}));
    applied.note(&server, "Service/demo".to_owned(), written);
    assert_eq!(applied.last(&server, "Service/demo"), Some(written));
    assert_eq!(applied.last(&server, "StatefulSet/demo"), None);
    applied.forget(&ObjectRef::from_obj(&server));
    assert_eq!(applied.last(&server, "Service/demo"), None);
}

async fn created(api: &ApiServer) -> kube::Result<Cluster> {
    let server = server("percona: {enabled: true}");
    let percona = server.spec.percona.clone().unwrap();
    create_cluster(&api.client(), &server, &percona).await
}

#[tokio::test]
async fn a_cluster_is_created_under_the_operator_s_name() {
    let api = ApiServer::default();
    assert!(matches!(created(&api).await.unwrap(), Cluster::Ours(_)));
    assert_eq!(api.asked(), [format!("{CLUSTERS}?&fieldManager=dittofs-operator")]);
}

#[rstest]
#[case::ours(as_json(&cluster("")), 200, "ours")]
#[case::somebody_else_s(json!({"metadata": {"name": "demo-postgres"}, "spec": {}}), 200, "foreign")]
#[case::gone_again(failure("NotFound", 404, ""), 404, "not found")]
#[tokio::test]
async fn a_cluster_that_is_there_already_is_looked_at(#[case] found: Value, #[case] code: u16, #[case] expected: &str) {
    let api = ApiServer::answering([(CLUSTERS, 409, failure("AlreadyExists", 409, "")), (CLUSTER, code, found)]);
    let cluster = match created(&api).await.unwrap() {
        Cluster::Ours(_) => "ours",
        Cluster::Foreign(_) => "foreign",
        Cluster::NotFound => "not found",
        Cluster::NotInstalled => "not installed",
        Cluster::Refused(_) => "refused",
    };
    assert_eq!(cluster, expected);
}

#[rstest]
#[case::no_such_kind(404, "", true)]
#[case::forbidden(403, "Forbidden", false)]
#[case::broken(500, "InternalError", false)]
#[tokio::test]
async fn a_kind_that_is_not_served_is_no_error(#[case] code: u16, #[case] reason: &str, #[case] absent: bool) {
    let api = ApiServer::answering([(CLUSTERS, code, failure(reason, code, ""))]);
    let outcome = created(&api).await;
    assert_eq!(matches!(outcome, Ok(Cluster::NotInstalled)), absent);
    assert_eq!(outcome.is_err(), !absent);
}

#[tokio::test]
async fn services_are_applied_once_and_again_when_they_are_not_as_they_should_be() {
    let (server, applied) = (server("replicas: 1"), Applied::default());
    let wanted = (services::headless(&server), services::api(&server));
    let patches = [HEADLESS, API].map(|get| get.replace("GET", "PATCH") + APPLIED);

    let first = ApiServer::default();
    apply_services(&first.client(), &applied, &server).await.unwrap();
    assert_eq!(first.asked(), [HEADLESS, &patches[0], API, &patches[1]]);

    let settled = ApiServer::answering([(HEADLESS, 200, as_json(&wanted.0)), (API, 200, as_json(&wanted.1))]);
    apply_services(&settled.client(), &applied, &server).await.unwrap();
    assert_eq!(settled.asked(), [HEADLESS, API]);

    let mut changed = as_json(&wanted.1);
    changed["spec"]["ports"][0]["port"] = 1.into();
    let gone = ApiServer::answering([(API, 200, changed)]);
    apply_services(&gone.client(), &applied, &server).await.unwrap();
    let writes: Vec<_> = gone.asked().into_iter().filter(|request| request.starts_with("PATCH")).collect();
    assert_eq!(writes.len(), 2);
}

#[tokio::test]
async fn what_somebody_else_has_made_is_not_touched() {
    let server = server("replicas: 1");
    let theirs = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo-headless", "labels": {"app": "theirs"}}});
    let api = ApiServer::answering([(HEADLESS, 200, theirs)]);
    let error = apply_services(&api.client(), &Applied::default(), &server).await.unwrap_err();
    assert_eq!(api.asked(), [HEADLESS]);
    insta::assert_snapshot!(error, @"Service demo-headless was made by somebody else; delete it, or name the DittoServer otherwise");
    assert!(matches!(error, ApplyError::Refused(why, _) if why.reason == "ServiceRejected"));
}

/// What is sent of the workload in this state of the database, and what comes back.
async fn workload(
    api: &ApiServer,
    replicas: u8,
    (state, credentials): (&str, &[(&str, &str)]),
    existing: Option<StatefulSet>,
) -> (Vec<(String, Value)>, Result<Option<StatefulSet>, ApplyError>) {
    let server = server(&format!("replicas: {replicas}\npercona: {{enabled: true}}"));
    let facts = Facts {
        cluster: Cluster::Ours(Box::new(cluster(&format!("status: {{state: {state}}}")))),
        secret: Some(secret(credentials)),
        missing_backup_secret: None,
    };
    let verdict = gate::judge(&server, &facts);
    let options = PodOptions { init_image: "postgres:16".to_owned(), database_wait: std::time::Duration::from_mins(1) };
    let (client, applied) = (api.client(), Applied::default());
    let applying = apply_workload(&client, &applied, &server, &options, &verdict, existing);
    let outcome = Box::pin(applying).await;
    (api.sent(), outcome)
}

async fn running() -> StatefulSet {
    workload(&ApiServer::default(), 1, ("ready", &CREDENTIALS), None).await.1.unwrap().unwrap()
}

#[tokio::test]
async fn a_workload_is_made_when_the_database_is_ready_and_not_before() {
    let (sent, made) = workload(&ApiServer::default(), 1, ("ready", &CREDENTIALS), None).await;
    assert_eq!(sent[0].0, WORKLOAD.to_owned() + APPLIED);
    assert_eq!(made.unwrap().unwrap().name_any(), "demo");
    for state in [("initializing", &CREDENTIALS[..]), ("ready", &CREDENTIALS[..3])] {
        let (sent, made) = workload(&ApiServer::default(), 1, state, None).await;
        assert_eq!((sent.len(), made.unwrap()), (0, None));
    }
}

#[tokio::test]
async fn a_workload_keeps_its_credentials_while_the_database_is_not_ready() {
    let existing = running().await;
    let (sent, _) = workload(&ApiServer::default(), 2, ("initializing", &CREDENTIALS), Some(existing.clone())).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1["spec"]["replicas"], 2);
    assert_eq!(sent[0].1["spec"]["template"]["metadata"], as_json(&existing)["spec"]["template"]["metadata"]);
}

#[tokio::test]
async fn only_the_size_of_a_workload_changes_while_there_are_no_credentials() {
    let existing = running().await;
    let (sent, same) = workload(&ApiServer::default(), 1, ("ready", &CREDENTIALS[..3]), Some(existing.clone())).await;
    assert_eq!((sent.len(), same.unwrap().as_ref()), (0, Some(&existing)));
    let (sent, _) = workload(&ApiServer::default(), 0, ("ready", &CREDENTIALS[..3]), Some(existing)).await;
    // A merge, which conflicts with nobody.
    let path = format!("{WORKLOAD}?&fieldManager=dittofs-operator");
    assert_eq!(sent, [(path, json!({ "spec": { "replicas": 0 } }))]);
}

#[tokio::test]
async fn while_the_secret_is_not_complete_no_pod_is_replaced_though_the_database_is_not_ready_either() {
    let existing = running().await;
    let state = ("initializing", &CREDENTIALS[..3]);
    let (sent, _) = workload(&ApiServer::default(), 0, state, Some(existing)).await;
    assert_eq!(sent.iter().map(|(_, sent)| sent).collect::<Vec<_>>(), [&json!({ "spec": { "replicas": 0 } })]);
}

/// As Kubernetes up to 1.36 refuses other volumes.
fn forbidden_update() -> Value {
    failure(
        "Invalid",
        422,
        "StatefulSet demo is invalid: spec: Forbidden: updates to statefulset spec for fields other than …",
    )
}

/// As Kubernetes from 1.37 on refuses them; `field` and `message` are those of the cause.
fn immutable_field(field: &str, message: &str) -> Value {
    let mut said =
        failure("Invalid", 422, &format!("StatefulSet demo is invalid: {field}: Invalid value: [{{…}}]: {message}"));
    said["details"] = json!({ "causes": [{ "reason": "FieldValueInvalid", "field": field, "message": message }] });
    said
}

#[rstest]
#[case::up_to_1_36(forbidden_update())]
#[case::from_1_37_on(immutable_field("spec.volumeClaimTemplates", "Invalid value: [{…}]: field is immutable"))]
#[tokio::test]
async fn all_but_the_volumes_goes_on_when_those_are_refused(#[case] refusal: Value) {
    let mut there = as_json(&running().await);
    there["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = "9Gi".into();
    let get = WORKLOAD.replace("PATCH", "GET").leak();
    let api = ApiServer::answering([(WORKLOAD, 422, refusal), (get, 200, there.clone())]);
    let (sent, outcome) = workload(&api, 1, ("ready", &CREDENTIALS), None).await;
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].1["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"], "1Gi");
    assert_eq!(sent[1].1["spec"]["volumeClaimTemplates"], there["spec"]["volumeClaimTemplates"]);
    assert_eq!(sent[1].1["spec"]["template"], sent[0].1["spec"]["template"]);
    assert!(matches!(outcome, Err(ApplyError::Refused(why, _)) if why.reason == "StatefulSetRejected"));
}

#[rstest]
#[case::invalid(422, "refused")]
#[case::quota(403, "refused")]
#[case::policy(400, "refused")]
#[case::broken(500, "error")]
#[tokio::test]
async fn what_the_api_server_says_of_a_workload_is_told_apart(#[case] code: u16, #[case] expected: &str) {
    let api = ApiServer::answering([(WORKLOAD, code, failure("Because", code, "that is why"))]);
    let (_, outcome) = workload(&api, 1, ("ready", &CREDENTIALS), None).await;
    let error = outcome.unwrap_err();
    let told = match &error {
        ApplyError::Refused(..) => "refused",
        ApplyError::Api(_) => "error",
    };
    assert_eq!(told, expected);
    assert!(error.to_string().contains("that is why"), "{error}");
}

#[rstest]
#[case::of_somebody(
    r#"Internal error occurred: failed calling webhook "policy.example.com": connection refused"#,
    true
)]
#[case::anything_else("etcdserver: request timed out", false)]
fn a_webhook_that_does_not_answer_refuses(#[case] message: &str, #[case] expected: bool) {
    let response = serde_json::from_value(failure("InternalError", 500, message)).unwrap();
    assert_eq!(is_refused(&response), expected);
}

#[rstest]
#[case::up_to_1_36(forbidden_update(), true)]
#[case::from_1_37_on(immutable_field("spec.volumeClaimTemplates", "field is immutable"), true)]
#[case::a_value(immutable_field("spec.volumeClaimTemplates[0].spec.resources", "must be greater than zero"), false)]
#[case::another_field(immutable_field("spec.serviceName", "field is immutable"), false)]
#[case::no_cause(failure("Invalid", 422, "spec.template: invalid"), false)]
fn volumes_that_cannot_change_have_a_remedy(#[case] refusal: Value, #[case] expected: bool) {
    let said = rejected("StatefulSet", &serde_json::from_value(refusal).unwrap());
    assert_eq!(said.contains("set spec.storage back"), expected, "{said}");
    assert_ne!(said.contains("demo is invalid") || said.contains("spec.template"), expected, "{said}");
}

#[tokio::test]
async fn the_status_is_applied_as_a_whole() {
    let api = ApiServer::answering([(STATUS, 200, as_json(&server("replicas: 1")))]);
    let status = DittoServerStatus { ready_replicas: 1, ..DittoServerStatus::default() };
    write_status(&api.client(), &server("replicas: 1"), &status).await.unwrap();
    let (path, sent) = api.sent().remove(0);
    assert_eq!(path, STATUS.to_owned() + APPLIED);
    assert_eq!((&sent["kind"], &sent["status"]["readyReplicas"]), (&json!("DittoServer"), &json!(1)));
}
