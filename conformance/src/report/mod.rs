//! What came of a run: on the console as it happens, and in files that are complete after each result.
//!
//! Judging layer. Rendering is pure; only `files` writes.

mod annotations;
mod comparison;
pub mod conformance;
mod console;
mod files;
mod junit;
mod markdown;
mod saved;
mod skips;
mod summary;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{Job, Outcome};
use crate::environment::{Declared, Description, Environment};

pub use annotations::github;
pub use comparison::comparison;
pub use console::Console;
pub use files::{Files, ReportError};
pub use saved::{SavedError, SavedOutcome, SavedReport};
pub use skips::{AllowedSkips, SkipError};
pub use summary::{Counts, exit};

/// How far a run has come, as the files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// More results may come; a file that stays so is what a killed run has left.
    Running,
    /// It was interrupted: what has not run is listed as interrupted.
    Interrupted,
    /// All results are there.
    Complete,
}

impl State {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Complete => "complete",
        }
    }
}

/// A run and its results so far: the JSON report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// Names the run, also in labels of namespaces.
    pub run: String,
    /// How far it has come.
    pub state: State,
    /// Version of the suite.
    pub suite_version: &'static str,
    /// What it ran on.
    pub environment: Description,
    /// Where the implementation declares to differ.
    pub declared: Declared,
    /// The options of `conformance run` that choose the environment and the implementation.
    pub arguments: Vec<String>,
    /// The seed of `--shuffle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// When it began.
    pub started: Timestamp,
    /// When the last result came.
    pub updated: Timestamp,
    /// How many scenarios it has, repetitions counted.
    pub planned: usize,
    /// The scenarios, and the requirements that each of them covers.
    pub scenarios: BTreeMap<String, BTreeSet<String>>,
    /// How they ended so far.
    pub counts: Counts,
    /// The results, in the order in which they came.
    pub outcomes: Vec<Outcome>,
}

impl RunReport {
    /// A run of `jobs` that begins, on what is foreseen before anything is started.
    pub fn new(
        run: String,
        (environment, declared): (Description, Declared),
        arguments: Vec<String>,
        jobs: &[Job],
    ) -> Self {
        let now = Timestamp::now();
        let covers = |job: &Job| (job.scenario.name.clone(), job.scenario.covers.clone());
        Self {
            run,
            state: State::Running,
            suite_version: env!("CARGO_PKG_VERSION"),
            environment,
            declared,
            arguments,
            seed: None,
            started: now,
            updated: now,
            planned: jobs.len(),
            scenarios: jobs.iter().map(covers).collect(),
            counts: Counts::default(),
            outcomes: Vec::new(),
        }
    }

    /// The environment is up: what it says of itself takes the place of what was foreseen.
    pub fn begin(&mut self, environment: &dyn Environment) {
        self.environment = environment.description().clone();
        self.declared = environment.capabilities().declared.clone();
        self.started = Timestamp::now();
        self.updated = self.started;
    }

    /// Takes a result in.
    pub fn add(&mut self, outcome: Outcome) {
        self.counts.add(outcome.verdict);
        self.updated = Timestamp::now();
        self.outcomes.push(outcome);
    }
}

#[cfg(test)]
mod tests_support {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::engine::Verdict;
    use crate::engine::evidence::{FailureReport, Place};
    use crate::environment::About;

    /// An outcome with what belongs to its verdict, the same at every call.
    pub fn outcome(name: &str, verdict: Verdict) -> Outcome {
        let text = "{apiVersion: conformance.dittofs.com/v1alpha1, kind: Scenario, claim: c, steps: []}";
        let mut scenario: crate::scenario::Scenario = serde_yaml::from_str(text).unwrap();
        scenario.name = name.to_owned();
        let job = Job {
            scenario: Arc::new(scenario),
            file: format!("scenarios/{name}.yaml").into(),
            repetition: 1,
            aside: false,
        };
        let mut outcome = Outcome { verdict, started: Timestamp::UNIX_EPOCH, ..Outcome::new(&job) };
        outcome.reason = match verdict {
            Verdict::Passed | Verdict::Interrupted => None,
            Verdict::Skipped => Some("no pgBackRest".to_owned()),
            Verdict::Failed => Some("DittoServer demo does not exist at the end of assert (20s)".to_owned()),
            Verdict::Error => Some("the API server cannot be reached: connection refused".to_owned()),
        };
        if matches!(verdict, Verdict::Failed | Verdict::Error) {
            let place = Place {
                file: job.file.display().to_string(),
                line: 12,
                column: 9,
                step: "the database comes up".to_owned(),
                operation: "assert".to_owned(),
                description: None,
            };
            let failure = crate::engine::Failure::new(outcome.reason.clone().unwrap());
            outcome.failures.push(FailureReport::bare(place, &failure));
        }
        if !matches!(verdict, Verdict::Skipped | Verdict::Interrupted) {
            outcome.duration = Duration::from_millis(1_234);
        }
        outcome
    }

    /// A run with `outcomes`, the same at every call.
    pub fn run<const N: usize>(outcomes: [Outcome; N]) -> RunReport {
        let description = Description {
            environment: "embedded".to_owned(),
            kubernetes: "v1.34.4".to_owned(),
            percona: "2.8.2 (double)".to_owned(),
            implementation: "bundled".to_owned(),
            implementation_version: "0.1.0".to_owned(),
            about: About::default(),
        };
        let mut run = RunReport::new("r1".to_owned(), (description, Declared::default()), Vec::new(), &[]);
        run.planned = 5;
        for outcome in outcomes {
            run.add(outcome);
        }
        (run.started, run.updated) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        run
    }
}
