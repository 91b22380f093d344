//! Reading a JSON report again: what a comparison needs of it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::engine::Verdict;
use crate::environment::Description;

/// A report, read from its file. Fields that are not asked for are passed over: reports of other versions can be read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedReport {
    /// What it ran on.
    pub environment: Description,
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
}

/// A report cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the report {path}: {problem}", path = path.display())]
pub struct SavedError {
    /// The file.
    path: PathBuf,
    /// What is wrong.
    problem: String,
}

impl SavedReport {
    /// Reads a report.json.
    pub fn read(path: &Path) -> Result<Self, SavedError> {
        let error = |problem: String| SavedError { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|problem| error(problem.to_string()))?;
        serde_json::from_str(&text).map_err(|problem| error(problem.to_string()))
    }

    /// How `scenario` ended: with repetitions, the result that matters most. `None`: it was not tried.
    pub fn of(&self, scenario: &str) -> Option<&SavedOutcome> {
        self.outcomes.iter().filter(|outcome| outcome.scenario == scenario).max_by_key(|outcome| outcome.verdict)
    }
}
