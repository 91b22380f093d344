//! The `DittoFS` operator: gives each `DittoServer` its pods, and its database from the Percona Operator for PostgreSQL.
//!
//! `api` knows no client; `reconcile` and `webhook` use it; `run` starts everything, called by `cli` alone.

pub mod api;
pub mod backoff;
pub mod cli;
pub mod fence;
pub mod leader;
pub mod manifests;
pub mod reconcile;
pub mod run;
pub mod serve;
#[cfg(test)]
mod testing;
pub mod webhook;
