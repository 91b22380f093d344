//! Reads what the gate needs, and no more: each step needs the client.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};

use super::build;
use super::gate::{Cluster, Facts, Source};
use super::pods;
use crate::api::{DittoServer, PerconaPGCluster, names};

/// Reads the facts about `server`'s database.
pub async fn facts(client: &Client, server: &DittoServer) -> kube::Result<Facts> {
    let namespace = server.namespace().unwrap_or_default();
    let mut facts = Facts { cluster: Cluster::NotFound, secret: None, missing_backup_secret: None };
    match Source::of(server) {
        Source::Sqlite => {}
        Source::External(reference) => facts.secret = secret(client, &namespace, &reference.name).await?,
        Source::Percona => {
            let clusters: Api<PerconaPGCluster> = Api::namespaced(client.clone(), &namespace);
            facts.cluster = match clusters.get_opt(&names::cluster(&server.name_any())).await {
                Ok(Some(found)) => whose(server, found),
                Ok(None) => Cluster::NotFound,
                Err(error) if is_unserved(&error) => Cluster::NotInstalled,
                Err(error) => return Err(error),
            };
            complete(client, server, &mut facts).await?;
        }
    }
    Ok(facts)
}

/// Reads the Secrets that matter in the state that the cluster is in.
async fn complete(client: &Client, server: &DittoServer, facts: &mut Facts) -> kube::Result<()> {
    let Cluster::Ours(cluster) = &facts.cluster else { return Ok(()) };
    let namespace = server.namespace().unwrap_or_default();
    let is_ready = cluster.status.as_ref().is_some_and(|status| status.state == "ready");
    let mounted = if is_ready { Vec::new() } else { backup_secrets(server, cluster) };
    facts.secret = secret(client, &namespace, &names::user_secret(&server.name_any())).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for name in mounted {
        if secrets.get_metadata_opt(&name).await?.is_none() {
            facts.missing_backup_secret = Some(name);
            break;
        }
    }
    Ok(())
}

/// The Secrets that the pods of `cluster` need for the backups that `server` asks for. Those that the cluster names count: it is
/// created once, and the server may name others since.
fn backup_secrets(server: &DittoServer, cluster: &PerconaPGCluster) -> Vec<String> {
    let backup = server.spec.percona.as_ref().and_then(|percona| percona.backup.as_ref());
    if !backup.is_some_and(|backup| backup.enabled) || cluster.spec.backups.enabled == Some(false) {
        return Vec::new();
    }
    let configuration = cluster.spec.backups.pgbackrest.iter().flat_map(|pgbackrest| &pgbackrest.configuration);
    configuration.map(|one| one.secret.name.clone()).filter(|name| !name.is_empty()).collect()
}

async fn secret(client: &Client, namespace: &str, name: &str) -> kube::Result<Option<Secret>> {
    Api::namespaced(client.clone(), namespace).get_opt(name).await
}

/// Whether the API server does not serve the kind (yet, or any more). A missing kind gives a 404 without a reason, unlike
/// a missing object; while its CRD is being removed, creating is not allowed (405) or forbidden (403).
pub fn is_unserved(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let missing = status.code == 404 && status.reason != "NotFound";
    let terminating = status.code == 403 && status.message.contains("custom resource definition is terminating");
    missing || terminating || status.code == 405
}

/// Tells whether `server` controls `found`.
pub fn whose(server: &DittoServer, found: PerconaPGCluster) -> Cluster {
    match controller(&found) {
        Some(owner) if Some(&owner.uid) == server.metadata.uid.as_ref() => Cluster::Ours(Box::new(found)),
        Some(owner) if owner.kind == "DittoServer" && owner.name == server.name_any() => {
            Cluster::Foreign(format!("belongs to an earlier DittoServer of this name (uid {})", owner.uid))
        }
        Some(owner) => Cluster::Foreign(format!("belongs to {} {}", owner.kind, owner.name)),
        None => Cluster::Foreign("has no controller: somebody else made it".to_owned()),
    }
}

fn controller(found: &impl Resource) -> Option<&OwnerReference> {
    found.owner_references().iter().find(|owner| owner.controller == Some(true))
}

