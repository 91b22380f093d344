//! Pauses between attempts against an API server that does not answer.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles from 25 ms up to 2 s. Far shorter than client-go's: this API server is ours alone, and an operator is
/// being judged while we pause.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        Some(pause)
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<_> = Backoff::default().map(|pause| pause.as_millis()).take(9).collect();
        assert_eq!(pauses, [25, 50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }
}
