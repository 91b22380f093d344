//! Judges an implementation by scenarios.
//!
//! Judging layer: uses the scenario language, the seam `environment` and the clients of `postgres` and `s3`; never an
//! environment itself. The middle of it is pure (`path`, `difference`, `matching`, `watch::record`, `watch::timeline`).

mod access;
mod breakdown;
mod completion;
mod containers;
mod context;
mod deadline;
mod difference;
mod differences;
mod emptying;
pub mod evidence;
mod guard;
mod images;
mod invariants;
mod missing;
mod namespace;
mod outcome;
mod permissions;
mod preparation;
mod rate;
mod requests;
mod runner;
pub mod schedule;
mod secrets;
mod settings;
mod steps;
mod trouble;
mod wait;
pub mod watch;

pub use context::Sighting;
pub use missing::Missing;
pub use namespace::remove_all as remove_namespaces;
pub use outcome::{Outcome, StepOutcome, Verdict};
pub use permissions::Permissions;
pub use rate::Rate;
pub use runner::run;
pub use schedule::Job;
pub use settings::{Paused, Settings};
pub use trouble::Failure;
