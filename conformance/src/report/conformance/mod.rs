//! The report that an implementation's maintainers publish: a verdict on each requirement, from one or more runs.
//!
//! Pure. `document` is what the report says, `judge` comes to it, with `partial` and `reproduce`; `render` writes it as YAML,
//! Markdown and HTML.

mod document;
mod judge;
mod partial;
mod profile;
mod render;
mod reproduce;
#[cfg(test)]
mod tests;

pub use document::{
    ConformanceReport, Extended, Implementation, Profile, RequirementReport, RequirementVerdict, ResultWord,
    RunSummary, ScenarioReport, Statistics, Status,
};
pub use judge::{Catalogue, JudgeError, judge};
pub use render::{html, markdown, yaml};
