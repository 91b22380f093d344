use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::testing::{ApiServer, BACKED_UP, CREDENTIALS, as_json, cluster, failure, gave_up, secret, server};

const SERVER: &str = "GET /apis/dittofs.dittofs.com/v1alpha1/namespaces/team-a/dittoservers/demo";
const CLUSTER: &str = "GET /apis/pgv2.percona.com/v2/namespaces/team-a/perconapgclusters/demo-postgres";
const CLUSTERS: &str = "POST /apis/pgv2.percona.com/v2/namespaces/team-a/perconapgclusters";
const SECRET: &str = "GET /api/v1/namespaces/team-a/secrets/demo-postgres-pguser-dittofs";
const WORKLOAD: &str = "PATCH /apis/apps/v1/namespaces/team-a/statefulsets/demo";
const PODS: &str = "GET /api/v1/namespaces/team-a/pods";

const PERCONA: &str = "percona: {enabled: true}";

fn pods() -> (&'static str, u16, Value) {
    (PODS, 200, json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [] }))
}

fn context(api: &ApiServer) -> Context {
    let pods = PodOptions { init_image: "postgres:16".to_owned(), database_wait: Duration::from_mins(5) };
    Context::new(api.client(), pods, Duration::from_mins(10), "operator-0".to_owned(), Metrics::default())
}

/// What is asked and sent for a server, and what comes of it.
async fn reconciled(server: &DittoServer, api: &ApiServer) -> (Vec<String>, Result<Option<Duration>, Error>) {
    let outcome = Box::pin(reconcile(server, &context(api))).await;
    let shown = api.take().into_iter().map(|(request, body)| {
        let status = &body["status"];
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let conditions = conditions.map(|one| format!(" {}={}", one["type"], one["reason"]).replace('"', ""));
        let phase = status["phase"].as_str().map(|phase| format!(" {phase}")).unwrap_or_default();
        let reason = body["reason"].as_str().map(|reason| format!(" {reason}")).unwrap_or_default();
        let request = request.split('?').next().unwrap_or_default().to_owned();
        request + &reason + &phase + &conditions.collect::<String>()
    });
    (shown.collect(), outcome)
}

#[tokio::test]
async fn a_server_that_is_gone_needs_nothing() {
    let api = ApiServer::default();
    let (asked, outcome) = reconciled(&server(PERCONA), &api).await;
    assert_eq!((asked.len(), outcome.unwrap()), (1, None));
}

#[tokio::test]
async fn of_a_server_that_is_being_deleted_only_the_status_is_written() {
    let mut server = server(PERCONA);
    server.metadata.deletion_timestamp = Some(now());
    let (asked, outcome) = reconciled(&server, &ApiServer::answering([(SERVER, 200, as_json(&server))])).await;
    assert_eq!(outcome.unwrap(), None);
    insta::assert_yaml_snapshot!(asked);
}

#[tokio::test]
async fn a_spec_that_cannot_be_built_is_told_and_nothing_is_made() {
    let server = server(&format!("{BACKED_UP}\n    fullSchedule: daily"));
    let (asked, outcome) = reconciled(&server, &ApiServer::answering([(SERVER, 200, as_json(&server))])).await;
    assert_eq!(outcome.unwrap(), None);
    insta::assert_yaml_snapshot!(asked);
}

#[tokio::test]
async fn a_server_without_a_database_is_made_at_once() {
    let server = server("replicas: 1");
    let (asked, outcome) = reconciled(&server, &ApiServer::answering([(SERVER, 200, as_json(&server)), pods()])).await;
    assert_eq!(outcome.unwrap(), None);
    insta::assert_yaml_snapshot!(asked);
}

#[tokio::test]
async fn a_cluster_is_made_first_and_the_workload_waits() {
    let server = server(PERCONA);
    let (asked, outcome) = reconciled(&server, &ApiServer::answering([(SERVER, 200, as_json(&server))])).await;
    assert_eq!(outcome.unwrap(), Some(Duration::from_mins(10)));
    insta::assert_yaml_snapshot!(asked);
}

