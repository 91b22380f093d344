//! Reading a JSON report again: what comparisons and conformance reports need of it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::State;
use crate::engine::{Rate, Verdict};
use crate::environment::{Declared, Description};

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

    /// The scenarios that failed or came to no verdict by a broken environment, each once, in the order of their names.
    pub fn failed(&self) -> Vec<String> {
        let bad = |outcome: &&SavedOutcome| matches!(outcome.verdict, Verdict::Failed | Verdict::Error);
        let names: BTreeSet<String> =
            self.outcomes.iter().filter(bad).map(|outcome| outcome.scenario.clone()).collect();
        names.into_iter().collect()
    }

    /// How `scenario` ended: with repetitions, the result that matters most. `None`: it was not tried.
    pub fn of(&self, scenario: &str) -> Option<&SavedOutcome> {
        self.outcomes.iter().filter(|outcome| outcome.scenario == scenario).max_by_key(|outcome| outcome.verdict)
    }
}
