//! Writes. Everything is server-side applied under one field manager, except the `PerconaPGCluster`: it is created once
//! and never applied again, so that what its user and Percona itself write into it survives.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::build::statefulset::{PodOptions, kept_digest, statefulset};
use super::build::{self, services};
use super::dereference::{is_unserved, whose};
use super::gate::{Cluster, Verdict};
use super::status::Failure;
use crate::api::spec::Percona;
use crate::api::{DittoServer, DittoServerStatus, PerconaPGCluster, names};

/// Creates the cluster that `percona` asks for, or says why it cannot be.
pub async fn create_cluster(client: &Client, server: &DittoServer, percona: &Percona) -> kube::Result<Cluster> {
    let clusters: Api<PerconaPGCluster> = Api::namespaced(client.clone(), &server.namespace().unwrap_or_default());
    let wanted = build::cluster::cluster(server, percona);
    let parameters = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
    match clusters.create(&parameters, &wanted).await {
        Ok(created) => Ok(Cluster::Ours(Box::new(created))),
        Err(kube::Error::Api(error)) if error.code == 409 => {
            let found = clusters.get_opt(&wanted.name_any()).await?;
            Ok(found.map_or(Cluster::NotFound, |found| whose(server, found)))
        }
        Err(error) if is_unserved(&error) => Ok(Cluster::NotInstalled),
        Err(error) => Err(error),
    }
}

/// Applies both Services.
pub async fn apply_services(client: &Client, server: &DittoServer) -> kube::Result<()> {
    apply::<Service>(client, &services::headless(server)).await?;
    apply::<Service>(client, &services::api(server)).await?;
    Ok(())
}

/// Applies the StatefulSet. While the database is not ready, one that exists keeps the credentials that it has; while those
/// are not to be had at all, only its size changes, because a pod that is replaced then could not start.
pub async fn apply_workload(
    client: &Client,
    server: &DittoServer,
    options: &PodOptions,
    verdict: &Verdict,
    workload: Option<StatefulSet>,
) -> Result<Option<StatefulSet>, ApplyError> {
    if verdict.ready {
        let wanted = statefulset(server, options, verdict.digest.as_deref());
        return apply(client, &wanted).await.map(Some).map_err(ApplyError::from);
    }
    let Some(workload) = workload else { return Ok(None) };
    if verdict.reason == "WaitingForPostgreSQL"
        && let Some(digest) = kept_digest(&workload, server)
    {
        let wanted = statefulset(server, options, Some(&digest));
        return apply(client, &wanted).await.map(Some).map_err(ApplyError::from);
    }
    if workload.spec.as_ref().and_then(|spec| spec.replicas) == Some(server.spec.replicas) {
        return Ok(Some(workload));
    }
    let workloads: Api<StatefulSet> = Api::namespaced(client.clone(), &server.namespace().unwrap_or_default());
    let size = Patch::Merge(json!({ "spec": { "replicas": server.spec.replicas } }));
    let parameters = PatchParams { field_manager: Some(names::OPERATOR.to_owned()), ..PatchParams::default() };
    Ok(Some(workloads.patch(&workload.name_any(), &parameters, &size).await?))
}

/// Why a StatefulSet could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server will never accept it: trying again is no use until the spec changes.
    #[error("{}", .0.message)]
    Rejected(Failure),
    /// Anything else.
    #[error(transparent)]
    Api(kube::Error),
}

impl From<kube::Error> for ApplyError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(response) if response.code == 422 => Self::Rejected(rejected(&response)),
            other => Self::Api(other),
        }
    }
}

fn rejected(response: &Status) -> Failure {
    let hint = if response.message.contains("updates to statefulset spec") {
        "; volumes and their sizes cannot change: set spec.storage back, or delete the StatefulSet (its volumes stay) and resize the claims"
    } else {
        ""
    };
    Failure {
        reason: "StatefulSetRejected",
        message: format!("the API server refuses the StatefulSet: {}{hint}", response.message),
    }
}

/// Writes the status.
pub async fn write_status(client: &Client, server: &DittoServer, status: &DittoServerStatus) -> kube::Result<()> {
    let servers: Api<DittoServer> = Api::namespaced(client.clone(), &server.namespace().unwrap_or_default());
    let patch =
        json!({ "apiVersion": DittoServer::api_version(&()), "kind": DittoServer::kind(&()), "status": status });
    let parameters = PatchParams::apply(names::OPERATOR).force();
    servers.patch_status(&server.name_any(), &parameters, &Patch::Apply(patch)).await.map(drop)
}

async fn apply<K>(client: &Client, wanted: &K) -> kube::Result<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &wanted.namespace().unwrap_or_default());
    api.patch(&wanted.name_any(), &PatchParams::apply(names::OPERATOR).force(), &Patch::Apply(wanted)).await
}
