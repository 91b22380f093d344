//! Finds, downloads or builds the programs that the embedded environment is made of.
//!
//! Parts layer: uses `process` only. Every program is looked for in the same order: where the user names it, on the machine,
//! in the cache, at the official download, and is built from source last. What cannot be had is
//! [`ToolError::Unavailable`]: a capability that is absent, with a reason, never a failure of a scenario.

mod access;
mod apt;
mod cache;
mod command;
mod download;
mod error;
mod go;
mod helm;
mod kind;
mod kubernetes;
mod listing;
mod minio;
mod pgbackrest;
mod postgres;
mod prepare;
mod program;
mod progress;
mod tool;
mod versions;

pub use access::accessible;
pub(crate) use apt::Apt;
pub(crate) use cache::digest;
pub use cache::{Cache, Entry, Origin};
pub use command::Workshop;
pub use error::ToolError;
pub use helm::helm;
pub use kind::kind;
pub use kubernetes::ControlPlane;
pub use listing::{Listed, listing};
pub use minio::minio;
pub use postgres::Clients;
pub use prepare::{Needs, Toolbox, prepare};
pub use progress::{Display, Event, Progress, Step};
pub use tool::{Options, Tool};
pub(crate) use tool::{architecture, program_in};
pub use versions::{Versions, parse as parse_version, versions};
