//! The crash loop: the operator's process ends whenever it sees a cluster without `spec.proxy` (`observed.md`, 1.1).

use std::sync::Arc;

use kube::core::DynamicObject;

use super::context::Kind;
use super::controller::{Controller, key_of};
use super::names::Key;

impl Controller {
    /// Takes note of a cluster, at which the operator may crash.
    pub(super) fn look_for_crash(self: &Arc<Self>, cluster: &DynamicObject) {
        let Some(key) = key_of(Kind::CLUSTER, cluster) else { return };
        if !cluster.data["spec"]["proxy"].is_null() {
            self.offenders().remove(&key);
            return;
        }
        self.offenders().insert(key.clone());
        if self.is_running() {
            self.crash(key);
        }
    }

    /// The operator crashes because of a cluster, unless it has already: it is started again, and sees it again, until
    /// there is no such cluster, or until somebody stops it.
    pub(super) fn crash(self: &Arc<Self>, key: Key) {
        let Some(mut crash) = self.context.faults.begin_crash(&key) else { return };
        tracing::info!(cluster = %key, "the Percona double crashes: spec.proxy is missing");
        // Whatever its process remembers is lost, also the schedules.
        self.enqueue_all();
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(crash.back_off()).await;
                match this.offender(&key).filter(|_| this.is_running()) {
                    Some(offender) => crash = this.context.faults.crash_again(&offender),
                    None => break,
                }
            }
            this.context.faults.end_crash(&key.namespace);
            this.enqueue_all();
        });
    }

    /// A cluster that makes the operator crash again.
    fn offender(&self, key: &Key) -> Option<Key> {
        let shares = |other: &&Key| self.context.faults.share_a_crash(&key.namespace, &other.namespace);
        self.offenders().iter().find(shares).cloned()
    }
}
