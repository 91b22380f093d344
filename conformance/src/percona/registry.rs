//! The server behind each cluster.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::backup::Repository;
use super::names::Key;
use crate::postgres::{Addresses, Place, Server};

/// What a cluster keeps for as long as it exists, however often its pods come and go.
pub struct Instance {
    /// Where its PostgreSQL is.
    pub place: Place,
    /// A directory of its own, with a short name: a path to a Unix socket has room for a hundred bytes only.
    pub directory: PathBuf,
    server: watch::Sender<Option<Arc<Server>>>,
    /// The volume claim of the instance whose server it is.
    leader: Mutex<Option<String>>,
    repository: Mutex<Option<Repository>>,
}

impl Instance {
    /// The server, while it runs.
    pub fn server(&self) -> Option<Arc<Server>> {
        self.server.borrow().clone()
    }

    pub(super) fn set_server(&self, server: Option<Arc<Server>>) {
        self.server.send_replace(server);
    }

    /// Returns when the server runs.
    pub(super) async fn has_server(&self) {
        // An error means that the sender is gone, which `self` holds.
        let _ = self.server.subscribe().wait_for(Option::is_some).await;
    }

    /// The volume claim of the instance that leads: the one that has the server.
    pub(super) fn leader(&self) -> Option<String> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the instance with this volume claim the leader, unless there is one. Whether it leads now.
    pub(super) fn claim_leadership(&self, claim: &str) -> bool {
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.get_or_insert_with(|| claim.to_owned()) == claim
    }

    /// Nobody leads any more, if it was the instance with this volume claim.
    pub(super) fn resign(&self, claim: &str) {
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if leader.as_deref() == Some(claim) {
            *leader = None;
        }
    }

    /// Its pgBackRest, from the first start of a PostgreSQL with backups on.
    pub fn repository(&self) -> Option<Repository> {
        self.repository.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_repository(&self, repository: Option<Repository>) {
        *self.repository.lock().unwrap_or_else(PoisonError::into_inner) = repository;
    }
}

/// All clusters of a double.
#[derive(Default)]
pub struct Registry {
    addresses: Addresses,
    clusters: Mutex<(usize, BTreeMap<Key, Arc<Instance>>)>,
}

impl Registry {
    /// A registry that takes its addresses from `addresses`.
    pub fn new(addresses: Addresses) -> Self {
        Self { addresses, ..Self::default() }
    }

    /// The cluster's instance, with an address and a directory under `directory`; made at the first call.
    ///
    /// # Errors
    /// There is no free address, or the directory cannot be made.
    pub fn instance(&self, key: &Key, directory: &Path) -> io::Result<Arc<Instance>> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = clusters.1.get(key) {
            return Ok(Arc::clone(instance));
        }
        clusters.0 += 1;
        let directory = directory.join(format!("c{}", clusters.0));
        std::fs::DirBuilder::new().create(&directory)?;
        let instance = Arc::new(Instance {
            place: self.addresses.take()?,
            directory,
            server: watch::Sender::default(),
            leader: Mutex::default(),
            repository: Mutex::default(),
        });
        clusters.1.insert(key.clone(), Arc::clone(&instance));
        Ok(instance)
    }

    /// The cluster's instance, if it has one.
    pub fn get(&self, key: &Key) -> Option<Arc<Instance>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).1.get(key).cloned()
    }

    /// Forgets a cluster that is gone.
    pub(super) fn remove(&self, key: &Key) {
        let removed = self.clusters.lock().unwrap_or_else(PoisonError::into_inner).1.remove(key);
        if let Some(instance) = removed {
            self.addresses.give_back(instance.place.listen);
        }
    }

    /// All instances.
    pub(super) fn all(&self) -> Vec<Arc<Instance>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).1.values().cloned().collect()
    }
}
