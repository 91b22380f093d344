//! How long a container that ended waits for its next start. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// The delays between restarts. The kubelet's are ten seconds, doubled up to five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOffLimits {
    /// Delay before the second restart; the first one is immediate.
    pub base: Duration,
    /// The longest delay. A container that ran for twice as long starts over.
    pub longest: Duration,
}

impl Default for BackOffLimits {
    /// A tenth of the kubelet's, so that a scenario sees a crash loop and its end within seconds.
    fn default() -> Self {
        Self { base: Duration::from_secs(1), longest: Duration::from_secs(30) }
    }
}

/// The restarts of one container so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    next: Duration,
    last_exit: Option<Timestamp>,
}

impl BackOff {
    /// Notes that the container ended at `at`, and says how long to wait from then on.
    pub fn exited(&mut self, at: Timestamp, limits: BackOffLimits) -> Duration {
        let calm =
            self.last_exit.is_some_and(|last| Duration::try_from(at - last).is_ok_and(|d| d > 2 * limits.longest));
        let delay = if calm { Duration::ZERO } else { self.next };
        self.next = if delay.is_zero() { limits.base } else { (2 * delay).min(limits.longest) };
        self.last_exit = Some(at);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(exits: &[i64]) -> Vec<u64> {
        let limits = BackOffLimits { base: Duration::from_secs(10), longest: Duration::from_mins(5) };
        let mut back_off = BackOff::default();
        exits.iter().map(|&at| back_off.exited(Timestamp::from_second(at).unwrap(), limits).as_secs()).collect()
    }

    #[test]
    fn the_first_restart_is_immediate_and_the_delay_doubles_to_the_longest() {
        assert_eq!(delays(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_container_that_ran_for_long_starts_over() {
        assert_eq!(delays(&[0, 1, 2, 602, 603]), [0, 10, 20, 40, 80], "exactly twice the longest is not enough");
        assert_eq!(delays(&[0, 1, 2, 603, 604]), [0, 10, 20, 0, 10]);
    }
}
