//! PostgreSQL: the client that logs in the way an application does, and servers that are the real thing.
//!
//! Parts layer: may use the base modules. The client half ([`Target`], [`Session`]) is also used by the engine and by the
//! probe, so it knows nothing of servers, control planes or scenarios.

mod addresses;
mod client;
mod error;
mod server;
mod settings;
mod target;
mod template;
mod trust;
mod typed;

pub use addresses::{Addresses, PORT, Place};
pub use client::{CONNECT_DEADLINE, Identity, Rows, Session};
pub use error::Error;
pub use server::{Server, ServerError, ServerOptions, blames_the_machine};
pub use target::{SslMode, Target};
pub use template::Installation;
pub use trust::Trust;
