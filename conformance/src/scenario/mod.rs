//! The scenario language: what a file may say, and everything that is wrong with one before anything starts.
//!
//! Language layer: base only. Nothing here talks to a cluster, waits, or knows an environment beyond its plain types.

mod declared;
mod defects;
pub mod diagnostic;
#[cfg(test)]
mod documentation;
pub mod expression;
pub mod glob;
mod lint;
mod load;
pub mod nearest;
mod node;
pub mod operations;
mod parse;
pub mod pattern;
mod requirements;
mod schema;
pub mod timeouts;
pub mod types;

pub use declared::{EVENT, SERVER, declared_problems};
pub use defects::{Defect, DefectError};
pub use load::{Entry, Filter, LoadError, lint, load};
pub use operations::Action;
pub use requirements::{Level, Origin, Requirement, Requirements};
pub use schema::{schema, template_schema};
pub use timeouts::{Timeout, TimeoutName, Timeouts};
pub use types::{Binding, Operation, Position, Scenario, Step};
