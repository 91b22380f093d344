//! Watches everything that a reconciliation reads and says which `DittoServer`s to reconcile.
//!
//! Only `DittoServer`s are kept in memory. Everything else is watched as metadata alone (pods excepted, for their
//! status), and what is needed is read when it is needed.

use std::fmt::Debug;
use std::pin::pin;

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::gate::Source;
use super::pods;
use crate::api::{DittoServer, PerconaPGCluster, names};
use crate::backoff::WatchBackoff;

/// A stream of what to reconcile. Watch errors are logged and retried inside; they never end it.
pub type Queue = SelectAll<BoxStream<'static, ObjectRef<DittoServer>>>;

/// Starts every watch and calls `synced` once all `DittoServer`s are known. The queue must be polled for that to happen.
///
/// Not by `Store::wait_until_ready`: it wakes only the last of its waiters, and the controller is one.
pub fn start(client: &Client, synced: impl Fn() + Send + 'static) -> (Store<DittoServer>, Queue) {
    let (store, writer) = reflector::store::<DittoServer>();
    let servers = watcher(Api::<DittoServer>::all(client.clone()), watcher::Config::default())
        .backoff(WatchBackoff::default())
        .reflect(writer)
        .inspect(move |event| {
            if matches!(event, Ok(Event::InitDone)) {
                synced();
            }
        })
        .applied_objects()
        // Our own status writes change no generation.
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let managed = watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={}", names::OPERATOR));
    let secrets = watch::<Secret>(client, watcher::Config::default(), &store, referring);
    let given_up = watcher(Api::<Pod>::all(client.clone()), managed.clone())
        .backoff(WatchBackoff::default())
        .applied_objects()
        .filter_map(async |pod| server_of_pod(&logged(pod)?));
    let queue = futures::stream::select_all([
        servers.filter_map(async |server| Some(ObjectRef::from_obj(&logged(server)?))).boxed(),
        watch::<StatefulSet>(client, managed.clone(), &store, owner).boxed(),
        watch::<Service>(client, managed, &store, owner).boxed(),
        secrets.boxed(),
        given_up.boxed(),
        clusters(client, store.clone()).boxed(),
    ]);
    (store, queue)
}

/// The servers that objects of a kind lead to, by `lead`.
fn watch<K>(
    client: &Client,
    config: watcher::Config,
    store: &Store<DittoServer>,
    lead: Lead<PartialObjectMeta<K>>,
) -> impl Stream<Item = ObjectRef<DittoServer>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let events = watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), config).backoff(WatchBackoff::default());
    led(events, store.clone(), lead)
}

/// Says which servers an object leads to.
type Lead<K> = fn(&Store<DittoServer>, &K) -> Vec<ObjectRef<DittoServer>>;

/// The servers that the events of a watch lead to. What was deleted while a watch was interrupted has no event: after
/// each list but the first, every server is looked at.
fn led<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    store: Store<DittoServer>,
    lead: Lead<K>,
) -> impl Stream<Item = ObjectRef<DittoServer>> + Send
where
    K: Send,
{
    let mut listed = false;
    events.flat_map(move |event| {
        futures::stream::iter(match logged(event) {
            Some(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => lead(&store, &object),
            Some(Event::InitDone) if std::mem::replace(&mut listed, true) => {
                store.state().iter().map(|server| ObjectRef::from_obj(&**server)).collect()
            }
            Some(Event::Init | Event::InitDone) | None => Vec::new(),
        })
    })
}

fn logged<T>(result: Result<T, watcher::Error>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(%error, "watch interrupted, trying again")).ok()
}

/// The server that controls `object`.
fn owner<K: Resource>(_: &Store<DittoServer>, object: &K) -> Vec<ObjectRef<DittoServer>> {
    let mut owners = object.owner_references().iter().filter(|owner| owner.controller == Some(true));
    let server = owners.find(|owner| owner.kind == DittoServer::kind(&()));
    let reference = |name: &str| ObjectRef::new(name).within(&object.namespace().unwrap_or_default());
    server.map(|owner| reference(&owner.name)).into_iter().collect()
}

