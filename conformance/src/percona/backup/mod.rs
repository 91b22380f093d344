//! Backups of a cluster of the double: pgBackRest, run for real, and Percona's objects around it.
//!
//! `config`, `info`, `flow` and `objects` are pure; [`Repository`] runs commands and knows no Kubernetes; [`Backups`] joins
//! them, one half in each of the two controllers.

mod config;
mod flow;
mod info;
mod inner;
pub mod objects;
mod outer;
mod pod;
mod repository;
pub mod restore;
mod schedule;
pub mod volume;

pub use config::{Config, Instance, Repo};
pub use info::{Backup, Stanza};
pub use inner::{Backups, Outcome, PAUSED};
pub use pod::{create, run_job};
pub use repository::{Failure, Options, Program, Repository};
