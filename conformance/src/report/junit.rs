//! The run as `JUnit` XML. Pure.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::RunReport;
use crate::engine::evidence::render;
use crate::engine::{Outcome, Verdict};

/// The XML document: a suite for each area.
pub fn junit(run: &RunReport) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("conformance");
    report.set_time(run.updated.duration_since(run.started).unsigned_abs());
    let mut suites: Vec<TestSuite> = Vec::new();
    for outcome in &run.outcomes {
        let area = outcome.scenario.split_once('/').map_or("scenarios", |(area, _)| area);
        let index = suites.iter().position(|suite| suite.name.as_str() == area).unwrap_or_else(|| {
            suites.push(suite(area, run));
            suites.len() - 1
        });
        suites[index].add_test_case(case(outcome));
    }
    report.add_test_suites(suites);
    report.to_string()
}

fn suite(area: &str, run: &RunReport) -> TestSuite {
    let mut suite = TestSuite::new(area);
    suite.add_property(("state", run.state.as_str()));
    suite.add_property(("environment", run.environment.environment.as_str()));
    suite.add_property(("kubernetes", run.environment.kubernetes.as_str()));
    suite.add_property(("implementation", run.environment.implementation.as_str()));
    suite
}

fn case(outcome: &Outcome) -> TestCase {
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let status = match outcome.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Skipped | Verdict::Interrupted => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(if reason.is_empty() { "interrupted" } else { reason });
            status
        }
        Verdict::Failed => non_success(NonSuccessKind::Failure, outcome, reason),
        Verdict::Error => non_success(NonSuccessKind::Error, outcome, reason),
    };
    let name = match outcome.repetition {
        1 => outcome.scenario.clone(),
        repetition => format!("{} (repetition {repetition})", outcome.scenario),
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(outcome.scenario.split_once('/').map_or("scenarios", |(area, _)| area));
    case.set_time(outcome.duration);
    let declared = outcome.declared.iter().map(|declared| format!("declared different: {declared}"));
    let said: Vec<String> = declared.chain(outcome.warnings.iter().cloned()).collect();
    if !said.is_empty() {
        case.set_system_out(said.join("\n"));
    }
    case
}

fn non_success(kind: NonSuccessKind, outcome: &Outcome, reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(reason.lines().next().unwrap_or_default());
    let mut text: Vec<String> = outcome.failures.iter().map(render).collect();
    text.extend(outcome.written.iter().map(|bundle| format!("logs and objects: {}", bundle.display())));
    status.set_description(text.join("\n"));
    status
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{outcome, run};
    use super::*;

    #[test]
    fn verdicts_keep_their_meaning_in_junit() {
        let outcomes =
            [Verdict::Passed, Verdict::Failed, Verdict::Error, Verdict::Skipped, Verdict::Interrupted].map(|verdict| {
                let name = format!("gate/{}", verdict.as_str());
                outcome(&name, verdict)
            });
        insta::assert_snapshot!(junit(&run(outcomes)).unwrap());
    }
}
