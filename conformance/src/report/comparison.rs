//! Reports side by side, as Markdown. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::State;
use super::markdown::plain;
use super::saved::SavedReport;
use crate::engine::Verdict;

/// A table with a row for each scenario (those of `scenarios` and those of the reports) and a column for each report, and
/// below it notes: why something did not pass, and where an implementation declares to differ.
pub fn comparison(scenarios: &[String], reports: &[SavedReport]) -> String {
    let names: BTreeSet<&str> = scenarios
        .iter()
        .map(String::as_str)
        .chain(reports.iter().flat_map(|report| report.outcomes.iter().map(|outcome| outcome.scenario.as_str())))
        .collect();
    let mut text = "| scenario |".to_owned();
    for report in reports {
        let _ = write!(text, " {} |", title(report));
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(reports.len()));
    let mut notes: Vec<String> = Vec::new();
    for name in names {
        let _ = write!(text, "| {} |", plain(name));
        for report in reports {
            let _ = write!(text, " {} |", cell(report, name, &mut notes));
        }
        text.push('\n');
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    for (index, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", index + 1, plain(note));
    }
    text
}

/// What ran, and how far it came unless that is the end.
fn title(report: &SavedReport) -> String {
    let environment = &report.environment;
    let title = format!(
        "{}: {} {}, Kubernetes {}, Percona {}",
        environment.environment,
        environment.implementation,
        environment.implementation_version,
        environment.kubernetes,
        environment.percona
    );
    match report.state {
        State::Complete => plain(&title),
        state => format!("{}; {}", plain(&title), state.as_str()),
    }
}

/// The verdict, with the number of the note about it: its reason, or where the implementation declares to differ.
fn cell(report: &SavedReport, name: &str, notes: &mut Vec<String>) -> String {
    let Some(outcome) = report.of(name) else { return "not tried".to_owned() };
    let (word, note) = match outcome.verdict {
        Verdict::Passed if outcome.declared.is_empty() => ("passed", None),
        Verdict::Passed => ("passed, declared different", Some(outcome.declared.join("; "))),
        verdict => {
            (verdict.as_str(), outcome.reason.as_deref().and_then(|reason| reason.lines().next()).map(str::to_owned))
        }
    };
    let Some(note) = note else { return word.to_owned() };
    let known = notes.iter().position(|known| *known == note);
    let index = known.unwrap_or_else(|| {
        notes.push(note);
        notes.len() - 1
    });
    format!("{word} ({})", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests_support::{outcome, run};

    fn saved<const N: usize>(outcomes: [(&str, Verdict); N]) -> SavedReport {
        let mut report = run(outcomes.map(|(name, verdict)| outcome(name, verdict)));
        report.state = State::Complete;
        serde_json::from_value(serde_json::to_value(report).unwrap()).unwrap()
    }

    #[test]
    fn reports_stand_side_by_side() {
        let embedded = saved([("gate/a", Verdict::Passed), ("gate/b", Verdict::Skipped), ("gate/c", Verdict::Failed)]);
        let mut kind =
            saved([("gate/a", Verdict::Passed), ("gate/b", Verdict::Passed), ("gate/old", Verdict::Skipped)]);
        kind.environment.environment = "kind".to_owned();
        kind.state = State::Interrupted;
        kind.outcomes[0].declared = ["Ready is called Up", "the cluster is kept"].map(str::to_owned).into();
        let scenarios = ["gate/a", "gate/b", "gate/c", "gate/d"].map(str::to_owned);
        insta::assert_snapshot!(comparison(&scenarios, &[embedded, kind]));
    }

    #[test]
    fn no_text_becomes_markup() {
        let mut report = saved([("gate/a|b", Verdict::Failed)]);
        report.outcomes[0].reason = Some("# ` <img src=x>".to_owned());
        report.environment.implementation_version = "1 |\n| <b>".to_owned();
        let text = comparison(&[], &[report]);
        assert!(text.contains(r"| gate/a\|b | failed (1) |") && text.contains(r"1. \# &#96; &lt;img src=x>"), "{text}");
        assert!(text.contains(r"bundled 1 \| \| &lt;b>,"), "{text}");
    }

    #[test]
    fn what_is_no_report_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"environment\": 1}").unwrap();
        let error = SavedReport::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("cannot read the report") && error.contains("line 1"), "{error}");
    }
}
