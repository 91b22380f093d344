//! Verdicts, counted. Pure.

use std::fmt;

use serde::Serialize;

use crate::engine::Verdict;
use crate::exit::Exit;

/// How many scenarios ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Ended by a broken environment.
    pub error: usize,
    /// Skipped.
    pub skipped: usize,
    /// Interrupted, or never begun.
    pub interrupted: usize,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, verdict: Verdict) {
        let count = match verdict {
            Verdict::Passed => &mut self.passed,
            Verdict::Failed => &mut self.failed,
            Verdict::Error => &mut self.error,
            Verdict::Skipped => &mut self.skipped,
            Verdict::Interrupted => &mut self.interrupted,
        };
        *count += 1;
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.passed + self.failed + self.error + self.skipped + self.interrupted
    }
}

impl fmt::Display for Counts {
    /// Such as `6 scenarios: 5 passed, 1 failed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.passed, "passed"),
            (self.failed, "failed"),
            (self.error, "ended by errors of the environment"),
            (self.skipped, "skipped"),
            (self.interrupted, "interrupted or not begun"),
        ];
        let parts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let noun = if self.total() == 1 { "scenario" } else { "scenarios" };
        write!(f, "{} {noun}: {}", self.total(), parts.join(", "))
    }
}

/// How the program ends. A failure says something about the implementation, whatever else happened; an interruption
/// says that the rest is not known.
pub fn exit(counts: &Counts, interrupted: bool) -> Exit {
    match counts {
        _ if interrupted => Exit::Interrupted,
        Counts { failed: 1.., .. } => Exit::Failed,
        Counts { error: 1.., .. } => Exit::Environment,
        _ => Exit::Ok,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[Verdict::Passed, Verdict::Skipped], false, Exit::Ok, "2 scenarios: 1 passed, 1 skipped")]
    #[case(&[Verdict::Error, Verdict::Failed], false, Exit::Failed, "2 scenarios: 1 failed, 1 ended by errors of the environment")]
    #[case(&[Verdict::Error], false, Exit::Environment, "1 scenario: 1 ended by errors of the environment")]
    #[case(&[Verdict::Failed, Verdict::Interrupted], true, Exit::Interrupted, "2 scenarios: 1 failed, 1 interrupted or not begun")]
    fn a_broken_environment_never_reads_as_a_failure(
        #[case] verdicts: &[Verdict],
        #[case] interrupted: bool,
        #[case] expected: Exit,
        #[case] line: &str,
    ) {
        let mut counts = Counts::default();
        for verdict in verdicts {
            counts.add(*verdict);
        }
        assert_eq!((exit(&counts, interrupted), counts.to_string().as_str()), (expected, line));
    }
}
