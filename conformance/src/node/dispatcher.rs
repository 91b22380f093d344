//! Watches the cluster: binds pods, hands them to their workers, and keeps the names of Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::names::names;
use super::worker::Worker;
use super::{Context, NODE};

/// The label on the pods of the Percona double, which runs them itself.
const PERCONA_LABEL: &str = "postgres-operator.crunchydata.com/cluster";

/// Until a binding that failed is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// Namespace and name.
type Key = (String, String);

fn key(object: &impl kube::Resource) -> Key {
    let metadata = object.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// What a pod is to this node.
#[derive(Debug, PartialEq, Eq)]
enum Concern {
    /// Another's, or over, or not to be scheduled yet.
    None,
    Bind,
    Run,
}

fn concern(pod: &Pod) -> Concern {
    let spec = pod.spec.as_ref();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_over = matches!(phase, Some("Succeeded" | "Failed"));
    match spec.and_then(|spec| spec.node_name.as_deref()) {
        _ if is_over || pod.labels().contains_key(PERCONA_LABEL) => Concern::None,
        Some(NODE) => Concern::Run,
        Some(_) => Concern::None,
        None => {
            let gated = spec.is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()));
            if gated || pod.metadata.deletion_timestamp.is_some() { Concern::None } else { Concern::Bind }
        }
    }
}

pub(super) struct Dispatcher {
    context: Arc<Context>,
    /// Every pod that was ours at some time and is not gone, by uid, with the way to tell its worker.
    pods: BTreeMap<String, (Pod, watch::Sender<Pod>)>,
    services: BTreeMap<Key, Service>,
    /// Names that we have put into the hosts file.
    published: BTreeMap<String, IpAddr>,
    /// While a list is under way: uids that it has named.
    listed: BTreeSet<String>,
}

impl Dispatcher {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            published: BTreeMap::new(),
            listed: BTreeSet::new(),
        }
    }

    /// Works for as long as it is polled.
    pub(super) async fn run(mut self) {
        let client = &self.context.client;
        let mut pods = watch_all(Api::<Pod>::all(client.clone()));
        let mut services = watch_all(Api::<Service>::all(client.clone()));
        loop {
            tokio::select! {
                Some(event) = pods.next() => self.note_pod(event),
                Some(event) = services.next() => self.note_service(event),
                else => return,
            }
            self.publish_names();
        }
    }

    fn note_pod(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.insert(pod.uid().unwrap_or_default());
                self.observe(pod);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.pods.retain(|uid, _| listed.contains(uid));
            }
            watcher::Event::Apply(pod) => self.observe(pod),
            // Its worker ends when the sender is dropped.
            watcher::Event::Delete(pod) => drop(self.pods.remove(&pod.uid().unwrap_or_default())),
        }
    }

    fn observe(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        if let Some((known, worker)) = self.pods.get_mut(&uid) {
            known.clone_from(&pod);
            worker.send_replace(pod);
            return;
        }
        match concern(&pod) {
            Concern::None => (),
            Concern::Bind => self.bind(&pod),
            Concern::Run => match Worker::new(Arc::clone(&self.context), pod.clone()) {
                Ok(worker) => {
                    let (sender, receiver) = watch::channel(pod.clone());
                    self.context.tasks.spawn(worker.run(receiver));
                    self.pods.insert(uid, (pod, sender));
                }
                Err(error) => self.context.events.warn(&pod, "FailedCreatePodSandBox", format!("{error:#}")),
            },
        }
    }

    /// There is one node and it has room for everything.
    fn bind(&self, pod: &Pod) {
        let (namespace, name) = key(pod);
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &namespace);
        self.context.tasks.spawn(self.context.shutdown.clone().run_until_cancelled_owned(async move {
            let parameters = PostParams::default();
            let bind = || api.create_subresource::<_, Value>("binding", &name, &parameters, &binding);
            while let Err(error) = bind().await {
                if matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code)) {
                    tracing::debug!(%error, namespace, name, "a pod is not bound");
                    return;
                }
                tokio::time::sleep(BIND_AGAIN).await;
            }
        }));
    }

    fn note_service(&mut self, event: watcher::Event<Service>) {
        match event {
            watcher::Event::Init => self.services.clear(),
            watcher::Event::InitApply(service) | watcher::Event::Apply(service) => {
                self.services.insert(key(&service), service);
            }
            watcher::Event::Delete(service) => drop(self.services.remove(&key(&service))),
            watcher::Event::InitDone => (),
        }
    }

    fn publish_names(&mut self) {
        let current = names(self.pods.values().map(|(pod, _)| pod), self.services.values());
        if current == self.published {
            return;
        }
        let hosts = &self.context.hosts;
        let gone = self.published.keys().filter(|name| !current.contains_key(*name)).map(String::as_str);
        let mut result = hosts.remove(gone);
        for (name, address) in &current {
            if self.published.get(name) != Some(address) {
                result = result.and(hosts.set([name.clone()], *address));
            }
        }
        match result {
            Ok(()) => self.published = current,
            Err(error) => tracing::error!(path = %hosts.path().display(), %error, "cannot write the hosts file"),
        }
    }
}

