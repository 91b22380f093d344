//! Watches: what exists now, what it was before, and what comes next.
//!
//! Judging layer. Knows the API server only through `kube`. `record` and `timeline` are pure; `feed` shares one watch;
//! `hub` opens them.

mod backoff;
mod feed;
mod hub;
mod record;
mod timeline;

pub use backoff::Backoff;
pub use feed::{Feed, Kind};
pub use hub::{GRACE, Hub};
pub use record::{Key, Observation, Phase, Record, resource_version};
pub use timeline::{Entry, Timeline, What};
