//! Backups of a cluster of the double: pgBackRest, run for real, and Percona's objects around it.
//!
//! [`config`] and [`info`] are pure; [`Repository`] runs commands and knows no Kubernetes.

mod config;
mod info;
mod repository;

pub use config::{Config, Instance, Repo};
pub use info::{Backup, Stanza};
pub use repository::{Failure, Options, Repository};
