//! A process that owns an environment, and how others use it.
//!
//! Environments layer. Two halves that share `plan` and `protocol`: the *supervisor* (its own process, [`main`]) owns a
//! [`Host`], which is an embedded environment or a kind cluster; the *client* ([`Supervised`]) is what the engine knows
//! as an environment. They speak JSON lines over a Unix socket, one connection per lease, so that a client that dies
//! gives back what it had, and a supervisor that loses its runner ends everything.

mod beside;
mod client;
mod commands;
mod connection;
mod failure;
mod fingerprint;
mod host;
mod lanes;
mod plan;
mod process;
mod programs;
mod protocol;
mod serve;
mod start;

pub use beside::{Beside, BesideOptions};
pub use client::Supervised;
pub use commands::{Cleaned, Status, clean, connect_or_start, down, status, up};
pub use failure::StartError;
pub use fingerprint::{FileStamp, Fingerprint};
pub use host::{Host, Lease};
pub use lanes::{Lanes, Permit};
pub use plan::Plan;
pub use process::{COMMAND, main};
pub use programs::DatabasePrograms;
pub use protocol::Granted;
