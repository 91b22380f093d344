//! A client that writes only while its process leads.
//!
//! A process that stood still (a suspended machine, a paused container) goes on in the middle of a reconciliation, before it
//! learns that its Lease is another's. So each write looks at the time first.

use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::Instant;
use tower::BoxError;
use tower::filter::FilterLayer;

/// Until when writes are let through. Clones are the same fence.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<RwLock<Option<Instant>>>);

impl Fence {
    /// Lets writes through until then. Without any such call they always are.
    pub fn open_until(&self, end: Instant) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// Whether writes are let through at that moment.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_none_or(|end| now < end)
    }

    fn judge<T>(&self, request: Request<T>) -> Result<Request<T>, BoxError> {
        if request.method() == Method::GET || self.is_open(Instant::now()) {
            return Ok(request);
        }
        Err("the lease has run out: nothing is written any more".into())
    }

    /// A client behind the fence.
    pub fn client(&self, config: Config) -> anyhow::Result<Client> {
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
        assert!(fence.is_open(end - Duration::from_nanos(1)));
        assert!(!fence.is_open(end));
    }
}
