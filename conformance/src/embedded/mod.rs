//! The embedded environment: everything on this machine, as processes of one supervisor.
//!
//! Environments layer. Two halves that share `settings` and `protocol`: the *supervisor* (its own process, [`supervisor`])
//! owns control planes, doubles, object storage and operators; the *client* ([`Embedded`]) is what the engine knows as an
//! environment. They speak JSON lines over a Unix socket, one connection per lease, so that a client that dies gives
//! back what it had.

mod capabilities;
mod client;
mod commands;
mod connection;
mod failure;
mod lanes;
mod lease;
mod protocol;
mod serve;
mod settings;
mod shared;
mod stack;
mod start;
pub mod supervisor;

pub use capabilities::foreseen;
pub use client::Embedded;
pub use commands::{Status, clean, connect_or_start, down, status, up};
pub use failure::StartError;
pub use settings::{Settings, Storage};
