//! What the report says. Its shape follows the Gateway API's `ConformanceReport`
//! (`conformance/apis/v1` of kubernetes-sigs/gateway-api), with a verdict on each requirement beside it.

use jiff::Timestamp;
use serde::Serialize;

use crate::report::State;
use crate::scenario::{Level, Origin};

/// The report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConformanceReport {
    /// Version of this format.
    pub api_version: &'static str,
    /// Always `ConformanceReport`.
    pub kind: &'static str,
    /// When the last of its results came.
    pub date: Timestamp,
    /// The suite that gave the results; several when the runs are by several versions of it.
    pub suite_version: String,
    /// In which of its modes the implementation ran.
    pub mode: String,
    /// What was judged.
    pub implementation: Implementation,
    /// Of core and extended requirements together.
    pub result: ResultWord,
    /// The result in words.
    pub summary: String,
    /// Where the implementation declares to differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<String>,
    /// Why the results are not all that there are: a run that was cut short, or that tried only some scenarios.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<String>,
    /// The runs that it is made of.
    pub runs: Vec<RunSummary>,
    /// A profile for each area of requirements.
    pub profiles: Vec<Profile>,
    /// The verdict on each requirement.
    pub requirements: Vec<RequirementReport>,
    /// What the operator asked of the API server in each scenario, where there was an audit log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<Load>,
}

/// What the operator asked of the API server while a scenario ran: in its namespace, and in none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// The scenario.
    pub scenario: String,
    /// How many servers it makes.
    pub servers: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// How many requests there were.
    pub requests: u64,
    /// How many in a minute, at that rate.
    pub per_minute: u64,
    /// How many for each server; nothing where it makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_server: Option<u64>,
}

/// What was judged, as its file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Implementation {
    /// The company, group or person that maintains it.
    pub organization: String,
    /// The project or repository.
    pub project: String,
    /// Where more about it can be read.
    pub url: String,
    /// Its version.
    pub version: String,
    /// How its maintainers are reached.
    pub contact: Vec<String>,
}

/// One run of the suite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// Its name.
    pub run: String,
    /// The environment.
    pub environment: String,
    /// Version of the API server.
    pub kubernetes: String,
    /// Version of Percona, and whether it is the real one.
    pub percona: String,
    /// When it began.
    pub started: Timestamp,
    /// When its last result came.
    pub ended: Timestamp,
    /// How far it came.
    pub state: State,
}

/// The requirements of one area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The area.
    pub name: String,
    /// Its results in words.
    pub summary: String,
    /// What binds every implementation; nothing when the area has no such requirement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<Status>,
    /// What binds those that claim it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended: Option<Extended>,
    /// What binds nobody yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisional: Option<Status>,
}

/// The results of a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The result.
    pub result: ResultWord,
    /// How many requirements had which verdict.
    pub statistics: Statistics,
    /// The requirements of which nothing is known, or that the implementation does not claim to meet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped_tests: Vec<String>,
    /// The requirements that are met in another way than stated, as the implementation declares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub different_tests: Vec<String>,
    /// The requirements that are not met.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_tests: Vec<String>,
}

/// The results of what binds those that claim it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Extended {
    /// The results.
    #[serde(flatten)]
    pub status: Status,
    /// What the implementation claims.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supported_features: Vec<String>,
    /// What it does not claim: neither tried nor counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsupported_features: Vec<String>,
}

/// A result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ResultWord {
    /// Everything was judged, and passed.
    Success,
    /// Nothing failed; not everything was seen to pass.
    Partial,
    /// Something failed.
    Failure,
}

/// Requirements, counted. The names are the Gateway API's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statistics {
    /// Met.
    pub passed: usize,
    /// Not met.
    pub failed: usize,
    /// Not known, or not claimed.
    pub skipped: usize,
    /// Met in another way than stated, as declared.
    pub different: usize,
}

/// The verdict on a requirement. Ordered: of the scenarios that cover one, the greatest decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RequirementVerdict {
    /// Every scenario that covers it passed.
    Passed,
    /// They passed with what the implementation declares to do differently.
    DeclaredDifferent,
    /// A scenario that covers it could not run in any of the environments.
    Skipped,
    /// A scenario that covers it was not run.
    NotTried,
    /// A scenario that covers it came to no verdict: the environment failed, or the run was interrupted.
    NotJudged,
    /// A scenario that covers it failed.
    Failed,
    /// The implementation declares not to meet it.
    NotSupported,
}

impl RequirementVerdict {
    /// As people read it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::DeclaredDifferent => "declared different",
            Self::Skipped => "skipped",
            Self::NotTried => "not tried",
            Self::NotJudged => "not judged",
            Self::Failed => "failed",
            Self::NotSupported => "not supported",
        }
    }
}

/// A requirement and the verdict on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequirementReport {
    /// Its name.
    pub id: String,
    /// Whom it binds.
    pub level: Level,
    /// Where it comes from.
    pub source: Origin,
    /// What it says.
    pub statement: String,
    /// The verdict.
    pub verdict: RequirementVerdict,
    /// Why it is no pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The scenarios that cover it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scenarios: Vec<ScenarioReport>,
    /// The command that judges it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reproduce: Option<String>,
}

/// A scenario and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// What it says about the requirement.
    pub verdict: RequirementVerdict,
    /// The run that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Why it is no pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By what the implementation declares to do differently it was judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<String>,
    /// What is worth knowing and changes no verdict.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where it failed: file, line and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}
