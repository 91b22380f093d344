//! Who may use a control plane now.
//!
//! Waiting is first come, first served: a scenario that needs the shared control plane for itself waits for those before
//! it, and those that come after it wait for it. So nobody starves.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};

use crate::environment::Isolation;

/// The queues.
#[derive(Clone, Debug)]
pub struct Lanes {
    shared: Arc<RwLock<()>>,
    /// Leave for control planes beside the shared one; none where there cannot be any.
    own: Option<Arc<Semaphore>>,
    /// The one beside the shared one for who must be alone.
    aside: Arc<RwLock<()>>,
}

/// Leave to use a control plane, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    _guard: Guard,
}

#[derive(Debug)]
#[expect(dead_code, reason = "a guard is held, not read")]
enum Guard {
    /// The shared one, with others.
    Shared(OwnedRwLockReadGuard<()>),
    /// The shared one, alone.
    Exclusive(OwnedRwLockWriteGuard<()>),
    /// One of its own.
    Own(OwnedSemaphorePermit),
}

impl Lanes {
    /// `own`: how many control planes beside the shared one there may be at a time.
    pub fn new(own: usize) -> Self {
        Self { own: Some(Arc::new(Semaphore::new(own.max(1)))), ..Self::single() }
    }

    /// There is the shared control plane alone: who needs one of its own gets the shared one, alone.
    pub fn single() -> Self {
        Self { shared: Arc::default(), own: None, aside: Arc::default() }
    }

    /// Waits for leave to use the control plane beside the shared one, alone. Given up by dropping the future.
    pub async fn enter_aside(&self) -> Permit {
        Permit { _guard: Guard::Exclusive(Arc::clone(&self.aside).write_owned().await) }
    }

    /// Waits for leave. Given up by dropping the future.
    pub async fn enter(&self, isolation: Isolation) -> Permit {
        let guard = match (isolation, &self.own) {
            (Isolation::Namespace, _) => Guard::Shared(Arc::clone(&self.shared).read_owned().await),
            (Isolation::Cluster, Some(own)) => match Arc::clone(own).acquire_owned().await {
                Ok(guard) => Guard::Own(guard),
                // Never closed.
                Err(_) => std::future::pending().await,
            },
            (Isolation::Operator, _) | (Isolation::Cluster, None) => {
                Guard::Exclusive(Arc::clone(&self.shared).write_owned().await)
            }
        };
        Permit { _guard: guard }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn namespaces_share_and_the_operator_lane_does_not() {
        let lanes = Lanes::new(1);
        let first = lanes.enter(Isolation::Namespace).await;
        let second = lanes.enter(Isolation::Namespace).await;
        let mut alone = Box::pin(lanes.enter(Isolation::Operator));
        assert!((&mut alone).now_or_never().is_none());
        drop((first, second));
        let alone = alone.await;
        assert!(lanes.enter(Isolation::Namespace).now_or_never().is_none());
        drop(alone);
        lanes.enter(Isolation::Namespace).await;
    }

    #[tokio::test]
    async fn one_at_a_time_is_alone_beside_the_others() {
        let lanes = Lanes::new(1);
        let _others = lanes.enter(Isolation::Namespace).await;
        let aside = lanes.enter_aside().await;
        assert!(lanes.enter_aside().now_or_never().is_none());
        assert!(lanes.enter(Isolation::Namespace).now_or_never().is_some());
        drop(aside);
        assert!(lanes.enter_aside().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_waits_for_the_operator_lane_is_not_overtaken() {
        let lanes = Lanes::new(1);
        let first = lanes.enter(Isolation::Namespace).await;
        let mut alone = Box::pin(lanes.enter(Isolation::Operator));
        assert!((&mut alone).now_or_never().is_none());
        let mut late = Box::pin(lanes.enter(Isolation::Namespace));
        assert!((&mut late).now_or_never().is_none(), "it would overtake");
        drop(first);
        let alone = alone.now_or_never().expect("its turn");
        assert!((&mut late).now_or_never().is_none());
        drop(alone);
        assert!(late.now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_blocks_nobody() {
        let lanes = Lanes::new(1);
        let _first = lanes.enter(Isolation::Namespace).await;
        let mut alone = Box::pin(lanes.enter(Isolation::Operator));
        assert!((&mut alone).now_or_never().is_none());
        drop(alone);
        assert!(lanes.enter(Isolation::Namespace).now_or_never().is_some());
    }

    #[tokio::test]
    async fn control_planes_of_their_own_are_limited_and_wait_for_no_lane() {
        let lanes = Lanes::new(2);
        let _alone = lanes.enter(Isolation::Operator).await;
        let first = lanes.enter(Isolation::Cluster).await;
        let _second = lanes.enter(Isolation::Cluster).await;
        assert!(lanes.enter(Isolation::Cluster).now_or_never().is_none());
        drop(first);
        assert!(lanes.enter(Isolation::Cluster).now_or_never().is_some());
    }

    #[tokio::test]
    async fn where_there_is_one_control_plane_who_needs_one_has_it_alone() {
        let lanes = Lanes::single();
        let alone = lanes.enter(Isolation::Cluster).await;
        assert!(lanes.enter(Isolation::Namespace).now_or_never().is_none());
        drop(alone);
        assert!(lanes.enter(Isolation::Namespace).now_or_never().is_some());
    }
}
