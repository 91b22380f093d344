//! How much the operator under test asks of the API server while a scenario runs.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::requests::Tail;
use super::trouble::Trouble;
use crate::environment::Site;

/// Requests per second from which on an operator floods the API server. client-go lets a controller send 20 on average,
/// unless it is told otherwise.
const FLOOD: u64 = 100;

/// Shorter times say nothing about a rate.
const SHORTEST: Duration = Duration::from_secs(1);

/// The operator's requests, those for other scenarios that ran meanwhile among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// How many in a minute, at that rate.
    pub per_minute: u64,
}

impl Rate {
    fn of(count: usize, time: Duration) -> Self {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let milliseconds = u64::try_from(time.max(SHORTEST).as_millis()).unwrap_or(u64::MAX);
        Self { count, per_minute: count.saturating_mul(60_000) / milliseconds }
    }

    /// What is wrong with so many.
    pub fn flood(self) -> Option<String> {
        let per_second = self.per_minute / 60;
        (per_second >= FLOOD)
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

    /// What was asked since.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) async fn since(mut self) -> Result<Rate, Trouble> {
        let time = self.begun.elapsed();
        Ok(Rate::of(self.tail.read().await?.len(), time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told() {
        let busy = Rate::of(950, Duration::from_secs(10));
        assert_eq!((busy, busy.flood()), (Rate { count: 950, per_minute: 5_700 }, None));
        let flood = Rate::of(20_000, Duration::from_secs(10)).flood();
        assert_eq!(flood.unwrap(), "the operator floods the API server: 20000 requests, 2000 a second");
        assert_eq!(Rate::of(50, Duration::from_millis(10)).flood(), None);
    }
}
