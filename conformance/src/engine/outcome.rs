//! What came of a scenario: plain data, for the report.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::context::Sighting;
use super::evidence::{Bundle, FailureReport};
use super::rate::Rate;
use super::schedule::Job;
use crate::redact::redact;

/// The verdict on one scenario. Ordered by how much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// All that it claims was seen.
    Passed,
    /// It cannot run here; the reason says why.
    Skipped,
    /// The run was interrupted before its end.
    Interrupted,
    /// The environment or the engine is broken: nothing is said about the implementation.
    Error,
    /// The implementation is not as claimed.
    Failed,
}

impl Verdict {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
            Self::Failed => "failed",
        }
    }
}

/// What came of one run of one scenario.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Its name.
    pub scenario: String,
    /// Which repetition of it, from 1.
    pub repetition: u32,
    /// What it claims.
    pub claim: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it was skipped, or what is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, without waiting for the site and without cleaning up.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// How long it took to clean up.
    #[serde(rename = "cleanupMilliseconds", serialize_with = "milliseconds")]
    pub cleanup: Duration,
    /// The steps that were begun.
    pub steps: Vec<StepOutcome>,
    /// What went wrong, first things first.
    pub failures: Vec<FailureReport>,
    /// By what the implementation declares to do differently it was judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<String>,
    /// Logs and objects of a scenario that failed.
    #[serde(skip)]
    pub bundle: Bundle,
    /// Where they were written.
    #[serde(rename = "bundle", skip_serializing_if = "Option::is_none")]
    pub written: Option<PathBuf>,
    /// What the operator asked of the API server meanwhile, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_requests: Option<Rate>,
    /// What is worth knowing and changes no verdict.
    pub warnings: Vec<String>,
    /// What was waited for and seen.
    pub sightings: Vec<Sighting>,
}

impl Outcome {
    /// The outcome of a job of which nothing is known yet.
    pub fn new(job: &Job) -> Self {
        Self {
            scenario: job.scenario.name.clone(),
            repetition: job.repetition,
            claim: job.scenario.claim.clone(),
            verdict: Verdict::Passed,
            reason: None,
            started: Timestamp::now(),
            duration: Duration::ZERO,
            cleanup: Duration::ZERO,
            steps: Vec::new(),
            failures: Vec::new(),
            declared: Vec::new(),
            bundle: Bundle::new(),
            written: None,
            operator_requests: None,
            warnings: Vec::new(),
            sightings: Vec::new(),
        }
    }

    /// The outcome of a job whose task has ended without one.
    pub fn lost(job: &Job, why: &str) -> Self {
        Self { verdict: Verdict::Error, reason: Some(format!("the engine: {}", redact(why))), ..Self::new(job) }
    }

    /// The outcome of a job that was never begun.
    pub fn not_begun(job: &Job, why: &str) -> Self {
        Self { verdict: Verdict::Interrupted, reason: Some(why.to_owned()), ..Self::new(job) }
    }
}

/// One step that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepOutcome {
    /// Its name.
    pub name: String,
    /// How long it took.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// Whether all its operations ended well.
    pub passed: bool,
}

/// Whole milliseconds, as reports have them.
fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
