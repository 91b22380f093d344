//! How much the operator under test asks of the API server while a scenario runs.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::requests::Tail;
use super::trouble::Trouble;
use crate::environment::Site;

/// Requests per second and server from which on an operator floods the API server. client-go lets a controller send 20 on
/// average, for all its servers, unless it is told otherwise.
const FLOOD: u64 = 100;

/// Shorter times say nothing about a rate: whatever is made is made at once.
const SHORTEST: Duration = Duration::from_secs(5);

/// The operator's requests in the scenario's namespace, and those about no namespace, whoever caused them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// How many in a minute, at that rate.
    pub per_minute: u64,
    /// How many servers the scenario makes.
    #[serde(default)]
    pub servers: u64,
}

impl Rate {
    fn of(count: usize, time: Duration, servers: u64) -> Self {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let milliseconds = u64::try_from(time.max(SHORTEST).as_millis()).unwrap_or(u64::MAX);
        Self { count, per_minute: count.saturating_mul(60_000) / milliseconds, servers }
    }

    /// What is wrong with so many.
    pub fn flood(self) -> Option<String> {
        let per_second = self.per_minute / 60;
        (per_second >= FLOOD * self.servers.max(1))
            .then(|| format!("the operator floods the API server: {} requests, {per_second} a second", self.count))
    }
}

/// From where on requests are counted.
pub(super) struct Mark {
    tail: Tail,
    begun: Instant,
}

impl Mark {
    /// Here and now; `None` where there is no audit log.
    pub(super) async fn set(site: &dyn Site) -> Option<Self> {
        Some(Self { tail: Tail::end(site.audit_log()?).await, begun: Instant::now() })
    }

    /// What was asked since, in `namespace` or in none.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) async fn since(mut self, namespace: &str, servers: u64) -> Result<Rate, Trouble> {
        let time = self.begun.elapsed();
        let requests = self.tail.read().await?;
        let own = requests.iter().filter(|request| request.namespace.as_deref().is_none_or(|other| other == namespace));
        Ok(Rate::of(own.count(), time, servers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told() {
        let busy = Rate::of(950, Duration::from_secs(10), 20);
        assert_eq!((busy, busy.flood()), (Rate { count: 950, per_minute: 5_700, servers: 20 }, None));
        let flood = Rate::of(20_000, Duration::from_secs(10), 1).flood();
        assert_eq!(flood.unwrap(), "the operator floods the API server: 20000 requests, 2000 a second");
        assert_eq!(Rate::of(400, Duration::from_millis(10), 0).flood(), None);
        assert_eq!(Rate::of(4_000, Duration::from_secs(20), 20).flood(), None);
    }
}
