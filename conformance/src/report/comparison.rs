//! Reports side by side, as Markdown. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::saved::SavedReport;
use crate::engine::Verdict;

/// A table with a row for each scenario (those of `scenarios` and those of the reports) and a column for each report, and
/// below it the reasons of what did not pass.
pub fn comparison(scenarios: &[String], reports: &[SavedReport]) -> String {
    let names: BTreeSet<&str> = scenarios
        .iter()
        .map(String::as_str)
        .chain(reports.iter().flat_map(|report| report.outcomes.iter().map(|outcome| outcome.scenario.as_str())))
        .collect();
    let mut text = "| scenario |".to_owned();
    for report in reports {
        let environment = &report.environment;
        let _ = write!(
            text,
            " {}: {} {}, Kubernetes {}, Percona {} |",
            environment.environment,
            environment.implementation,
            environment.implementation_version,
            environment.kubernetes,
            environment.percona
        );
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(reports.len()));
    let mut reasons: Vec<&str> = Vec::new();
    for name in names {
        let _ = write!(text, "| {name} |");
        for report in reports {
            let _ = write!(text, " {} |", cell(report, name, &mut reasons));
        }
        text.push('\n');
    }
    if !reasons.is_empty() {
        text.push('\n');
    }
    for (index, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", index + 1, reason.lines().next().unwrap_or_default());
    }
    text
}

/// The verdict, with the number of its reason.
fn cell<'a>(report: &'a SavedReport, name: &str, reasons: &mut Vec<&'a str>) -> String {
    let Some(outcome) = report.of(name) else { return "not tried".to_owned() };
    let word = outcome.verdict.as_str();
    match outcome.reason.as_deref() {
        Some(reason) if outcome.verdict != Verdict::Passed => {
            let known = reasons.iter().position(|known| *known == reason);
            let index = known.unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            format!("{word} ({})", index + 1)
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests_support::{outcome, run};

    fn saved<const N: usize>(outcomes: [(&str, Verdict); N]) -> SavedReport {
        let report = run(outcomes.map(|(name, verdict)| outcome(name, verdict)));
        serde_json::from_value(serde_json::to_value(report).unwrap()).unwrap()
    }

    #[test]
    fn reports_stand_side_by_side() {
        let embedded = saved([("gate/a", Verdict::Passed), ("gate/b", Verdict::Skipped), ("gate/c", Verdict::Failed)]);
        let mut kind =
            saved([("gate/a", Verdict::Passed), ("gate/b", Verdict::Passed), ("gate/old", Verdict::Skipped)]);
        kind.environment.environment = "kind".to_owned();
        let scenarios = ["gate/a", "gate/b", "gate/c", "gate/d"].map(str::to_owned);
        insta::assert_snapshot!(comparison(&scenarios, &[embedded, kind]));
    }

    #[test]
    fn of_repetitions_the_worst_counts() {
        let report = saved([("gate/a", Verdict::Failed), ("gate/a", Verdict::Passed)]);
        assert_eq!(report.of("gate/a").map(|outcome| outcome.verdict), Some(Verdict::Failed));
    }

    #[test]
    fn what_is_no_report_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"environment\": 1}").unwrap();
        let error = SavedReport::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("cannot read the report") && error.contains("line 1"), "{error}");
    }
}
