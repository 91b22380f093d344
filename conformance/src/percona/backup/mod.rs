//! Backups of a cluster of the double: pgBackRest, run for real, and Percona's objects around it.
//!
//! `bounds`, `config`, `cron`, `info`, `flow`, `objects` and `storage` are pure; [`Repository`] runs commands and knows no
//! Kubernetes; [`Backups`] joins them, one half in each of the two controllers.

mod bounds;
mod config;
mod cron;
mod flow;
mod info;
mod inner;
pub mod objects;
mod outer;
mod pod;
mod repository;
pub mod restore;
mod schedule;
mod storage;
pub mod volume;

pub use config::{Config, Instance, Repo};
pub use info::{Backup, Stanza};
pub use inner::{Backups, Outcome, PAUSED};
pub use pod::{create, run_job};
pub use repository::{Failure, Options, Program, Repository};
