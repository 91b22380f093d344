use std::pin::pin;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::testing::{ApiServer, BACKED_UP, gave_up, server};

const CRDS: &str = "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CLUSTERS: &str = "GET /apis/pgv2.percona.com/v2/perconapgclusters";

/// A list of metadata.
fn list(items: &Value) -> Value {
    json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items })
}

/// An item of it, which `demo` owns.
fn owned(name: &str) -> Value {
    let owner = json!({
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "demo", "uid": "u", "controller": true,
    });
    json!({ "metadata": { "name": name, "namespace": "team-a", "ownerReferences": [owner] } })
}

fn named(spec: &str, name: &str, namespace: &str) -> DittoServer {
    let mut server = server(spec);
    (server.metadata.name, server.metadata.namespace) = (Some(name.to_owned()), Some(namespace.to_owned()));
    server
}

/// A store that knows these servers.
fn knowing<const N: usize>(servers: [DittoServer; N]) -> Store<DittoServer> {
    let (store, mut writer) = reflector::store();
    for server in servers {
        writer.apply_watcher_event(&Event::Apply(server));
    }
    store
}

fn demo() -> ObjectRef<DittoServer> {
    ObjectRef::new("demo").within("team-a")
}

/// What the queue holds at first, `count` of it at most.
async fn queued(queue: impl Stream<Item = ObjectRef<DittoServer>>, count: usize) -> Vec<ObjectRef<DittoServer>> {
    let mut seen = Vec::new();
    let mut queue = pin!(queue.take(count));
    let _ = timeout(Duration::from_secs(10), async {
        while let Some(server) = queue.next().await {
            seen.push(server);
        }
    })
    .await;
    seen
}

/// Lets the watches run for so long, and holds that nothing comes of them.
async fn nothing_is_queued(queue: impl Stream<Item = ObjectRef<DittoServer>>, within: Duration) {
    assert!(timeout(within, pin!(queue).next()).await.is_err());
}

#[rstest]
#[case::own("percona: {enabled: true}", "demo-postgres-pguser-dittofs", true)]
#[case::backup(BACKED_UP, "s3-keys", true)]
#[case::ca(&format!("{BACKED_UP}\n    caSecretRef: {{name: s3-ca, key: ca.crt}}"), "s3-ca", true)]
#[case::strange("percona: {enabled: true}", "other", false)]
#[case::other_user("percona: {enabled: true}", "demo-postgres-pguser-postgres", false)]
#[case::external("database: {postgresSecretRef: {name: db, key: url}}", "db", true)]
#[case::ignored("percona: {enabled: true}\ndatabase: {postgresSecretRef: {name: db, key: url}}", "db", false)]
#[case::sqlite("", "demo-postgres-pguser-dittofs", false)]
fn only_secrets_that_are_read_cause_something(#[case] spec: &str, #[case] secret: &str, #[case] expected: bool) {
    assert_eq!(reads(&server(spec), secret), expected);
}

#[rstest]
#[case::read("s3-keys", "team-a", &["demo", "twin"])]
#[case::elsewhere("s3-keys", "team-b", &["demo"])]
#[case::nowhere("s3-keys", "team-c", &[])]
#[case::strange("other", "team-a", &[])]
fn a_secret_leads_to_the_servers_of_its_namespace(
    #[case] name: &str,
    #[case] namespace: &str,
    #[case] servers: &[&str],
) {
    let store = knowing([
        named(BACKED_UP, "demo", "team-a"),
        named(BACKED_UP, "twin", "team-a"),
        named(BACKED_UP, "demo", "team-b"),
        named("", "sqlite", "team-a"),
    ]);
    let secret = serde_json::from_value(json!({ "metadata": { "name": name, "namespace": namespace } })).unwrap();
    let mut led = referring(&store, &secret);
    led.sort_by_key(|server| server.name.clone());
    assert_eq!(led, servers.iter().map(|name| ObjectRef::new(name).within(namespace)).collect::<Vec<_>>());
}

#[rstest]
#[case::servers("/apis/dittofs.dittofs.com/v1alpha1/dittoservers")]
#[case::workloads("/apis/apps/v1/statefulsets")]
#[case::services("/api/v1/services")]
#[tokio::test]
async fn what_is_there_leads_to_its_server(#[case] path: &'static str) {
    let items = if path.ends_with("dittoservers") { json!([server("")]) } else { json!([owned("demo-api")]) };
    let request: &'static str = String::leak(format!("GET {path}"));
    let api = ApiServer::answering([(request, 200, list(&items))]);
    let (_store, queue) = start(&api.client(), || ());
    assert_eq!(queued(queue, 1).await, [demo()]);
}

