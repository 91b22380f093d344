//! Opens watches, keeps them alive, and reads beside them when somebody is still waiting.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersion, PartialObjectMeta};
use kube::discovery::Scope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Error};
use serde_json::Value;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::feed::{Feed, Kind};
use super::record::{Key, Phase, Record, resource_version};

/// How long a watch may take to deliver what a direct read has shown, before that counts as help from the re-read.
pub const GRACE: Duration = Duration::from_secs(1);

type Feeds = HashMap<(Kind, Option<String>), Arc<Feed>>;

/// One per scenario: the watches it has opened so far. Dropping it ends them.
pub struct Hub {
    client: Client,
    feeds: Mutex<Feeds>,
    tasks: Mutex<JoinSet<()>>,
    definitions: OnceCell<watch::Receiver<u64>>,
    warnings: Mutex<Vec<String>>,
}

impl Hub {
    /// A hub without watches.
    pub fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            feeds: Mutex::default(),
            tasks: Mutex::default(),
            definitions: OnceCell::new(),
            warnings: Mutex::default(),
        })
    }

    /// The watch of `kind` in `namespace` (`None`: everywhere; also for cluster-scoped kinds). Opened at the first
    /// call. An absent kind is no error: it is looked for again whenever a CRD changes.
    pub fn feed(self: &Arc<Self>, kind: &Kind, namespace: Option<&str>) -> Arc<Feed> {
        let key = (kind.clone(), namespace.map(str::to_owned));
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = feeds.entry(key).or_insert_with(|| {
            let feed = Arc::new(Feed::new(kind.clone(), namespace.map(str::to_owned)));
            // The task holds no hub: it would keep itself alive.
            let follow = follow(self.client.clone(), feed.clone(), self.definitions());
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(follow);
            feed
        });
        feed.clone()
    }

    /// Every watch that was opened so far.
    pub fn feeds(&self) -> Vec<Arc<Feed>> {
        let feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut feeds: Vec<_> = feeds.values().cloned().collect();
        feeds.sort_by(|a, b| (a.kind(), a.namespace()).cmp(&(b.kind(), b.namespace())));
        feeds
    }

    /// What went wrong with the watches themselves, for the report.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the objects of `feed` directly and compares: the safety net. When the read is ahead of the watch, and the
    /// watch does not catch up within a second, the feed takes the read over, marks a gap, and a warning says so.
    pub async fn reread(&self, feed: &Feed) {
        let Some(list) = self.list(feed).await else { return };
        if timeout(GRACE, caught_up(feed, &list)).await.is_ok() {
            feed.works();
            return;
        }
        let warning = format!("the watch of {} did not deliver what a direct read found", feed.kind());
        tracing::warn!("{warning}");
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
        feed.overtaken_by(list.objects, list.as_of);
    }

    /// Waits until the watch has delivered all that was written before this call. `false` when that cannot be said.
    pub async fn catch_up(&self, feed: &Feed, limit: Duration) -> bool {
        let catch_up = async {
            feed.known().await;
            match self.list(feed).await {
                Some(list) => {
                    caught_up(feed, &list).await;
                    feed.works();
                    true
                }
                None => feed.read(|record| record.phase() == Phase::NotServed),
            }
        };
        timeout(limit, catch_up).await.unwrap_or(false)
    }

    /// The objects of the feed as they are now; `None` when they cannot be read.
    async fn list(&self, feed: &Feed) -> Option<Listing> {
        let (resource, namespaced) = feed.resource()?;
        let api = api(&self.client, feed, &resource, namespaced);
        let list = api.list(&ListParams::default()).await.ok()?;
        let as_of = list.metadata.resource_version.and_then(|text| text.parse().ok()).unwrap_or_default();
        Some(Listing { as_of, objects: list.items.into_iter().map(|object| feed.value(object)).collect() })
    }

    /// Wakes whenever a CRD changes. The watch behind it starts when the first kind turns out to be absent.
    fn definitions(self: &Arc<Self>) -> Definitions {
        Definitions { hub: Arc::downgrade(self) }
    }
}

/// The lazily opened watch of the CRDs.
struct Definitions {
    hub: std::sync::Weak<Hub>,
}