fn watch_all<K>(api: Api<K>) -> impl Stream<Item = watcher::Event<K>> + Unpin
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, watcher::Config::default()).default_backoff().filter_map(skip_errors).boxed()
}

/// The watcher goes on after an error, by itself.
async fn skip_errors<K>(event: watcher::Result<watcher::Event<K>>) -> Option<watcher::Event<K>> {
    event.inspect_err(|error| tracing::debug!(%error, "a watch of the node double was interrupted")).ok()
}

/// Tells the workers, for as long as it is polled, in which namespaces a Secret, ConfigMap or claim has come or changed.
pub(super) async fn watch_configuration(context: Arc<Context>) {
    let secrets = Api::<PartialObjectMeta<Secret>>::all(context.client.clone());
    let maps = Api::<PartialObjectMeta<ConfigMap>>::all(context.client.clone());
    let claims = Api::<PartialObjectMeta<PersistentVolumeClaim>>::all(context.client.clone());
    let of_configuration = futures::stream::select(namespaces_of_changes(secrets), namespaces_of_changes(maps));
    let mut changes = futures::stream::select(of_configuration, namespaces_of_changes(claims));
    while let Some(namespace) = changes.next().await {
        // No worker may be listening.
        let _ = context.configuration.send(namespace);
    }
}

fn namespaces_of_changes<K>(api: Api<K>) -> impl Stream<Item = String> + Unpin
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let namespace = async |event| match event {
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => K::meta(&object).namespace.clone(),
        watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_) => None,
    };
    watch_all(api).filter_map(namespace).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::unbound(json!({}), Concern::Bind)]
    #[case::ours(json!({"spec": {"nodeName": "dittofs-node"}}), Concern::Run)]
    #[case::another_nodes(json!({"spec": {"nodeName": "percona"}}), Concern::None)]
    #[case::perconas(json!({"metadata": {"labels": {"postgres-operator.crunchydata.com/cluster": "x"}}}), Concern::None)]
    #[case::gated(json!({"spec": {"schedulingGates": [{"name": "g"}]}}), Concern::None)]
    #[case::no_gates(json!({"spec": {"schedulingGates": []}}), Concern::Bind)]
    #[case::unbound_and_going(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Concern::None)]
    #[case::ours_and_going(
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeName": "dittofs-node"}}),
        Concern::Run)]
    #[case::over(json!({"spec": {"nodeName": "dittofs-node"}, "status": {"phase": "Failed"}}), Concern::None)]
    fn concerns(#[case] change: Value, #[case] expected: Concern) {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}});
        json_patch::merge(&mut pod, &change);
        assert_eq!(concern(&serde_json::from_value(pod).unwrap()), expected);
    }
}