/// Whether `found` belongs to `server`: it is its controller, or nobody is, and the operator's labels say so.
pub fn is_ours(server: &DittoServer, found: &impl Resource) -> bool {
    match controller(found) {
        Some(owner) => Some(&owner.uid) == server.metadata.uid.as_ref(),
        None => build::labels(&server.name_any()).iter().all(|(key, value)| found.labels().get(key) == Some(value)),
    }
}

/// Reads the StatefulSet of `server`; one of that name that somebody else has made is none.
pub async fn workload(client: &Client, server: &DittoServer) -> kube::Result<Option<StatefulSet>> {
    let workloads: Api<StatefulSet> = Api::namespaced(client.clone(), &server.namespace().unwrap_or_default());
    Ok(workloads.get_opt(&server.name_any()).await?.filter(|found| is_ours(server, found)))
}

/// Why a pod of `workload` gave up on the database, if one did. Asks only while pods are missing.
pub async fn gave_up(client: &Client, server: &DittoServer, workload: &StatefulSet) -> kube::Result<Option<String>> {
    let ready = workload.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    if ready >= server.spec.replicas {
        return Ok(None);
    }
    let selector: Vec<_> =
        build::selector(&server.name_any()).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &server.namespace().unwrap_or_default());
    let list = pods.list(&ListParams::default().labels(&selector.join(","))).await?;
    let ours = |pod: &&Pod| {
        pod.metadata.deletion_timestamp.is_none()
            && pod.owner_references().iter().any(|owner| Some(&owner.uid) == workload.metadata.uid.as_ref())
    };
    Ok(list.items.iter().filter(ours).find_map(pods::gave_up))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, ApiServer, BACKED_UP, CREDENTIALS, as_json, cluster, failure, secret, server};

    #[rstest]
    #[case::ours(r#"{"ownerReferences": [{"controller": true, "uid": "UID"}]}"#, true)]
    #[case::of_another_controller(
        r#"{"labels": LABELS, "ownerReferences": [{"controller": true, "uid": "other"}]}"#,
        false
    )]
    #[case::released(r#"{"labels": LABELS, "ownerReferences": [{"uid": "other"}]}"#, true)]
    #[case::somebody_else_s(r#"{"labels": {"app.kubernetes.io/instance": "demo"}}"#, false)]
    fn what_belongs_to_a_server(#[case] metadata: &str, #[case] expected: bool) {
        let server = server("");
        let labels = serde_json::to_string(&build::labels("demo")).unwrap();
        let uid = server.metadata.uid.clone().unwrap();
        let mut metadata: Value =
            serde_json::from_str(&metadata.replace("LABELS", &labels).replace("UID", &uid)).unwrap();
        for owner in metadata["ownerReferences"].as_array_mut().into_iter().flatten() {
            for field in ["apiVersion", "kind", "name"] {
                owner[field] = "x".into();
            }
        }
        let found: StatefulSet = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        assert_eq!(is_ours(&server, &found), expected);
    }

    const CLUSTER: &str = "GET /apis/pgv2.percona.com/v2/namespaces/team-a/perconapgclusters/demo-postgres";
    const PODS: &str = "GET /api/v1/namespaces/team-a/pods";
    const PERCONA: &str = "percona: {enabled: true}";

    async fn read(spec: &str, api: &ApiServer) -> kube::Result<Facts> {
        facts(&api.client(), &server(spec)).await
    }

    fn found(state: &str) -> (&'static str, u16, Value) {
        (CLUSTER, 200, as_json(&cluster(&format!("status: {{state: {state}}}"))))
    }

    /// The cluster, whose pods mount these Secrets for their backups.
    fn mounting(state: &str, secrets: &[&str]) -> (&'static str, u16, Value) {
        let (request, code, mut cluster) = found(state);
        let configuration: Vec<_> = secrets.iter().map(|name| json!({ "secret": { "name": name } })).collect();
        cluster["spec"]["backups"] = json!({ "pgbackrest": { "configuration": configuration, "repos": [] } });
        (request, code, cluster)
    }

    #[rstest]
    #[case::nothing("", [found("ready")], &[])]
    #[case::external("database: {postgresSecretRef: {name: db, key: url}}", [found("ready")], &["secrets/db"])]
    #[case::ready(PERCONA, [found("ready")], &["perconapgclusters/demo-postgres", "secrets/demo-postgres-pguser-dittofs"])]
    #[case::not_ready(
        PERCONA,
        [found("initializing")],
        &["perconapgclusters/demo-postgres", "secrets/demo-postgres-pguser-dittofs"]
    )]
    #[case::backed_up(
        BACKED_UP,
        [mounting("initializing", &["s3-keys"])],
        &["perconapgclusters/demo-postgres", "secrets/demo-postgres-pguser-dittofs", "secrets/s3-keys"]
    )]
    #[case::backups_off_since(
        PERCONA,
        [mounting("initializing", &["s3-keys"])],
        &["perconapgclusters/demo-postgres", "secrets/demo-postgres-pguser-dittofs"]
    )]
    #[case::backed_up_and_ready(
        BACKED_UP,
        [mounting("ready", &["s3-keys"])],
        &["perconapgclusters/demo-postgres", "secrets/demo-postgres-pguser-dittofs"]
    )]
    #[tokio::test]
    async fn only_what_matters_is_read(
        #[case] spec: &str,
        #[case] answers: [(&'static str, u16, Value); 1],
        #[case] expected: &[&str],
    ) {
        let api = ApiServer::answering(answers);
        read(spec, &api).await.unwrap();
        let asked = api.asked();
        assert_eq!(asked.len(), expected.len(), "{asked:?}");
        assert!(asked.iter().zip(expected).all(|(asked, expected)| asked.ends_with(expected)), "{asked:?}");
    }

    #[tokio::test]
    async fn what_was_read_is_told() {
        let credentials = as_json(&secret(&CREDENTIALS));
        let secrets = "GET /api/v1/namespaces/team-a/secrets/demo-postgres-pguser-dittofs";
        let facts = read(PERCONA, &ApiServer::answering([found("ready"), (secrets, 200, credentials)])).await.unwrap();
        assert!(matches!(facts.cluster, Cluster::Ours(_)));
        assert_eq!(facts.secret, Some(secret(&CREDENTIALS)));
        let mounted = mounting("initializing", &["s3-keys", "s3-ca"]);
        let facts = read(BACKED_UP, &ApiServer::answering([mounted.clone()])).await.unwrap();
        assert_eq!(facts.missing_backup_secret.as_deref(), Some("s3-keys"));
        let keys = ("GET /api/v1/namespaces/team-a/secrets/s3-keys", 200, json!({"metadata": {"name": "s3-keys"}}));
        let ca = ("GET /api/v1/namespaces/team-a/secrets/s3-ca", 200, json!({"metadata": {"name": "s3-ca"}}));
        let facts = read(BACKED_UP, &ApiServer::answering([mounted.clone(), keys.clone()])).await.unwrap();
        assert_eq!(facts.missing_backup_secret.as_deref(), Some("s3-ca"));
        let facts = read(BACKED_UP, &ApiServer::answering([mounted, keys, ca])).await.unwrap();
        assert_eq!(facts.missing_backup_secret, None);
    }

    #[tokio::test]
    async fn the_secret_that_the_cluster_mounts_counts_whatever_the_server_names_now() {
        let keys = ("GET /api/v1/namespaces/team-a/secrets/s3-keys", 200, json!({"metadata": {"name": "s3-keys"}}));
        let mounted = mounting("initializing", &["s3-kyes"]);
        let facts = read(BACKED_UP, &ApiServer::answering([mounted, keys])).await.unwrap();
        assert_eq!(facts.missing_backup_secret.as_deref(), Some("s3-kyes"));
    }

    #[rstest]
    #[case::no_such_object(404, "NotFound", Some("not found"))]
    #[case::no_such_kind(404, "", Some("not installed"))]
    #[case::forbidden(403, "Forbidden", None)]
    #[tokio::test]
    async fn a_missing_kind_and_a_missing_cluster_are_told_apart(
        #[case] code: u16,
        #[case] reason: &str,
        #[case] expected: Option<&str>,
    ) {
        let outcome = read(PERCONA, &ApiServer::answering([(CLUSTER, code, failure(reason, code, ""))])).await;
        let told = outcome.ok().map(|facts| match facts.cluster {
            Cluster::NotFound => "not found",
            Cluster::NotInstalled => "not installed",
            other => panic!("{other:?}"),
        });
        assert_eq!(told, expected);
    }

    #[rstest]
    #[case::kind(404, "", "", true)]
    #[case::object(404, "NotFound", "", false)]
    #[case::removed(405, "MethodNotAllowed", "", true)]
    #[case::being_removed(403, "Forbidden", "create not allowed while custom resource definition is terminating", true)]
    #[case::forbidden(403, "Forbidden", "user cannot create", false)]
    #[case::broken(500, "", "custom resource definition is terminating", false)]
    fn a_kind_that_is_not_served(#[case] code: u16, #[case] reason: &str, #[case] text: &str, #[case] expected: bool) {
        let status = serde_json::from_value(failure(reason, code, text)).unwrap();
        assert_eq!(is_unserved(&kube::Error::Api(status)), expected);
    }

    #[rstest]
    #[case::ours(json!([{"kind": "DittoServer", "name": "demo", "uid": "uid-of-demo", "controller": true}]), None)]
    #[case::earlier(
        json!([{"kind": "DittoServer", "name": "demo", "uid": "other", "controller": true}]),
        Some("belongs to an earlier DittoServer of this name (uid other)")
    )]
    #[case::another(
        json!([{"kind": "DittoServer", "name": "else", "uid": "other", "controller": true}]),
        Some("belongs to DittoServer else")
    )]
    #[case::of_another_kind(
        json!([{"kind": "Release", "name": "demo", "uid": "other", "controller": true}]),
        Some("belongs to Release demo")
    )]
    #[case::owned_and_not_controlled(
        json!([{"kind": "DittoServer", "name": "demo", "uid": "uid-of-demo"}]),
        Some("has no controller: somebody else made it")
    )]
    fn a_cluster_is_whose_controller_it_names(#[case] mut owners: Value, #[case] expected: Option<&str>) {
        for owner in owners.as_array_mut().unwrap() {
            owner["apiVersion"] = "v1".into();
        }
        let mut cluster = cluster("");
        cluster.metadata.owner_references = serde_json::from_value(owners).unwrap();
        let told = match whose(&server(PERCONA), cluster) {
            Cluster::Ours(_) => None,
            Cluster::Foreign(whose) => Some(whose),
            other => panic!("{other:?}"),
        };
        assert_eq!(told.as_deref(), expected);
    }

    /// A pod of the StatefulSet `w` that gave up, but for what `change` changes.
    fn pods(change: impl FnOnce(&mut Value)) -> ApiServer {
        let mut list = testing::gave_up();
        change(&mut list["items"][0]);
        ApiServer::answering([(PODS, 200, list)])
    }

    async fn told(api: &ApiServer, replicas: u8, ready: u8) -> Option<String> {
        let workload =
            json!({ "metadata": { "name": "demo", "uid": "w" }, "status": { "replicas": 1, "readyReplicas": ready } });
        let server = server(&format!("replicas: {replicas}"));
        gave_up(&api.client(), &server, &serde_json::from_value(workload).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_pod_of_the_workload_that_gave_up_is_told_of() {
        let api = pods(|_| ());
        assert!(told(&api, 1, 0).await.unwrap().contains("gave up"));
        let selector = "labelSelector=app.kubernetes.io%2Finstance%3Ddemo";
        let asked = api.asked();
        assert!(asked[0].contains(selector), "{asked:?}");
        assert_eq!(
            told(&pods(|pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()), 1, 0).await,
            None
        );
        assert_eq!(told(&pods(|pod| pod["metadata"]["ownerReferences"][0]["uid"] = "v".into()), 1, 0).await, None);
    }

    #[rstest]
    #[case::all_ready(1, 1)]
    #[case::none_wanted(0, 0)]
    #[case::more_than_wanted(0, 1)]
    #[tokio::test]
    async fn nobody_asks_for_pods_while_none_is_missing(#[case] replicas: u8, #[case] ready: u8) {
        let api = pods(|_| ());
        assert_eq!(told(&api, replicas, ready).await, None);
        assert_eq!(api.asked().len(), 0);
    }
}