impl Definitions {
    async fn subscribe(&self) -> Option<watch::Receiver<u64>> {
        let hub = self.hub.upgrade()?;
        let receiver = hub
            .definitions
            .get_or_init(|| async {
                let (sender, receiver) = watch::channel(0);
                let watching = watch_definitions(hub.client.clone(), sender);
                hub.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(watching);
                receiver
            })
            .await;
        Some(receiver.clone())
    }
}

/// Metadata only: the schemas of some CRDs are larger than a megabyte.
async fn watch_definitions(client: Client, changed: watch::Sender<u64>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(Backoff::default()));
    while let Some(event) = events.next().await {
        if event.is_ok() {
            changed.send_modify(|count| *count += 1);
        }
    }
}

/// Watches for as long as it is not aborted; each round begins by asking whether the kind is served.
async fn follow(client: Client, feed: Arc<Feed>, definitions: Definitions) {
    let mut pauses = Backoff::default();
    let mut changes = None;
    loop {
        match discover(&client, feed.kind()).await {
            Ok(Some((resource, namespaced))) => {
                feed.served(resource.clone(), namespaced);
                let api = api(&client, &feed, &resource, namespaced);
                pauses = Backoff::default();
                watch_until_gone(api, &feed).await;
                continue;
            }
            Ok(None) => feed.not_served(),
            Err(error) => feed.failed(error.to_string()),
        }
        // Discovery answers a little later than the CRD says `Established`, and tells nobody: hence the short pauses
        // after a change, which grow until the next one.
        let pause = pauses.next().unwrap_or_default();
        if changes.is_none() {
            changes = definitions.subscribe().await;
        }
        let Some(changes) = &mut changes else { return };
        tokio::select! {
            () = sleep(pause) => {}
            woken = changes.changed() => if woken.is_ok() { pauses = Backoff::default() },
        }
    }
}

async fn watch_until_gone(api: Api<DynamicObject>, feed: &Feed) {
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(Backoff::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => feed.observe(event),
            Err(error) if is_absent(&error) => return,
            Err(error) => feed.failed(error.to_string()),
        }
    }
}

/// Asks the API server how it names `kind`; `None` when it does not serve it.
async fn discover(client: &Client, kind: &Kind) -> Result<Option<(ApiResource, bool)>, Error> {
    let version: GroupVersion = kind
        .api_version
        .parse()
        .map_err(|_| Error::Discovery(kube::error::DiscoveryError::InvalidGroupVersion(kind.api_version.clone())))?;
    match kube::discovery::oneshot::pinned_kind(client, &version.with_kind(&kind.kind)).await {
        Ok((resource, capabilities)) => Ok(Some((resource, capabilities.scope == Scope::Namespaced))),
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(Error::Discovery(kube::error::DiscoveryError::MissingKind(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

fn api(client: &Client, feed: &Feed, resource: &ApiResource, namespaced: bool) -> Api<DynamicObject> {
    match feed.namespace() {
        Some(namespace) if namespaced => Api::namespaced_with(client.clone(), namespace, resource),
        _ => Api::all_with(client.clone(), resource),
    }
}

/// Whether the API server has no such resource (any more).
fn is_absent(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return false;
    };
    matches!(error, Error::Api(status) if status.code == 404)
}

/// A direct read.
struct Listing {
    as_of: u64,
    objects: Vec<Value>,
}

/// Waits until `feed` knows everything that `list` knows, or more. A watch delivers in the order of resourceVersions.
async fn caught_up(feed: &Feed, list: &Listing) {
    let listed: BTreeSet<Key> = list.objects.iter().map(Key::of).collect();
    let newest = list.objects.iter().map(resource_version).max().unwrap_or_default();
    let behind = |record: &Record| {
        let deletion_to_come = || {
            let lingers =
                |(key, object): (&Key, &Arc<Value>)| !listed.contains(key) && resource_version(object) <= list.as_of;
            record.seen() < list.as_of && record.objects().iter().any(lingers)
        };
        record.seen() < newest || deletion_to_come()
    };
    let mut changes = feed.changes();
    while feed.read(behind) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
