//! Writes. Everything is server-side applied under one field manager, except the `PerconaPGCluster`: it is created once
//! and never applied again, so that what its user and Percona itself write into it survives.
//!
//! What is as it should be is not written again: an operator that is settled is quiet. What somebody else has made is not
//! written at all.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::build::statefulset::{PodOptions, kept_digest, statefulset, with_volumes_of};
use super::build::{self, services};
use super::dereference::{is_ours, is_unserved, whose};
use super::gate::{Cluster, Verdict};
use super::status::Failure;
use crate::api::spec::Percona;
use crate::api::{DittoServer, DittoServerStatus, PerconaPGCluster, names};

/// Creates the cluster that `percona` asks for, or says why it cannot be. The error is the API server's, also when that
/// refuses the cluster.
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
pub async fn apply_services(client: &Client, applied: &Applied, server: &DittoServer) -> Result<(), ApplyError> {
    for service in [services::headless(server), services::api(server)] {
        apply::<Service>(client, applied, server, &service).await?;
    }
    Ok(())
}

/// Applies the StatefulSet. While the database is not ready, one that exists keeps the credentials that it has; while its Secret
/// is not complete, only its size changes, because a pod that is replaced then could not start.
pub async fn apply_workload(
    client: &Client,
    applied: &Applied,
    server: &DittoServer,
    options: &PodOptions,
    verdict: &Verdict,
    workload: Option<StatefulSet>,
) -> Result<Option<StatefulSet>, ApplyError> {
    if verdict.ready {
        let wanted = statefulset(server, options, verdict.digest.as_deref());
        return apply_statefulset(client, applied, server, wanted).await.map(Some);
    }
    let Some(workload) = workload else { return Ok(None) };
    if verdict.credentials
        && let Some(digest) = kept_digest(&workload, server)
    {
        let wanted = statefulset(server, options, Some(&digest));
        return apply_statefulset(client, applied, server, wanted).await.map(Some);
    }
    if workload.spec.as_ref().and_then(|spec| spec.replicas) == Some(server.spec.replicas) {
        return Ok(Some(workload));
    }
    let workloads: Api<StatefulSet> = Api::namespaced(client.clone(), &server.namespace().unwrap_or_default());
    let size = Patch::Merge(json!({ "spec": { "replicas": server.spec.replicas } }));
    let parameters = PatchParams { field_manager: Some(names::OPERATOR.to_owned()), ..PatchParams::default() };
    let resized = workloads.patch(&workload.name_any(), &parameters, &size).await;
    resized.map(Some).map_err(ApplyError::of::<StatefulSet>)
}

/// Applies a StatefulSet. Its volumes cannot change: where the API server refuses it for theirs, all else goes on with those that
/// are there, because a rotation must not wait until somebody sets `spec.storage` back. The refusal is the answer all the same.
fn apply_statefulset<'a>(
    client: &'a Client,
    applied: &'a Applied,
    server: &'a DittoServer,
    wanted: StatefulSet,
) -> BoxFuture<'a, Result<StatefulSet, ApplyError>> {
    // On the heap: a StatefulSet is large.
    Box::pin(async move {
        let refusal = match apply(client, applied, server, &wanted).await {
            Err(ApplyError::Refused(why, error)) if is_about_volumes(&error) => ApplyError::Refused(why, error),
            outcome => return outcome,
        };
        let workloads: Api<StatefulSet> = Api::namespaced(client.clone(), &server.namespace().unwrap_or_default());
        if let Some(found) = workloads.get_opt(&wanted.name_any()).await.map_err(ApplyError::of::<StatefulSet>)? {
            apply(client, applied, server, &with_volumes_of(&found, wanted)).await?;
        }
        Err(refusal)
    })
}

/// Whether the API server refuses a StatefulSet for a field that cannot change: of those that the operator sets, the volumes.
fn is_about_volumes(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(response) if volumes_cannot_change(response))
}

/// Why an object could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server does not accept it (a quota, a policy, a missing permission, a field that cannot change), or somebody else
    /// has made an object of its name. Nothing tells when that changes.
    #[error("{}", .0.message)]
    Refused(Failure, #[source] kube::Error),
    /// Anything else.
    #[error(transparent)]
    Api(kube::Error),
}

impl ApplyError {
    /// What the API server says of an object of the kind `K`.
    fn of<K: Resource<DynamicType = ()>>(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(response) if is_refused(&response) => {
                let failure = Failure { reason: reason::<K>(), message: rejected(&K::kind(&()), &response) };
                Self::Refused(failure, kube::Error::Api(response))
            }
            other => Self::Api(other),
        }
    }

    /// Somebody else has made `name`: tried again like what the API server refuses.
    fn foreign<K: Resource<DynamicType = ()>>(name: &str) -> Self {
        let kind = K::kind(&());
        let message = format!("{kind} {name} was made by somebody else; delete it, or name the DittoServer otherwise");
        let conflict = Status::failure(&message, "Conflict").with_code(409).boxed();
        Self::Refused(Failure { reason: reason::<K>(), message }, kube::Error::Api(conflict))
    }
}