#[tokio::test]
async fn a_cluster_that_was_there_before_is_made_again_and_told() {
    let mut server = server(PERCONA);
    server.status = Some(serde_json::from_value(json!({ "perconaClusterName": "demo-postgres" })).unwrap());
    let (asked, _) = reconciled(&server, &ApiServer::answering([(SERVER, 200, as_json(&server))])).await;
    assert!(asked.iter().any(|request| request.ends_with("events PerconaPGClusterRecreated")), "{asked:?}");
}

fn ready(server: &DittoServer) -> [(&'static str, u16, Value); 4] {
    let found = as_json(&cluster("status: {state: ready}"));
    let secret = as_json(&secret(&CREDENTIALS));
    [(SERVER, 200, as_json(server)), (CLUSTER, 200, found), (SECRET, 200, secret), pods()]
}

#[tokio::test]
async fn a_ready_database_with_its_credentials_lets_the_workload_be_made() {
    let server = server(PERCONA);
    let (asked, outcome) = reconciled(&server, &ApiServer::answering(ready(&server))).await;
    assert_eq!(outcome.unwrap(), None);
    insta::assert_yaml_snapshot!(asked);
}

#[rstest]
#[case::invalid(422)]
#[case::quota(403)]
#[case::policy(400)]
#[tokio::test]
async fn a_workload_that_is_refused_is_told_and_tried_again(#[case] code: u16) {
    let server = server(PERCONA);
    let refused = (WORKLOAD, code, failure("Because", code, "that is why"));
    let [a, b, c, d] = ready(&server);
    let (asked, outcome) = reconciled(&server, &ApiServer::answering([a, b, c, d, refused])).await;
    assert!(outcome.is_err());
    let told = asked.iter().find(|request| request.contains("status Failed")).expect("a status");
    assert!(told.contains("Ready=StatefulSetRejected"), "{told}");
    assert!(asked.contains(&WORKLOAD.replace("PATCH", "GET")), "{asked:?}");
}

#[tokio::test]
async fn a_service_that_is_refused_is_told_and_keeps_no_workload_from_being_made() {
    let server = server(PERCONA);
    let refused =
        ("PATCH /api/v1/namespaces/team-a/services/demo-headless", 403, failure("Because", 403, "that is why"));
    let [a, b, c, d] = ready(&server);
    let (asked, outcome) = reconciled(&server, &ApiServer::answering([a, b, c, d, refused])).await;
    assert!(outcome.is_err());
    let told = asked.iter().find(|request| request.contains("status Failed")).expect("a status");
    assert!(told.contains("Ready=ServiceRejected"), "{told}");
    assert!(asked.iter().any(|request| request.starts_with(WORKLOAD)), "{asked:?}");
}

#[rstest]
#[case::invalid(422, true)]
#[case::quota(403, true)]
#[case::policy(400, true)]
#[case::broken(500, false)]
#[tokio::test]
async fn a_cluster_that_is_refused_is_told_and_tried_again(#[case] code: u16, #[case] told: bool) {
    let server = server(PERCONA);
    let absent = (CLUSTER, 404, failure("NotFound", 404, ""));
    let refused = (CLUSTERS, code, failure("Because", code, "that is why"));
    let (asked, outcome) =
        reconciled(&server, &ApiServer::answering([(SERVER, 200, as_json(&server)), absent, refused])).await;
    assert!(outcome.is_err());
    let status = asked.iter().any(|request| request.contains("DatabaseReady=PerconaPGClusterRefused"));
    assert_eq!(status, told, "{asked:?}");
}

#[tokio::test]
async fn a_broken_api_server_is_an_error_and_no_status() {
    let server = server(PERCONA);
    let [a, b, c, d] = ready(&server);
    let broken = (WORKLOAD, 500, failure("InternalError", 500, ""));
    let (asked, outcome) = reconciled(&server, &ApiServer::answering([a, b, c, d, broken])).await;
    assert!(outcome.is_err());
    assert!(!asked.iter().any(|request| request.contains("/status")), "{asked:?}");
}

#[tokio::test]
async fn a_pod_that_gave_up_is_told() {
    let server = server("replicas: 1");
    let workload =
        json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "demo", "uid": "w" } });
    let api =
        ApiServer::answering([(SERVER, 200, as_json(&server)), (WORKLOAD, 200, workload), (PODS, 200, gave_up())]);
    let (asked, _) = reconciled(&server, &api).await;
    assert!(asked.iter().any(|request| request.contains("Ready=PostgreSQLFailed")), "{asked:?}");
}

