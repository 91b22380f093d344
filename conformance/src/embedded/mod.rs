//! The embedded environment: everything on this machine, as processes of one supervisor.
//!
//! Environments layer. [`Host`] is what the supervisor owns: control planes, doubles, object storage and operators.

mod capabilities;
mod host;
mod lease;
mod settings;
mod shared;
mod stack;

pub use capabilities::foreseen;
pub use host::Host;
pub use settings::{Settings, Storage};
pub use shared::percona_crds;
