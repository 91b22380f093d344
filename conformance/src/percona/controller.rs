//! Watches, and a worker for every cluster.
//!
//! The real operator has one queue and one worker; here every cluster has its own, so that scenarios which run beside each
//! other do not wait for each other. What makes a pass happen is what makes one happen there, and nothing else: in
//! particular not the deletion of a user Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinHandle;

use super::backup::volume;
use super::cluster::{Cluster, Next, signature};
use super::context::{Context, Kind};
use super::faults::Faults;
use super::names::{CLUSTER_LABEL, CRUNCHY, Key};
use super::pods::Kubelet;

/// How long a worker waits after a failed pass: doubled up to the second one.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));
/// How long a broken watch waits before it is opened again. Short, because kinds can be installed at any moment.
const REOPEN: Duration = Duration::from_millis(500);

/// All workers.
pub struct Controller {
    pub(super) context: Arc<Context>,
    kubelet: Kubelet,
    workers: Mutex<BTreeMap<Key, Worker>>,
    /// What was last seen of an object that only some changes of which count.
    seen: Mutex<BTreeMap<String, Value>>,
    /// The clusters without `spec.proxy`, at which the operator crashes.
    pub(super) offenders: Mutex<BTreeSet<Key>>,
    /// Held for reading during a pass: who holds it for writing knows that nothing is under way.
    gate: RwLock<()>,
    /// Whether the operator runs, and how often it was started.
    running: watch::Sender<(bool, u64)>,
}

/// Names of objects, shared by the watches and a worker.
type Gone = Arc<Mutex<Vec<String>>>;

struct Worker {
    /// Counts the reasons for a pass.
    wanted: watch::Sender<u64>,
    /// The count that the last pass had seen that went through.
    done: watch::Receiver<u64>,
    /// The objects that are gone since the last pass, as [`Cluster::forget`] takes them.
    gone: Gone,
    task: JoinHandle<()>,
}

impl Controller {
    /// A controller without workers. [`Controller::watch_all`] makes it work.
    pub fn new(context: Arc<Context>) -> Arc<Self> {
        Arc::new(Self {
            context,
            kubelet: Kubelet::default(),
            workers: Mutex::default(),
            seen: Mutex::default(),
            offenders: Mutex::default(),
            gate: RwLock::default(),
            running: watch::Sender::new((true, 1)),
        })
    }

    /// Starts the watches. They run until the tasks are aborted, also while the operator is stopped: pods go on then.
    pub fn watch_all(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let labelled = || watcher::Config::default().labels(CLUSTER_LABEL);
        [
            (Kind::CLUSTER, watcher::Config::default()),
            (Kind::INNER, watcher::Config::default()),
            (Kind::BACKUP, watcher::Config::default()),
            (Kind::SECRET, labelled()),
            (Kind::POD, labelled()),
            (Kind::STATEFUL_SET, labelled()),
            (Kind::DEPLOYMENT, labelled()),
            (Kind::JOB, labelled()),
            (Kind::SERVICE, labelled()),
            (Kind::CLAIM, labelled()),
        ]
        .map(|(kind, config)| {
            let (this, events) = (Arc::clone(self), self.events(kind, config));
            tokio::spawn(async move { this.follow(kind, events).await })
        })
        .into_iter()
        .chain(volume::KINDS.map(|(_, kind)| {
            let (this, events) = (Arc::clone(self), self.events(kind, watcher::Config::default()));
            tokio::spawn(async move { this.follow_volumes(kind, events).await })
        }))
        .collect()
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<Key, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn offenders(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.offenders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the operator was not stopped.
    pub(super) fn is_running(&self) -> bool {
        self.running.borrow().0
    }

    /// The events of a watch, which is opened again whenever it breaks.
    fn events(&self, kind: Kind, config: watcher::Config) -> impl Stream<Item = Event<DynamicObject>> + use<> {
        let api: Api<DynamicObject> = Api::all_with(self.context.client.clone(), &kind.resource());
        watcher(api, config).filter_map(move |event| async move {
            match event {
                Ok(event) => Some(event),
                Err(error) => {
                    tracing::debug!(?kind, %error, "a watch of the Percona double broke, opening it again");
                    tokio::time::sleep(REOPEN).await;
                    None
                }
            }
        })
    }

    /// Brings the volumes up to date in which a changed object is, as a kubelet does: no reason for a pass.
    async fn follow_volumes(self: Arc<Self>, kind: Kind, events: impl Stream<Item = Event<DynamicObject>>) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let (Event::Apply(object) | Event::InitApply(object)) = event else { continue };
            for key in self.clusters(object.namespace().as_deref()) {
                if let Err(error) = volume::refresh(&self.context, &key, kind, &object.name_any()).await {
                    tracing::warn!(cluster = %key, %error, "the options of pgBackRest are not brought up to date");
                }
            }
        }
    }

