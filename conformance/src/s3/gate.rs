//! What every request passes before the protocol: it is refused while its bucket has an outage.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Response, StatusCode};

/// What S3 answers when it cannot serve; clients retry it and then give up.
const UNAVAILABLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <Error><Code>ServiceUnavailable</Code><Message>an outage was injected</Message></Error>";

/// The buckets with an outage. A clone is another handle on the same ones.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<BTreeSet<String>>>);

impl Gate {
    /// From now on every request for `bucket` is answered with 503.
    pub(super) fn close(&self, bucket: &str) {
        self.lock().insert(bucket.to_owned());
    }

    /// Ends an outage.
    pub(super) fn open(&self, bucket: &str) {
        self.lock().remove(bucket);
    }

    /// Answers a request for `path` (path style: `/<bucket>/<key>`) if it is to be refused.
    pub(super) fn pass(&self, path: &str) -> Option<Response<s3s::Body>> {
        let bucket = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        self.lock().contains(bucket).then(|| {
            let mut response = Response::new(s3s::Body::from(UNAVAILABLE.to_owned()));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
