//! Reads what the gate needs, and no more: each step needs the client.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::build;
use super::gate::{Cluster, Facts, Source};
use super::pods;
use crate::api::{DittoServer, PerconaPGCluster, names};

/// Reads the facts about `server`'s database.
pub async fn facts(client: &Client, server: &DittoServer) -> kube::Result<Facts> {
    let namespace = server.namespace().unwrap_or_default();
    let mut facts = Facts { cluster: Cluster::NotFound, secret: None, backup_secret_missing: false };
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
    let status = cluster.status.clone().unwrap_or_default();
    if status.state == "ready" {
        facts.secret = secret(client, &namespace, &names::user_secret(&server.name_any())).await?;
        return Ok(());
    }
    let backup = server.spec.percona.as_ref().and_then(|percona| percona.backup.as_ref());
    if let Some(reference) =
        backup.filter(|backup| backup.enabled).and_then(|backup| backup.credentials_secret_ref.as_ref())
    {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        facts.backup_secret_missing = secrets.get_metadata_opt(&reference.name).await?.is_none();
    }
    Ok(())
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
    let owner = found.owner_references().iter().find(|owner| owner.controller == Some(true));
    match owner {
        Some(owner) if Some(&owner.uid) == server.metadata.uid.as_ref() => Cluster::Ours(Box::new(found)),
        Some(owner) if owner.kind == "DittoServer" && owner.name == server.name_any() => {
            Cluster::Foreign(format!("belongs to an earlier DittoServer of this name (uid {})", owner.uid))
        }
        Some(owner) => Cluster::Foreign(format!("belongs to {} {}", owner.kind, owner.name)),
        None => Cluster::Foreign("has no controller: somebody else made it".to_owned()),
    }
}

/// Reads the StatefulSet of `server`.
pub async fn workload(client: &Client, server: &DittoServer) -> kube::Result<Option<StatefulSet>> {
    Api::namespaced(client.clone(), &server.namespace().unwrap_or_default()).get_opt(&server.name_any()).await
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