    /// The clusters of a namespace.
    fn clusters(&self, namespace: Option<&str>) -> Vec<Key> {
        let workers = self.workers();
        workers.keys().filter(|key| Some(key.namespace.as_str()) == namespace).cloned().collect()
    }

    async fn follow(self: Arc<Self>, kind: Kind, events: impl Stream<Item = Event<DynamicObject>>) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Event::Apply(object) | Event::InitApply(object) => self.changed(kind, object),
                Event::Delete(object) => self.deleted(kind, &object),
                Event::Init | Event::InitDone => {}
            }
        }
    }

    fn changed(self: &Arc<Self>, kind: Kind, object: DynamicObject) {
        let key = key_of(kind, &object);
        let counts = match kind {
            // Our own status writes change neither of these.
            Kind::CLUSTER | Kind::INNER => self.note(kind, &object, &signature(&object)).is_none_or(|same| !same),
            // A Secret counts when its data changes: not when it appears, not when it loses its labels.
            Kind::SECRET => self.note(kind, &object, &object.data["data"]).is_some_and(|same| !same),
            // Of these only the loss counts.
            Kind::CLAIM | Kind::SERVICE => false,
            _ => true,
        };
        if kind == Kind::CLUSTER {
            self.look_for_crash(&object);
        }
        if kind == Kind::POD {
            self.kubelet.seen(&self.context, object);
        }
        if let (true, Some(key)) = (counts, key) {
            self.enqueue(key);
        }
    }

    fn deleted(self: &Arc<Self>, kind: Kind, object: &DynamicObject) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&identity(kind, object));
        if kind == Kind::POD {
            self.kubelet.gone(object);
        }
        let label = |name: &str| object.labels().get(&format!("{CRUNCHY}{name}"));
        let has_data = || label("role").is_some_and(|role| role == "pgdata") || label("pgbackrest-volume").is_some();
        if kind == Kind::CLAIM && has_data() {
            self.context.forget_volume(&object.namespace().unwrap_or_default(), &object.name_any());
        }
        let Some(key) = key_of(kind, object) else { return };
        if kind == Kind::CLUSTER {
            self.offenders().remove(&key);
        }
        if let Some(worker) = self.workers().get(&key) {
            let name = format!("{} {}", kind.name(), object.name_any());
            worker.gone.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        }
        if !matches!(kind, Kind::SECRET | Kind::CLAIM) {
            self.enqueue(key);
        }
    }

    /// Whether an object is as it was when it was last seen; `None` when it was never seen.
    fn note(&self, kind: Kind, object: &DynamicObject, now: &Value) -> Option<bool> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(identity(kind, object), now.clone()).map(|before| before == *now)
    }

    /// Asks for a pass over a cluster; the result tells when one that began after this has ended.
    pub fn enqueue(self: &Arc<Self>, key: Key) -> Pass {
        let mut workers = self.workers();
        let worker = workers.entry(key.clone()).or_insert_with(|| {
            let (wanted, reasons) = watch::channel(0);
            let (finished, done) = watch::channel(0);
            let (this, gone) = (Arc::clone(self), Gone::default());
            let work = this.work(key.clone(), reasons, finished, Arc::clone(&gone));
            Worker { wanted, done, gone, task: tokio::spawn(work) }
        });
        worker.wanted.send_modify(|count| *count += 1);
        Pass {
            number: *worker.wanted.borrow(),
            done: worker.done.clone(),
            running: self.running.subscribe(),
            faults: Arc::clone(&self.context.faults),
            namespace: key.namespace,
        }
    }

    async fn work(self: Arc<Self>, key: Key, mut wanted: watch::Receiver<u64>, done: watch::Sender<u64>, gone: Gone) {
        let mut running = self.running.subscribe();
        let mut cluster = Cluster::new(Arc::clone(&self.context), key.clone());
        let (mut started, mut retry) = (0, RETRY.0);
        loop {
            if !running.borrow().0 {
                // A process that has ended remembers nothing, and keeps no schedules.
                cluster = Cluster::new(Arc::clone(&self.context), key.clone());
            }
            let Ok(start) = running.wait_for(|state| state.0).await.map(|state| state.1) else { return };
            let passing = self.gate.read().await;
            if !running.borrow().0 {
                continue;
            }
            if start != started {
                cluster = Cluster::new(Arc::clone(&self.context), key.clone());
                started = start;
            }
            let number = *wanted.borrow_and_update();
            for name in std::mem::take(&mut *gone.lock().unwrap_or_else(PoisonError::into_inner)) {
                cluster.forget(&name);
            }
            let crashed = self.context.faults.crash(&key.namespace).is_some();
            let next = if crashed {
                // Its process has ended too.
                cluster = Cluster::new(Arc::clone(&self.context), key.clone());
                None
            } else {
                Some(cluster.pass().await)
            };
            drop(passing);
            if matches!(next, Some(Ok(_))) {
                retry = RETRY.0;
                done.send_replace(number);
            }
            let pause = match next {
                None | Some(Ok(Next::Wait)) => None,
                Some(Ok(Next::After(pause))) => Some(pause),
                Some(Err(error)) => {
                    tracing::debug!(cluster = %key, %error, "a pass of the Percona double failed, trying again");
                    retry = (retry * 2).min(RETRY.1);
                    Some(retry)
                }
            };
            let timer = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = timer => {}
                // Stopped, or started again: the loop looks at it.
                changed = running.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Asks for a pass over every cluster.
    pub fn enqueue_all(self: &Arc<Self>) {
        let keys: Vec<Key> = self.workers().keys().cloned().collect();
        for key in keys {
            self.enqueue(key);
        }
    }

    /// Stops the operator; returns when no pass is under way any more.
    pub async fn stop(&self) {
        self.running.send_modify(|state| state.0 = false);
        drop(self.gate.write().await);
    }

    /// Starts the operator again: it looks at every cluster, as a new process does.
    pub fn start(self: &Arc<Self>) {
        self.running.send_modify(|state| *state = (true, state.1 + 1));
        let offenders = self.offenders().clone();
        for offender in offenders {
            self.crash(offender);
        }
        self.enqueue_all();
    }

    /// Ends the workers and the pods' tasks.
    pub async fn end(&self) {
        self.stop().await;
        let workers = std::mem::take(&mut *self.workers());
        for worker in workers.into_values() {
            worker.task.abort();
        }
        self.kubelet.abort();
    }
}

/// A pass that was asked for.
pub struct Pass {
    number: u64,
    done: watch::Receiver<u64>,
    running: watch::Receiver<(bool, u64)>,
    faults: Arc<Faults>,
    namespace: String,
}

impl Pass {
    /// Returns when it has gone through, or when there is none to wait for: while the operator is stopped or crashed.
    pub async fn ended(mut self) {
        let number = self.number;
        // An error means that the double itself has ended.
        tokio::select! {
            _ = self.done.wait_for(|done| *done >= number) => {}
            _ = self.running.wait_for(|state| !state.0) => {}
            () = self.faults.crashed(&self.namespace) => {}
        }
    }
}

fn identity(kind: Kind, object: &DynamicObject) -> String {
    format!("{kind:?} {}", object.uid().unwrap_or_default())
}

/// The cluster that an object belongs to.
pub(super) fn key_of(kind: Kind, object: &DynamicObject) -> Option<Key> {
    let namespace = object.namespace()?;
    match kind {
        Kind::CLUSTER | Kind::INNER => Some(Key { namespace, name: object.name_any() }),
        Kind::BACKUP => Some(Key { namespace, name: object.data["spec"]["pgCluster"].as_str()?.to_owned() }),
        _ => Key::of(object),
    }
}
