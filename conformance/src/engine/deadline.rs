//! Limits that have a name and an end.
//!
//! A deadline is absolute: passing it on does not restart it. One that is made within another never ends later, and
//! keeps the name of the one that ends first, so that the message says which limit was too short.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::duration;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    name: String,
    limit: Duration,
    end: Instant,
}

impl Deadline {
    /// A deadline that ends after `limit` from now.
    pub fn after(name: &str, limit: Duration) -> Self {
        Self { name: name.to_owned(), limit, end: Instant::now() + limit }
    }

    /// A deadline after `limit` from now, or this one when it ends first.
    #[must_use]
    pub fn within(&self, name: &str, limit: Duration) -> Self {
        let inner = Self::after(name, limit);
        if inner.end < self.end { inner } else { self.clone() }
    }

    /// Waits for the end.
    pub async fn reached(&self) {
        tokio::time::sleep_until(self.end).await;
    }

    /// Waits until `grace` after the end.
    pub fn overrun(&self, grace: Duration) -> impl Future<Output = ()> + use<> {
        tokio::time::sleep_until(self.end + grace)
    }

    /// How long there is left.
    pub fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Runs `work` until the deadline; `None` when it was not done by then.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.end, work).await.ok()
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, duration::format(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_that_ends_first_keeps_its_name() {
        let outer = Deadline::after("scenario", Duration::from_secs(10));
        assert_eq!(outer.within("apply", Duration::from_secs(5)).to_string(), "apply (5s)");
        assert_eq!(outer.within("backup", Duration::from_mins(2)).to_string(), "scenario (10s)");
    }

    #[tokio::test]
    async fn time_that_was_used_is_gone() {
        let over = Deadline::after("scenario", Duration::ZERO);
        assert_eq!(over.within("apply", Duration::from_secs(5)).remaining(), Duration::ZERO);
        assert_eq!(over.bound(std::future::pending::<()>()).await, None);
    }
}
