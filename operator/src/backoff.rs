//! How long a watch waits before it is tried again.
//!
//! kube resets a back-off with every event, and a list that fails begins with one each time (`Event::Init`): by any back-off that
//! obeys, an API server that answers no list is asked at the same short interval for ever. Here only time resets.

use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;

/// The first wait: a CRD is served a moment after it appears.
const FIRST: Duration = Duration::from_millis(50);

/// The longest, as with client-go.
const LONGEST: Duration = Duration::from_secs(30);

/// So long nothing must have failed until it begins anew, as with client-go.
const FORGIVEN_AFTER: Duration = Duration::from_mins(2);

/// Doubles from 50 ms to 30 s, and begins anew after two minutes without a failure.
#[derive(Debug, Default)]
pub struct WatchBackoff {
    last: Option<(Instant, Duration)>,
}

impl WatchBackoff {
    /// The wait after a failure at `now`.
    fn after(&mut self, now: Instant) -> Duration {
        let lately = self.last.filter(|(failed, _)| now - *failed < FORGIVEN_AFTER);
        let wait = lately.map_or(FIRST, |(_, waited)| (waited * 2).min(LONGEST));
        self.last = Some((now, wait));
        wait
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.after(Instant::now()))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_resets_it() {
        let (mut backoff, mut now) = (WatchBackoff::default(), Instant::now());
        let (mut waits, mut last) = (Vec::new(), now);
        for _ in 0..12 {
            let wait = backoff.after(now);
            waits.push(wait.as_millis());
            last = now;
            now += wait;
            backoff.reset();
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.after(last + FORGIVEN_AFTER), FIRST);
        assert_eq!(backoff.after(last + FORGIVEN_AFTER + LONGEST), FIRST * 2);
    }

    #[test]
    fn it_never_gives_up() {
        assert_eq!(WatchBackoff::default().take(3).collect::<Vec<_>>(), [FIRST, FIRST * 2, FIRST * 4]);
    }
}
