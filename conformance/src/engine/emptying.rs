//! Empties a namespace that is being deleted, kind by kind, and lets it go.
//!
//! The namespace controller does the same, but begins five seconds after the deletion, for clusters with several API
//! servers (`namespaceDeletionGracePeriod`), and looks again only after as many seconds as pods may take to end. Twenty
//! seconds for each scenario are too many.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::future::try_join_all;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::discovery::Scope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Discovery, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;

use super::watch::Backoff;

/// Kinds that are asked for at the same time.
const AT_A_TIME: usize = 8;

/// Finalizers that may have nobody left to take them away. Percona 2.8.2 holds the Job of a manual backup with this one,
/// and lets it go only when the backup has succeeded (its `pgbackup` controller): a Job that failed or was interrupted
/// would hold its namespace for ever.
const ABANDONED: [&str; 1] = ["internal.percona.com/keep-job"];

/// How the finalizers of scenarios begin. A scenario that was interrupted takes its own away no more.
const OF_SCENARIOS: &str = "example.com/";

type Metadata = PartialObjectMeta<DynamicObject>;

/// What is left in the namespace: by kind and name of the objects, their finalizers.
pub type Left = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Deletes everything in the namespace `name`, which refuses new objects already, waits until it is gone, and removes
/// the namespace's own finalizer. `left` follows what remains, for the message when the time is over.
///
/// # Errors
/// The API server refuses or cannot be reached.
pub async fn empty(client: &Client, name: &str, left: &watch::Sender<Left>) -> Result<(), kube::Error> {
    // A kind whose API server is away cannot be emptied: the namespace controller would wait for it as well.
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds: Vec<ApiResource> = discovery
        .groups()
        // Its objects are those of the core group, seen another way.
        .filter(|group| group.name() != "events.k8s.io")
        .flat_map(kube::discovery::ApiGroup::recommended_resources)
        .filter(|(_, capabilities)| {
            let deletable =
                ["list", "watch", "deletecollection"].iter().all(|verb| capabilities.supports_operation(verb));
            capabilities.scope == Scope::Namespaced && deletable
        })
        .map(|(resource, _)| resource)
        .collect();
    // An object that was admitted just before the deletion may appear after its kind was looked at: hence rounds, until
    // one of them finds nothing.
    loop {
        let mut filled = Vec::new();
        for kinds in kinds.chunks(AT_A_TIME) {
            let found = try_join_all(kinds.iter().map(|kind| is_filled(client, name, kind))).await?;
            filled.extend(kinds.iter().zip(found).filter(|(_, filled)| *filled).map(|(kind, _)| kind));
        }
        if filled.is_empty() {
            return finalize(client, name).await;
        }
        for kind in &filled {
            let api = api(client, name, kind);
            api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        }
        for kind in filled {
            gone(kind, api(client, name, kind), left).await;
        }
    }
}

fn api(client: &Client, namespace: &str, kind: &ApiResource) -> Api<Metadata> {
    Api::namespaced_with(client.clone(), namespace, kind)
}

async fn is_filled(client: &Client, namespace: &str, kind: &ApiResource) -> Result<bool, kube::Error> {
    match api(client, namespace, kind).list(&ListParams::default().limit(1)).await {
        Ok(list) => Ok(!list.items.is_empty()),
        // Its CRD was removed meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until the API server has no object of the kind in the namespace.
async fn gone(kind: &ApiResource, api: Api<Metadata>, left: &watch::Sender<Left>) {
    let mut objects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()).backoff(Backoff::default()));
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => {
                objects.clear();
                listed = false;
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                if is_abandoned(&object)
                    && let Err(error) = release(&api, &object).await
                {
                    tracing::debug!("releasing {} {}: {error}", kind.kind, object.name_any());
                }
                objects.insert(object.name_any(), object.finalizers().to_vec());
            }
            Ok(watcher::Event::InitDone) => listed = true,
            Ok(watcher::Event::Delete(object)) => {
                objects.remove(&object.name_any());
            }
            // The kind itself is gone, and its objects with it.
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404 => break,
            Err(error) => tracing::debug!("watching {}: {error}", kind.kind),
        }
        left.send_modify(|left| {
            left.insert(kind.kind.clone(), objects.clone());
        });
        if listed && objects.is_empty() {
            break;
        }
    }
    left.send_modify(|left| drop(left.remove(&kind.kind)));
}

/// Whether nothing but finalizers of this sort keeps a deleted object.
fn is_abandoned(object: &Metadata) -> bool {
    let finalizers = object.finalizers();
    object.metadata.deletion_timestamp.is_some()
        && !finalizers.is_empty()
        && finalizers
            .iter()
            .all(|finalizer| ABANDONED.contains(&finalizer.as_str()) || finalizer.starts_with(OF_SCENARIOS))
}

/// Takes the finalizers away, unless somebody else has changed the object meanwhile.
async fn release(api: &Api<Metadata>, object: &Metadata) -> Result<(), kube::Error> {
    let version = &object.metadata.resource_version;
    let patch = json!({ "metadata": { "resourceVersion": version, "finalizers": null } });
    match api.patch_metadata(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Says that nothing is left. The namespace controller may have been faster.
async fn finalize(client: &Client, name: &str) -> Result<(), kube::Error> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name }, "spec": { "finalizers": [] },
    });
    let api = Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone());
    match api.replace_subresource("finalize", name, &PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
