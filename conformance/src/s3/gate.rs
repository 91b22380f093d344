//! What every request passes before the protocol: it is counted, and refused while its bucket has an outage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Response, StatusCode};

/// What S3 answers when it cannot serve; clients retry it and then give up.
const UNAVAILABLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <Error><Code>ServiceUnavailable</Code><Message>an outage was injected</Message></Error>";

/// Counters and outages of all buckets. A clone is another handle on the same ones.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    requests: BTreeMap<String, u64>,
    outages: BTreeSet<String>,
}

impl Gate {
    /// From now on every request for `bucket` is answered with 503.
    pub(super) fn close(&self, bucket: &str) {
        self.lock().outages.insert(bucket.to_owned());
    }

    /// Ends an outage.
    pub(super) fn open(&self, bucket: &str) {
        self.lock().outages.remove(bucket);
    }

    /// Forgets a bucket.
    pub(super) fn forget(&self, bucket: &str) {
        let mut state = self.lock();
        state.outages.remove(bucket);
        state.requests.remove(bucket);
    }

    /// How many requests for `bucket` have come in, refused ones included.
    pub(super) fn requests(&self, bucket: &str) -> u64 {
        self.lock().requests.get(bucket).copied().unwrap_or_default()
    }

    /// Counts a request for `path` (path style: `/<bucket>/<key>`), and answers it if it is to be refused.
    pub(super) fn pass(&self, path: &str) -> Option<Response<s3s::Body>> {
        let bucket = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let mut state = self.lock();
        *state.requests.entry(bucket.to_owned()).or_default() += 1;
        state.outages.contains(bucket).then(|| {
            let mut response = Response::new(s3s::Body::from(UNAVAILABLE.to_owned()));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
