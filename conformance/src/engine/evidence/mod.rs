//! What a person needs to understand a failure, gathered before anything is cleaned up.
//!
//! `gather` asks; the rest is pure. Everything in a report has been redacted.

mod bundle;
mod gather;
mod render;

use jiff::Timestamp;
use serde::Serialize;

use super::trouble::{Failure, Subject};
use super::watch::Entry;
use crate::path::Path;
use crate::redact::redact;

pub use bundle::{Bundle, bundle};
pub use gather::gather;
pub(super) use gather::list;
pub use render::render;

/// One failure and its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReport {
    /// Where the operation stands.
    pub place: Place,
    /// What went wrong.
    pub message: String,
    /// Every path that does not match.
    pub mismatches: Vec<MismatchLine>,
    /// What happened to the objects that it is about.
    pub timelines: Vec<ObjectTimeline>,
    /// The last events of the namespace, oldest first.
    pub events: Vec<EventLine>,
    /// The pods of the namespace.
    pub pods: Vec<PodReport>,
}

impl FailureReport {
    /// A report without evidence.
    pub fn bare(place: Place, failure: &Failure) -> Self {
        Self {
            place,
            message: redact(&failure.message),
            mismatches: Vec::new(),
            timelines: Vec::new(),
            events: Vec::new(),
            pods: Vec::new(),
        }
    }
}

/// Where an operation stands in its scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The file.
    pub file: String,
    /// Line, from 1; 0 when it belongs to no line.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Name of the step, or what the engine did.
    pub step: String,
    /// The operation's word; empty for the engine's own checks.
    pub operation: String,
    /// What the file says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// One path that does not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MismatchLine {
    /// The object.
    pub subject: Subject,
    /// Where in it.
    pub path: Path,
    /// What should be there.
    pub expected: String,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// Since when, as far as the timeline goes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectTimeline {
    /// The object.
    pub subject: Subject,
    /// Older entries that are not shown.
    pub earlier: usize,
    /// The last entries, oldest first.
    pub entries: Vec<Entry>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    /// When it was last seen, as the API server has it.
    pub at: String,
    /// `Normal` or `Warning`.
    pub level: String,
    /// Kind and name of the object.
    pub object: String,
    /// Reason.
    pub reason: String,
    /// Message.
    pub message: String,
    /// How often.
    pub count: u64,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodReport {
    /// Its name.
    pub name: String,
    /// Its phase.
    pub phase: String,
    /// Its containers, init containers first.
    pub containers: Vec<ContainerReport>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerReport {
    /// Its name.
    pub name: String,
    /// Its state in words.
    pub state: String,
    /// How often it was restarted.
    pub restarts: u64,
    /// The end of its log.
    pub log: Vec<String>,
}
