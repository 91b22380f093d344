//! Whether an operator whose requests fail goes on asking in a hot loop.

use std::time::Duration;

use tokio::time::Instant;

/// So many requests a second are no hot loop: client-go tries a list whose connection ends ten times, once a second, before
/// any back-off begins, and an operator has many watches.
const NO_HOT_LOOP: u32 = 15;

/// The requests that failed within some time, in halves of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    half: Duration,
    earlier: usize,
    later: usize,
}

impl Failed {
    /// Those at `times`, of the time from `begin` to `end`.
    pub(super) fn between(begin: Instant, end: Instant, times: &[Instant]) -> Self {
        let half = (end - begin) / 2;
        let earlier = times.iter().filter(|time| **time < begin + half).count();
        Self { half, earlier, later: times.len() - earlier }
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.earlier + self.later == 0
    }

    /// Says that it did not back off, if so: that it asked in the second half more than fifteen times a second, and more than
    /// half as often as in the first. Any back-off that doubles asks once or twice there, whatever it asks for.
    pub fn hurry(&self) -> Option<String> {
        let Self { half, earlier, later } = *self;
        let seconds = half.as_secs_f64();
        (later * 2 > earlier && Duration::from_secs(later as u64) > half * NO_HOT_LOOP).then(|| {
            format!(
                "the operator did not back off while every request failed: it asked {earlier} times in the first \
                 {seconds:.1} s, and {later} times in the {seconds:.1} s after them"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn failed(milliseconds: impl IntoIterator<Item = u64>) -> Failed {
        let begin = Instant::now();
        let at = |offset| begin + Duration::from_millis(offset);
        Failed::between(begin, at(20_000), &milliseconds.into_iter().map(at).collect::<Vec<_>>())
    }

    #[rstest]
    #[case::doubling((0..7).flat_map(|_| [0, 800, 2_400, 5_600, 12_000]))]
    #[case::doubling_late((12_000..20_000).step_by(700))]
    #[case::client_go((0..20_000).step_by(1_000).flat_map(|second| [second; 14]))]
    #[case::once(0..1)]
    fn what_backs_off_is_in_no_hurry(#[case] times: impl IntoIterator<Item = u64>) {
        assert_eq!(failed(times).hurry(), None);
    }

    #[rstest]
    #[case::a_hot_loop((0..20_000).step_by(50))]
    #[case::sixteen_watches((0..20_000).step_by(1_000).flat_map(|second| [second; 16]))]
    fn what_does_not_is(#[case] times: impl IntoIterator<Item = u64>) {
        assert!(failed(times).hurry().is_some());
    }

    #[test]
    fn a_hurry_is_told_in_numbers() {
        let hurry = failed((0..20_000).step_by(50)).hurry().unwrap();
        insta::assert_snapshot!(
            hurry,
            @"the operator did not back off while every request failed: it asked 200 times in the first 10.0 s, and 200 times in the 10.0 s after them"
        );
        assert!(failed([]).is_empty() && !failed([1]).is_empty());
    }
}
