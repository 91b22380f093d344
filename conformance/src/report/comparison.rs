//! Reports side by side, as Markdown. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::State;
use super::markdown::plain;
use super::saved::SavedReport;
use crate::engine::Verdict;
use crate::scenario::Entry;

/// A table with a row for each scenario (those of `scenarios` and those of the reports) and a column for each report, and
/// below it notes: which scenarios of a report are others by now, why something did not pass, and where an implementation
/// declares to differ.
pub fn comparison(scenarios: &[Entry], reports: &[SavedReport]) -> String {
    let names: BTreeSet<&str> = scenarios
        .iter()
        .map(|entry| entry.name.as_str())
        .chain(reports.iter().flat_map(|report| report.outcomes.iter().map(|outcome| outcome.scenario.as_str())))
        .collect();
    let mut text = "| scenario |".to_owned();
    let mut notes: Vec<String> = Vec::new();
    for report in reports {
        let _ = write!(text, " {} |", head(report, scenarios, &mut notes));
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(reports.len()));
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

/// The title, with the number of the note about it: what it ran is not what would run now.
fn head(report: &SavedReport, scenarios: &[Entry], notes: &mut Vec<String>) -> String {
    let mut remarks = Vec::new();
    for (names, what) in [
        (report.changed(scenarios), "since this run, what these scenarios cover has changed"),
        (report.unknown(scenarios), "it tried scenarios that are not known here"),
    ] {
        if !names.is_empty() {
            remarks.push(format!("{what}: {}", names.join(", ")));
        }
    }
    let title = title(report);
    if remarks.is_empty() { title } else { format!("{title} ({})", number(remarks.join("; "), notes)) }
}

/// What ran, and how far it came unless that is the end.
fn title(report: &SavedReport) -> String {
    let environment = &report.environment;
    let mode = match environment.about.mode.as_str() {
        "" => String::new(),
        mode => format!(" (mode {mode})"),
    };
    let title = format!(
        "{}: {} {}{mode}, Kubernetes {}, Percona {}",
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
    note.map_or_else(|| word.to_owned(), |note| format!("{word} ({})", number(note, notes)))
}

/// The number of a note, which stands among the others once.
fn number(note: String, notes: &mut Vec<String>) -> usize {
    let known = notes.iter().position(|known| *known == note);
    known.unwrap_or_else(|| {
        notes.push(note);
        notes.len() - 1
    }) + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::tests_support::{outcome, run};

    fn saved<const N: usize>(outcomes: [(&str, Verdict); N]) -> SavedReport {
        let mut report = run(outcomes.map(|(name, verdict)| outcome(name, verdict)));
        report.state = State::Complete;
        serde_json::from_value(serde_json::to_value(report).unwrap()).unwrap()
    }

    /// A scenario that covers a requirement.
    fn entry(name: &str, covers: &str) -> Entry {
        let text = format!(
            "{{apiVersion: conformance.dittofs.com/v1alpha1, kind: Scenario, claim: c, covers: [{covers}], steps: []}}"
        );
        Entry { name: name.to_owned(), path: name.into(), scenario: Ok(serde_yaml::from_str(&text).unwrap()) }
    }

    #[test]
    fn reports_stand_side_by_side() {
        let embedded = saved([("gate/a", Verdict::Passed), ("gate/b", Verdict::Skipped), ("gate/c", Verdict::Failed)]);
        let mut kind =
            saved([("gate/a", Verdict::Passed), ("gate/b", Verdict::Passed), ("gate/old", Verdict::Skipped)]);
        kind.environment.environment = "kind".to_owned();
        kind.state = State::Interrupted;
        kind.outcomes[0].declared = ["Ready is called Up", "the cluster is kept"].map(str::to_owned).into();
        let scenarios = ["gate/a", "gate/b", "gate/c", "gate/d"].map(|name| entry(name, "gate/x"));
        insta::assert_snapshot!(comparison(&scenarios, &[embedded, kind]));
    }

    #[test]
    fn modes_of_one_operator_are_told_apart() {
        let [mut one, mut other] = [(); 2].map(|()| saved([("gate/a", Verdict::Passed)]));
        one.environment.about.mode = "gate".to_owned();
        other.environment.about.mode = "operator | x".to_owned();
        let text = comparison(&[entry("gate/a", "gate/x")], &[one, other]);
        assert!(text.contains("bundled 0.1.0 (mode gate), Kubernetes"), "{text}");
        assert!(text.contains(r"bundled 0.1.0 (mode operator \| x), Kubernetes"), "{text}");
    }

    #[test]
    fn what_scenarios_covered_then_and_do_not_now_is_told() {
        let covered = |id: &str| BTreeMap::from([("gate/a".to_owned(), BTreeSet::from([id.to_owned()]))]);
        let [mut then, mut now] = [(); 2].map(|()| saved([("gate/a", Verdict::Passed)]));
        then.scenarios = covered("gate/y");
        now.scenarios = covered("gate/x");
        let text = comparison(&[entry("gate/a", "gate/x")], &[then, now]);
        let (head, rest) = text.split_once('\n').unwrap();
        let titles: Vec<&str> = head.trim_matches('|').split('|').skip(1).map(str::trim).collect();
        assert!(titles[0].ends_with(") (1)") && !titles[1].ends_with("(1)"), "{text}");
        assert!(rest.contains("| gate/a | passed | passed |\n"), "{text}");
        assert!(rest.ends_with("1. since this run, what these scenarios cover has changed: gate/a\n"), "{text}");
    }

    #[test]
    fn no_text_becomes_markup() {
        let mut report = saved([("gate/a|b", Verdict::Failed)]);
        report.outcomes[0].reason = Some("# ` <img src=x>".to_owned());
        report.environment.implementation_version = "1 |\n| <b>".to_owned();
        let text = comparison(&[entry("gate/a|b", "gate/x")], &[report]);
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
