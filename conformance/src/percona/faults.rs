//! What goes wrong on purpose, and the crash that 2.8 brings on itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;

use super::names::Key;

/// How long Kubernetes waits before it restarts a crashed container: doubled with every crash, from the first to the
/// last of these.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// Whom a crash of the operator stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrashScope {
    /// The clusters of the namespace of the cluster that has no `spec.proxy`. The real operator has one process for all
    /// of them; this keeps scenarios that run beside each other apart.
    #[default]
    Namespace,
    /// Everything, as in reality.
    Operator,
}

/// A crash loop: the operator ends whenever it sees a cluster without `spec.proxy` (`observed.md`, 1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// A cluster that has no `spec.proxy`.
    pub cluster: Key,
    /// How often it has ended.
    pub times: u32,
}

impl Crash {
    /// How long Kubernetes waits before it starts the operator again.
    pub(super) fn back_off(&self) -> Duration {
        BACK_OFF.0.saturating_mul(1 << self.times.saturating_sub(1).min(8)).min(BACK_OFF.1)
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    scope: CrashScope,
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Withheld keys of a cluster's user Secrets; none means all of them, and the Secret itself.
    secrets: BTreeMap<Key, BTreeSet<String>>,
    ready: BTreeSet<Key>,
    crashes: BTreeMap<String, Crash>,
}

impl Faults {
    /// No faults.
    pub fn new(scope: CrashScope) -> Self {
        Self { scope, state: watch::Sender::default() }
    }

    fn state(&self) -> watch::Ref<'_, State> {
        self.state.borrow()
    }

    /// The keys that are withheld from the user Secrets of `key`; empty means that the Secret is.
    pub(super) fn held_keys(&self, key: &Key) -> Option<BTreeSet<String>> {
        self.state().secrets.get(key).cloned()
    }

    pub(super) fn hold_secret(&self, key: Key, keys: BTreeSet<String>) {
        self.state.send_modify(|state| drop(state.secrets.insert(key, keys)));
    }

    pub(super) fn release_secret(&self, key: &Key) {
        self.state.send_modify(|state| drop(state.secrets.remove(key)));
    }

    /// Whether the cluster is to look as if it did not become ready.
    pub(super) fn holds_ready(&self, key: &Key) -> bool {
        self.state().ready.contains(key)
    }

    pub(super) fn hold_ready(&self, key: Key) {
        self.state.send_modify(|state| _ = state.ready.insert(key));
    }

    pub(super) fn release_ready(&self, key: &Key) {
        self.state.send_modify(|state| _ = state.ready.remove(key));
    }

    /// The crash loop that keeps the operator from looking after this namespace.
    pub fn crash(&self, namespace: &str) -> Option<Crash> {
        self.state().crashes.get(self.scope_of(namespace)).cloned()
    }

    /// Returns when a crash loop keeps the operator from looking after this namespace.
    pub(super) async fn crashed(&self, namespace: &str) {
        let scope = self.scope_of(namespace);
        // An error means that the sender is gone, which `self` holds.
        let _ = self.state.subscribe().wait_for(|state| state.crashes.contains_key(scope)).await;
    }

    /// Notes that the operator has ended because of `cluster`; the result is the crash loop when it has just begun.
    pub(super) fn begin_crash(&self, cluster: &Key) -> Option<Crash> {
        let scope = self.scope_of(&cluster.namespace).to_owned();
        let crash = Crash { cluster: cluster.clone(), times: 1 };
        let begins = self.state.send_if_modified(|state| {
            let begins = !state.crashes.contains_key(&scope);
            state.crashes.entry(scope).or_insert(crash.clone());
            begins
        });
        begins.then_some(crash)
    }

    /// Notes that it has ended once more.
    pub(super) fn crash_again(&self, cluster: &Key) -> Crash {
        let scope = self.scope_of(&cluster.namespace).to_owned();
        let mut again = Crash { cluster: cluster.clone(), times: 1 };
        self.state.send_modify(|state| {
            again.times += state.crashes.get(&scope).map_or(0, |crash| crash.times);
            state.crashes.insert(scope, again.clone());
        });
        again
    }

    /// Notes that it runs again.
    pub(super) fn end_crash(&self, namespace: &str) {
        let scope = self.scope_of(namespace).to_owned();
        self.state.send_modify(|state| drop(state.crashes.remove(&scope)));
    }

    /// Whether a crash because of a cluster in `a` also stops the clusters in `b`.
    pub(super) fn share_a_crash(&self, a: &str, b: &str) -> bool {
        self.scope_of(a) == self.scope_of(b)
    }

    fn scope_of<'a>(&self, namespace: &'a str) -> &'a str {
        match self.scope {
            CrashScope::Namespace => namespace,
            CrashScope::Operator => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str) -> Key {
        Key { namespace: namespace.into(), name: "demo".into() }
    }

    #[test]
    fn the_back_off_doubles_up_to_five_minutes() {
        let faults = Faults::new(CrashScope::Namespace);
        let mut waits = vec![faults.begin_crash(&key("a")).unwrap().back_off().as_secs()];
        waits.extend((0..6).map(|_| faults.crash_again(&key("a")).back_off().as_secs()));
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        faults.end_crash("a");
        assert_eq!(faults.crash("a"), None);
    }

    #[test]
    fn a_crash_stops_a_namespace_or_everything() {
        for (scope, other) in [(CrashScope::Namespace, false), (CrashScope::Operator, true)] {
            let faults = Faults::new(scope);
            faults.begin_crash(&key("a"));
            assert!(faults.crash("a").is_some());
            assert_eq!(faults.crash("b").is_some(), other);
            assert_eq!(faults.begin_crash(&key("a")), None, "one loop, however often it is noticed");
        }
    }
}