/// The server of a pod that gave up on its database once: that it did, and that it logs in now, shows nowhere else. All
/// else of pods shows in their StatefulSet.
fn server_of_pod(pod: &Pod) -> Option<ObjectRef<DittoServer>> {
    if !pods::has_given_up(pod) {
        return None;
    }
    let server = pod.labels().get("app.kubernetes.io/instance")?;
    Some(ObjectRef::new(server).within(&pod.namespace()?))
}

/// The servers that read `secret`. A Secret that none of them names causes nothing.
fn referring(store: &Store<DittoServer>, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<DittoServer>> {
    let (namespace, name) = (secret.namespace(), secret.name_any());
    let servers = store.state().into_iter().filter(|server| server.namespace() == namespace);
    servers.filter(|server| reads(server, &name)).map(|server| ObjectRef::from_obj(&*server)).collect()
}

/// Whether `server` reads the Secret `name`.
fn reads(server: &DittoServer, name: &str) -> bool {
    match Source::of(server) {
        Source::Sqlite => false,
        Source::External(reference) => reference.name == name,
        Source::Percona => {
            let backup = server.spec.percona.as_ref().and_then(|percona| percona.backup.as_ref());
            name == names::user_secret(&server.name_any())
                || backup.is_some_and(|backup| backup.secrets().any(|secret| secret == name))
        }
    }
}

/// Watches clusters whenever their kind exists: Percona may be installed long after this operator, and removed again.
fn clusters(client: &Client, store: Store<DittoServer>) -> impl Stream<Item = ObjectRef<DittoServer>> + Send + use<> {
    let (sender, receiver): (_, UnboundedReceiver<_>) = mpsc::unbounded();
    let follow = follow(client.clone(), store, sender);
    // The watches live in the stream: they end when it is dropped.
    futures::stream::select(receiver.map(Some), futures::stream::once(follow).map(|()| None))
        .filter_map(async |item| item)
}

async fn follow(client: Client, store: Store<DittoServer>, sender: UnboundedSender<ObjectRef<DittoServer>>) {
    let send = |server: ObjectRef<DittoServer>| drop(sender.unbounded_send(server));
    let send_all = || {
        let servers = store.state().into_iter().filter(|server| Source::of(server) == Source::Percona);
        servers.for_each(|server| send(ObjectRef::from_obj(&*server)));
    };
    let only = watcher::Config::default().fields(&format!("metadata.name={}", names::PERCONA_CRD));
    let mut crd = pin!(
        watcher(Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone()), only)
            .backoff(WatchBackoff::default())
    );
    let mut clusters: Option<BoxStream<'static, watcher::Result<Event<PartialObjectMeta<PerconaPGCluster>>>>> = None;
    let mut listed = false;
    loop {
        let changed = async {
            match &mut clusters {
                Some(clusters) => clusters.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = crd.next() => {
                let installed = match logged(event) {
                    Some(Event::Apply(_)) => true,
                    Some(Event::InitApply(_)) => { listed = true; true }
                    Some(Event::Delete(_)) => false,
                    Some(Event::InitDone) => std::mem::take(&mut listed),
                    Some(Event::Init) | None => continue,
                };
                if installed != clusters.is_some() {
                    tracing::info!(installed, crd = names::PERCONA_CRD, "percona");
                    clusters = installed.then(|| {
                        let all = Api::<PartialObjectMeta<PerconaPGCluster>>::all(client.clone());
                        watcher(all, watcher::Config::default()).backoff(WatchBackoff::default()).boxed()
                    });
                    send_all();
                }
            }
            Some(event) = changed => match event {
                Ok(Event::Apply(cluster) | Event::InitApply(cluster) | Event::Delete(cluster)) => {
                    // By name: a cluster that is not ours matters too.
                    if let Some(server) = cluster.name_any().strip_suffix(names::CLUSTER_SUFFIX) {
                        send(ObjectRef::new(server).within(&cluster.namespace().unwrap_or_default()));
                    }
                }
                // The kind is served now: whoever waited for that can create a cluster.
                Ok(Event::InitDone) => send_all(),
                Ok(Event::Init) => {}
                Err(error) => tracing::debug!(%error, "PerconaPGClusters cannot be watched yet"),
            },
            else => return,
        }
    }
}

#[cfg(test)]
mod tests;
