//! When a series of probe answers changes the mind of the kubelet. Pure.

use k8s_openapi::api::core::v1::Probe;

/// Counts answers against `successThreshold` and `failureThreshold`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counter {
    success_threshold: u32,
    failure_threshold: u32,
    verdict: Option<bool>,
    /// The latest answer, and how often it came in a row.
    run: (bool, u32),
}

impl Counter {
    pub(super) fn new(probe: &Probe) -> Self {
        let threshold = |value: Option<i32>, default| value.and_then(|value| value.try_into().ok()).unwrap_or(default);
        Self {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            verdict: None,
            run: (false, 0),
        }
    }

    /// Notes an answer; gives the verdict when it is a new one.
    pub(super) fn note(&mut self, success: bool) -> Option<bool> {
        self.run = if self.run.0 == success { (success, self.run.1 + 1) } else { (success, 1) };
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.run.1 < threshold || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `+` is a success, `-` a failure; in the verdicts `.` is "no change".
    #[rstest]
    #[case::defaults(None, None, "+---+", "+..-+")]
    #[case::failures_must_be_in_a_row(None, Some(3), "+--+--+---", "+........-")]
    #[case::successes_must_be_in_a_row(Some(2), Some(1), "+-+++", ".-.+.")]
    #[case::never_ready(None, Some(3), "-----", "..-..")]
    #[case::at_once(Some(1), Some(1), "-+-+", "-+-+")]
    fn verdicts(
        #[case] success: Option<i32>,
        #[case] failure: Option<i32>,
        #[case] answers: &str,
        #[case] expected: &str,
    ) {
        let probe = Probe { success_threshold: success, failure_threshold: failure, ..Probe::default() };
        let mut counter = Counter::new(&probe);
        let verdicts: String = answers
            .chars()
            .map(|answer| match counter.note(answer == '+') {
                Some(true) => '+',
                Some(false) => '-',
                None => '.',
            })
            .collect();
        assert_eq!(verdicts, expected);
    }
}
