//! Reconciliation is a pipeline: dereference (client) → validate (pure) → judge and build (pure) → apply (client) →
//! status (pure, then one write).
//!
//! `gate`, `validate`, `build`, `deadline` and `status` know no client. `dereference`, `apply`, `events` and `controller` do.

pub mod apply;
mod backup;
pub mod build;
pub mod controller;
pub mod cron;
pub mod deadline;
pub mod dereference;
pub mod digest;
pub mod events;
pub mod gate;
pub mod pods;
pub mod status;
pub mod triggers;
pub mod validate;
