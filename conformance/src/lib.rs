//! The conformance suite for `DittoServer` operators on the Percona Operator for PostgreSQL.
//!
//! `docs/design/architecture.md` draws the layers; each module says in its first lines which one it belongs to.

pub mod bench;
pub mod chart;
pub mod cli;
pub mod controlplane;
pub mod duration;
pub mod embedded;
pub mod engine;
pub mod environment;
mod escape;
pub mod existing;
pub mod exit;
pub mod hosts;
pub mod https;
pub mod images;
pub mod implementation;
pub mod inert;
pub mod kind;
pub mod nextest;
pub mod node;
mod partial;
pub mod path;
pub mod percona;
pub mod pki;
mod ports;
pub mod postgres;
mod private;
pub mod probe;
pub mod process;
pub mod reach;
pub mod redact;
pub mod report;
pub mod s3;
mod say;
pub mod scenario;
pub mod supervisor;
#[cfg(test)]
mod testing;
pub mod tools;
