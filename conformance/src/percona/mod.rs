//! The double of the Percona Operator for PostgreSQL.
//!
//! Parts layer: uses `postgres`, `pki`, `hosts` and base modules.

pub mod secret;