#[tokio::test]
async fn a_pod_that_gave_up_leads_to_its_server_and_no_other_pod() {
    let mut pods = gave_up();
    pods["metadata"]["resourceVersion"] = "1".into();
    let other = json!({ "metadata": { "name": "runs", "namespace": "team-a", "labels": { "app.kubernetes.io/instance": "runs" } } });
    pods["items"][0]["metadata"]["namespace"] = "team-a".into();
    pods["items"][0]["metadata"]["labels"] = json!({ "app.kubernetes.io/instance": "demo" });
    pods["items"].as_array_mut().unwrap().push(other);
    let api = ApiServer::answering([("GET /api/v1/pods", 200, pods)]);
    let (_store, queue) = start(&api.client(), || ());
    assert_eq!(queued(queue, 1).await, [demo()]);
}

#[tokio::test]
async fn after_a_watch_was_interrupted_every_server_is_looked_at() {
    let store = knowing([named("", "demo", "team-a"), named("", "twin", "team-a")]);
    let metadata = |name: &str| serde_json::from_value::<PartialObjectMeta<Service>>(owned(name)).unwrap();
    let list = |names: &[&str]| {
        let items = names.iter().map(|name| Event::InitApply(metadata(name))).collect::<Vec<_>>();
        [vec![Event::Init], items, vec![Event::InitDone]].concat()
    };
    let events = [list(&["demo-api"]), vec![Event::Delete(metadata("demo-api"))], list(&[])].concat();
    let queue = led(futures::stream::iter(events.into_iter().map(Ok)), store, owner);
    let mut seen = queue.collect::<Vec<_>>().await;
    assert_eq!(seen.drain(..2).collect::<Vec<_>>(), [demo(), demo()]);
    seen.sort_by_key(|server| server.name.clone());
    assert_eq!(seen, [demo(), ObjectRef::new("twin").within("team-a")]);
}

#[tokio::test]
async fn servers_are_known_before_it_says_so() {
    let servers = "GET /apis/dittofs.dittofs.com/v1alpha1/dittoservers";
    let api = ApiServer::answering([(servers, 200, list(&json!([server("")])))]);
    let (synced, mut known) = mpsc::unbounded();
    let (store, queue) = start(&api.client(), move || drop(synced.unbounded_send(())));
    let counting = async { known.next().await.map(|()| store.state().len()) };
    tokio::select! {
        count = counting => assert_eq!(count, Some(1)),
        _ = queued(queue, usize::MAX) => panic!("never said"),
    }
}

#[tokio::test]
async fn clusters_are_watched_when_percona_is_there() {
    let store = || knowing([named("percona: {enabled: true}", "demo", "team-a"), named("", "sqlite", "team-a")]);
    let clusters_of = [
        (CLUSTERS, 200, list(&json!([owned("late-postgres"), owned("no-cluster-of-ours")]))),
        (CRDS, 200, list(&json!([{ "metadata": { "name": names::PERCONA_CRD } }]))),
    ];
    let api = ApiServer::answering(clusters_of.clone());
    let led = queued(clusters(&api.client(), store()), 3).await;
    // The kind is there; the cluster is; the kind is served.
    let late = ObjectRef::new("late").within("team-a");
    assert_eq!(led, [demo(), late, demo()]);

    let [served, _] = clusters_of;
    let api = ApiServer::answering([served, (CRDS, 200, list(&json!([])))]);
    nothing_is_queued(clusters(&api.client(), store()), Duration::from_millis(100)).await;
    assert!(!api.asked().iter().any(|request| request.starts_with(CLUSTERS)));
}

#[tokio::test]
async fn an_api_server_that_answers_nothing_is_asked_less_and_less_often() {
    let api = ApiServer::answering([(CRDS, 200, list(&json!([{ "metadata": { "name": names::PERCONA_CRD } }])))]);
    let (_store, queue) = start(&api.client(), || ());
    nothing_is_queued(queue, Duration::from_millis(1_500)).await;
    let asked = api.asked();
    for kind in ["dittoservers", "statefulsets", "services", "secrets", "pods", "perconapgclusters"] {
        let path = format!("/{kind}?");
        let times = asked.iter().filter(|request| request.contains(&path)).count();
        // After 0, 50, 150, 350, and 750 ms, or later.
        assert!((2..=5).contains(&times), "{kind}: {times}");
    }
}
