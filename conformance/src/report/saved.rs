//! Reading a JSON report again: what comparisons and conformance reports need of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::State;
use crate::engine::{Rate, Verdict};
use crate::environment::{Declared, Description};
use crate::scenario::Entry;

/// A report, read from its file. Fields that are not asked for are passed over, and those that older reports do not have
/// are empty: reports of other versions can be read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedReport {
    /// Names the run.
    pub run: String,
    /// How far it has come.
    pub state: State,
    /// Version of the suite.
    pub suite_version: Option<String>,
    /// What it ran on.
    pub environment: Description,
    /// Where the implementation declares to differ.
    #[serde(default)]
    pub declared: Declared,
    /// The options that choose the environment and the implementation.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// When it began.
    pub started: Timestamp,
    /// When the last result came.
    pub updated: Timestamp,
    /// How many scenarios it has, repetitions counted.
    pub planned: usize,
    /// Its scenarios, and the requirements that each of them covered. Nothing in older reports.
    #[serde(default)]
    pub scenarios: BTreeMap<String, BTreeSet<String>>,
    /// The results.
    pub outcomes: Vec<SavedOutcome>,
}

/// A result in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedOutcome {
    /// Name of the scenario.
    pub scenario: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it was skipped, failed, or could not be judged.
    pub reason: Option<String>,
    /// By what the implementation declares to do differently it was judged.
    #[serde(default)]
    pub declared: Vec<String>,
    /// What is worth knowing and changes no verdict.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What went wrong, first things first.
    #[serde(default)]
    pub failures: Vec<SavedFailure>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub milliseconds: u64,
    /// What the operator asked of the API server meanwhile, where that is known.
    #[serde(default)]
    pub operator_requests: Option<Rate>,
}

/// Something that went wrong.
#[derive(Clone, Debug, Deserialize)]
pub struct SavedFailure {
    /// Where.
    pub place: SavedPlace,
}

/// Where an operation stands in its scenario.
#[derive(Clone, Debug, Deserialize)]
pub struct SavedPlace {
    /// The file.
    pub file: String,
    /// Line, from 1; 0 when it belongs to no line.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl fmt::Display for SavedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A report cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the report {path}: {problem}{}", hint(*.missing), path = path.display())]
pub struct SavedError {
    /// The file.
    path: PathBuf,
    /// What is wrong.
    problem: String,
    /// Whether there is no such file.
    missing: bool,
}

fn hint(missing: bool) -> &'static str {
    if missing { "; `conformance run` writes one, into the directory of --report-dir" } else { "" }
}

impl SavedReport {
    /// Reads a report.json.
    pub fn read(path: &Path) -> Result<Self, SavedError> {
        let error = |problem: String, missing: bool| SavedError { path: path.to_owned(), problem, missing };
        let text = std::fs::read_to_string(path)
            .map_err(|problem| error(problem.to_string(), problem.kind() == std::io::ErrorKind::NotFound))?;
        serde_json::from_str(&text).map_err(|problem| error(format!("it is no report.json of a run: {problem}"), false))
    }

    /// The scenarios that failed or came to no verdict, each once, in the order of their names.
    pub fn unsettled(&self) -> Vec<String> {
        let settled = |outcome: &&SavedOutcome| matches!(outcome.verdict, Verdict::Passed | Verdict::Skipped);
        let (settled, bad): (Vec<_>, Vec<_>) = self.outcomes.iter().partition(settled);
        let tried: BTreeSet<&String> = settled.into_iter().map(|outcome| &outcome.scenario).collect();
        let untold = self.scenarios.keys().filter(|name| !tried.contains(name));
        let names: BTreeSet<&String> = bad.into_iter().map(|outcome| &outcome.scenario).chain(untold).collect();
        names.into_iter().cloned().collect()
    }

    /// The scenarios that it tried and that are not among those of `now`, in the order of their names.
    pub fn unknown(&self, now: &[Entry]) -> Vec<&str> {
        let known: BTreeSet<&str> = now.iter().map(|entry| entry.name.as_str()).collect();
        let tried: BTreeSet<&str> = self.outcomes.iter().map(|outcome| outcome.scenario.as_str()).collect();
        tried.into_iter().filter(|name| !known.contains(name)).collect()
    }

    /// Its scenarios that cover something else among those of `now`, in the order of their names. An older report, which does
    /// not say what they covered, has none.
    pub fn changed(&self, now: &[Entry]) -> Vec<&str> {
        let changed = |name: &str, covered: &BTreeSet<String>| {
            let entry = now.iter().find(|entry| entry.name == name);
            entry.and_then(|entry| entry.scenario.as_ref().ok()).is_some_and(|scenario| scenario.covers != *covered)
        };
        let all = self.scenarios.iter();
        all.filter(|(name, covered)| changed(name, covered)).map(|(name, _)| name.as_str()).collect()
    }

    /// How `scenario` ended: with repetitions, the first of the results that matter most, with what any of them declared
    /// and warned of. `None`: it was not tried.
    pub fn of(&self, scenario: &str) -> Option<SavedOutcome> {
        let all: Vec<&SavedOutcome> = self.outcomes.iter().filter(|outcome| outcome.scenario == scenario).collect();
        // Of equals, the last one is the greatest.
        let worst = *all.iter().rev().max_by_key(|outcome| outcome.verdict)?;
        Some(SavedOutcome {
            declared: once(all.iter().flat_map(|outcome| outcome.declared.clone())),
            warnings: once(all.iter().flat_map(|outcome| outcome.warnings.clone())),
            ..worst.clone()
        })
    }
}

/// Each of `texts` once, in their order.
pub(super) fn once(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all = Vec::new();
    for text in texts {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
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
    fn what_has_no_verdict_is_not_settled() {
        let mut report = saved([
            ("gate/f", Verdict::Passed),
            ("gate/f", Verdict::Failed),
            ("gate/e", Verdict::Error),
            ("gate/p", Verdict::Passed),
            ("gate/s", Verdict::Skipped),
            ("gate/i", Verdict::Interrupted),
        ]);
        assert_eq!(report.unsettled(), ["gate/e", "gate/f", "gate/i"]);
        report.scenarios = ["gate/p", "gate/untold"].map(|name| (name.to_owned(), BTreeSet::new())).into();
        assert_eq!(report.unsettled(), ["gate/e", "gate/f", "gate/i", "gate/untold"]);
    }

    #[test]
    fn of_repetitions_the_worst_counts_and_what_any_of_them_said() {
        let mut report = saved([
            ("gate/a", Verdict::Passed),
            ("gate/a", Verdict::Failed),
            ("gate/a", Verdict::Failed),
            ("gate/a", Verdict::Passed),
        ]);
        for (number, outcome) in report.outcomes.iter_mut().enumerate() {
            outcome.reason = Some(format!("reason {number}"));
            outcome.warnings = vec!["a flood".to_owned(), format!("warning {number}")];
        }
        report.outcomes[0].declared = vec!["it is called otherwise".to_owned()];
        let ended = report.of("gate/a").unwrap();
        assert_eq!((ended.verdict, ended.reason.as_deref()), (Verdict::Failed, Some("reason 1")));
        assert_eq!(ended.declared, ["it is called otherwise"]);
        assert_eq!(ended.warnings, ["a flood", "warning 0", "warning 1", "warning 2", "warning 3"]);
        assert!(report.of("gate/b").is_none());
    }
}
