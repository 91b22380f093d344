//! The scenario language: what a file may say, and everything that is wrong with one before anything starts.
//!
//! Language layer: base only. Nothing here talks to a cluster, waits, or knows an environment beyond its plain types.

pub mod expression;
pub mod nearest;
pub mod operations;
pub mod pattern;
pub mod timeouts;
pub mod types;

pub use operations::Action;
pub use timeouts::{Timeout, TimeoutName, Timeouts};
pub use types::{Binding, Operation, Position, Scenario, Step};
