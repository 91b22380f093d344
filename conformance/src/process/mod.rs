//! Starting, watching and ending child processes, and removing what a killed run leaves behind.
//!
//! Base layer: the standard library and crates only. Nothing outside of this module starts a long-lived process.
//!
//! Three nets catch a child whose supervisor dies: the kernel's death signal (set by [`shim`]), the marker in its
//! environment, and the state file of its run (both read by [`sweep`]).

mod child;
mod launch;
pub(crate) mod procfs;
mod run;
mod shared_memory;
pub mod shim;
mod spawner;
mod sweep;
mod words;

pub use child::{Exit, Process};
pub use launch::{Account, Launch, Output};
pub use nix::sys::signal::Signal;
pub use procfs::Identity;
pub use run::{Found, Run, RunError, State, default_base, list};
pub(crate) use run::{open_lock, provide};
pub use spawner::{Completed, SpawnError, Spawner};
pub use sweep::{DISAPPEAR, Swept, sweep};
pub use words::shell_line;

/// The environment variable that every child carries; its value is the id of the run.
pub const RUN_VARIABLE: &str = "DITTOFS_CONFORMANCE_RUN";