/// The reason of `Ready` when an object of the kind `K` is not accepted.
fn reason<K: Resource<DynamicType = ()>>() -> &'static str {
    if K::kind(&()) == "Service" { "ServiceRejected" } else { "StatefulSetRejected" }
}

/// Whether the API server does not accept an object as it is: a quota or a missing permission (403), a policy (400, 403 or 422:
/// a `ValidatingAdmissionPolicy` that names no reason), a field that cannot change (422), somebody's webhook that does not answer
/// (500). Nothing tells when it will.
pub fn is_refused(response: &Status) -> bool {
    [400, 403, 422].contains(&response.code)
        || response.code == 500 && response.message.contains("failed calling webhook")
}

/// Whether a field of a StatefulSet that cannot change would. Up to Kubernetes 1.36 the API server names those that can, from 1.37
/// on the one that cannot (`ValidateStatefulSetUpdate`).
fn volumes_cannot_change(response: &Status) -> bool {
    let mut causes = response.details.iter().flat_map(|details| &details.causes);
    response.message.contains("updates to statefulset spec")
        || causes
            .any(|cause| cause.field == "spec.volumeClaimTemplates" && cause.message.contains("field is immutable"))
}

/// What is told of a refusal. Of volumes without the API server's own words, which can be both of their templates as a whole.
fn rejected(kind: &str, response: &Status) -> String {
    let why = if volumes_cannot_change(response) {
        "volumes and their sizes cannot change: set spec.storage back, or delete the StatefulSet (its volumes stay) and resize the claims"
    } else {
        &response.message
    };
    format!("the API server refuses the {kind}: {why}")
}

/// Writes the status.
pub async fn write_status(client: &Client, server: &DittoServer, status: &DittoServerStatus) -> kube::Result<()> {
    let servers: Api<DittoServer> = Api::namespaced(client.clone(), &server.namespace().unwrap_or_default());
    let patch =
        json!({ "apiVersion": DittoServer::api_version(&()), "kind": DittoServer::kind(&()), "status": status });
    let parameters = PatchParams::apply(names::OPERATOR).force();
    servers.patch_status(&server.name_any(), &parameters, &Patch::Apply(patch)).await.map(drop)
}

/// Applies `wanted`, unless this process has applied just that before and it still is as it became by that. The memory is needed:
/// what an object has and `wanted` no longer names is taken away by an apply, and is not seen by comparing; and the API server
/// writes some values in its own way (`0.5` of a CPU as `500m`).
///
/// What somebody else has made under its name is not touched.
async fn apply<K>(client: &Client, applied: &Applied, server: &DittoServer, wanted: &K) -> Result<K, ApplyError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &wanted.namespace().unwrap_or_default());
    let name = wanted.name_any();
    let json =
        |object: &K| serde_json::to_value(object).map_err(|error| ApplyError::Api(kube::Error::SerdeError(error)));
    let content = json(wanted)?;
    let key = format!("{}/{name}", K::kind(&()));
    if let Some(found) = api.get_opt(&name).await.map_err(ApplyError::of::<K>)? {
        if !is_ours(server, &found) {
            return Err(ApplyError::foreign::<K>(&name));
        }
        if applied.last(server, &key) == Some(Written::of(&content, &json(&found)?)) {
            return Ok(found);
        }
    }
    let result = api.patch(&name, &PatchParams::apply(names::OPERATOR).force(), &Patch::Apply(wanted)).await;
    let result = result.map_err(ApplyError::of::<K>)?;
    applied.note(server, key, Written::of(&content, &json(&result)?));
    Ok(result)
}

/// What this process has applied last, by server and object.
#[derive(Debug, Default)]
pub struct Applied(Mutex<HashMap<ObjectRef<DittoServer>, HashMap<String, Written>>>);

/// What was sent, and what the object held of it afterwards; as fingerprints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    sent: u64,
    held: u64,
}

impl Written {
    fn of(wanted: &Value, found: &Value) -> Self {
        Self { sent: fingerprint(wanted), held: fingerprint(&named(found, wanted)) }
    }
}

impl Applied {
    fn last(&self, server: &DittoServer, key: &str) -> Option<Written> {
        self.lock().get(&ObjectRef::from_obj(server))?.get(key).copied()
    }

    fn note(&self, server: &DittoServer, key: String, written: Written) {
        self.lock().entry(ObjectRef::from_obj(server)).or_default().insert(key, written);
    }

    /// Forgets a server that is gone.
    pub fn forget(&self, server: &ObjectRef<DittoServer>) {
        self.lock().remove(server);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<DittoServer>, HashMap<String, Written>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprint(content: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// What `found` holds of the fields that `wanted` names. The API server adds others to an object.
fn named(found: &Value, wanted: &Value) -> Value {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .map(|(key, wanted)| (key.clone(), found.get(key).map_or(Value::Null, |found| named(found, wanted))))
            .collect(),
        (Value::Array(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            found.iter().zip(wanted).map(|(found, wanted)| named(found, wanted)).collect()
        }
        _ => found.clone(),
    }
}

#[cfg(test)]
mod tests;