#[tokio::test]
async fn a_status_that_says_the_same_is_not_written_again() {
    let mut server = server("replicas: 1");
    let first = ApiServer::answering([(SERVER, 200, as_json(&server)), pods()]);
    Box::pin(reconcile(&server, &context(&first))).await.unwrap();
    let written = first.sent().into_iter().find(|(request, _)| request.contains("/status")).expect("a status").1;
    server.status = Some(serde_json::from_value(written["status"].clone()).unwrap());
    let (asked, _) = reconciled(&server, &ApiServer::answering([(SERVER, 200, as_json(&server)), pods()])).await;
    assert!(!asked.iter().any(|request| request.contains("/status") || request.contains("events")), "{asked:?}");
}

#[tokio::test]
async fn what_failed_is_counted_until_it_works_or_is_gone() {
    let (api, server) = (ApiServer::default(), Arc::new(server("replicas: 1")));
    let context = Arc::new(context(&api));
    let key = || ObjectRef::from_obj(&*server);
    assert_eq!([true, true, true].map(|failed| context.failures(key(), failed)), [1, 2, 3]);
    // It is gone, which is a success.
    assert_eq!(measured(Arc::clone(&server), Arc::clone(&context)).await.unwrap(), Action::await_change());
    assert_eq!(context.failures(key(), true), 1);
    context.forget(&key().erase());
    assert_eq!(context.failures(key(), true), 1);
}

#[tokio::test]
async fn what_is_queued_is_reconciled_or_forgotten() {
    let (api, server) = (ApiServer::default(), server("replicas: 1"));
    let context = Arc::new(context(&api));
    let gone: ObjectRef<DittoServer> = ObjectRef::new("gone").within("team-a");
    context.failures(gone.clone(), true);
    let (store, mut writer) = reflector::store();
    for event in [Event::Init, Event::InitApply(server.clone()), Event::InitDone] {
        writer.apply_watcher_event(&event);
    }
    let mut queue = Queue::new();
    let queued = futures::stream::iter([ObjectRef::from_obj(&server), gone.clone()]);
    queue.push(queued.chain(futures::stream::pending()).boxed());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(Arc::clone(&context), store, queue, shutdown.clone()));
    let mut asked = Vec::new();
    let done = async {
        while asked.is_empty() || context.failures.lock().unwrap().contains_key(&gone) {
            asked.extend(api.asked());
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), done).await.expect("both are done");
    assert_eq!(asked, [SERVER]);
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_wait_is_looked_at_again_when_its_deadline_comes() {
    let server = server(PERCONA);
    let api = ApiServer::answering([(SERVER, 200, as_json(&server))]);
    let action = measured(Arc::new(server), Arc::new(context(&api))).await.unwrap();
    assert_eq!(action, Action::requeue(Duration::from_mins(10)));
}

#[test]
fn failures_are_tried_again_less_and_less_often() {
    let delays: Vec<u128> = (1..=9).map(|count| backoff(count).as_millis()).collect();
    assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
}

#[test]
fn times_are_whole_seconds() {
    assert_eq!(now().0.subsec_nanosecond(), 0);
    assert!((Timestamp::now().as_second() - now().0.as_second()).abs() <= 1);
}

#[tokio::test]
async fn nothing_is_asked_of_pods_while_all_are_ready() {
    let server = server("replicas: 1");
    let workload = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "demo" },
        "status": { "replicas": 1, "readyReplicas": 1 },
    });
    let answers = [(SERVER, 200, as_json(&server)), (WORKLOAD, 200, workload)];
    let (asked, _) = reconciled(&server, &ApiServer::answering(answers)).await;
    assert!(!asked.iter().any(|request| request.contains("/pods")), "{asked:?}");
}
