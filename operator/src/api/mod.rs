//! The API types. This layer knows no client and no runtime, so everyone can import it.

pub mod dittoserver;
pub mod names;
pub mod percona;
mod schema;
pub mod spec;

pub use dittoserver::{DittoServer, DittoServerSpec, DittoServerStatus, Phase};
pub use percona::PerconaPGCluster;
