//! The `DittoFS` operator: gives each `DittoServer` its pods, and its database from the Percona Operator for PostgreSQL.
//!
//! `api` knows no client; `reconcile` and `webhook` use it; `cli` starts everything. Nothing else depends on `cli`.

pub mod api;
