//! A client that writes only while its process leads.
//!
//! A process that stood still (a suspended machine, a paused container) goes on in the middle of a reconciliation, before it
//! learns that its Lease is another's. So each write looks at the time first.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use axum::http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::Instant;
use tower::BoxError;
use tower::filter::FilterLayer;

/// Until when writes are let through. Clones are the same fence.
///
/// By two clocks: the monotonic one stands still while a machine is suspended (`clock_gettime(2)`), and the other can be
/// set. Writes end with the first that is over; the next renewal of a Lease that is still held mends a clock that was set.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<RwLock<Option<(Instant, SystemTime)>>>);

impl Fence {
    /// Lets writes through until then. Without any such call they always are.
    pub fn open_until(&self, end: Instant) {
        let on_the_wall = SystemTime::now() + end.saturating_duration_since(Instant::now());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((end, on_the_wall));
    }

    /// Whether writes are let through at that moment, by the monotonic clock and by the one on the wall.
    pub(crate) fn is_open(&self, now: Instant, on_the_wall: SystemTime) -> bool {
        let end = self.0.read().unwrap_or_else(PoisonError::into_inner);
        end.is_none_or(|(end, end_on_the_wall)| now < end && on_the_wall < end_on_the_wall)
    }

    fn judge<T>(&self, request: Request<T>) -> Result<Request<T>, BoxError> {
        if request.method() == Method::GET || self.is_open(Instant::now(), SystemTime::now()) {
            return Ok(request);
        }
        Err("the lease has run out: nothing is written any more".into())
    }

    /// A client behind the fence. It sends nothing twice by itself, because kube does that behind any layer of ours.
    pub fn client(&self, mut config: Config) -> anyhow::Result<Client> {
        config.default_retry = false;
        let fence = self.clone();
        let layer = FilterLayer::new(move |request: Request<Body>| fence.judge(request));
        Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::never_elected("PATCH", None, true)]
    #[case::leads("PATCH", Some(Duration::from_secs(5)), true)]
    #[case::no_longer("PATCH", Some(Duration::ZERO), false)]
    #[case::creates_no_longer("POST", Some(Duration::ZERO), false)]
    #[case::may_read("GET", Some(Duration::ZERO), true)]
    fn writes_end_with_the_lease(#[case] method: &str, #[case] left: Option<Duration>, #[case] passes: bool) {
        let fence = Fence::default();
        if let Some(left) = left {
            fence.open_until(Instant::now() + left);
        }
        let request = Request::builder().method(method).body(()).unwrap();
        assert_eq!(fence.clone().judge(request).is_ok(), passes);
    }

    #[test]
    fn the_moment_itself_is_too_late() {
        let (fence, end) = (Fence::default(), Instant::now());
        fence.open_until(end);
        let wall = SystemTime::now();
        assert!(!fence.is_open(end, wall - Duration::from_mins(1)));
        fence.open_until(end + Duration::from_secs(10));
        assert!(fence.is_open(end, wall));
    }

    #[test]
    fn a_machine_that_was_suspended_writes_nothing() {
        let (fence, now) = (Fence::default(), Instant::now());
        fence.open_until(now + Duration::from_secs(10));
        assert!(fence.is_open(now, SystemTime::now()));
        assert!(!fence.is_open(now, SystemTime::now() + Duration::from_secs(11)));
    }
}
