//! The seam between the engine, which judges, and the environments, which exist.
//!
//! Seam layer: traits and plain types only. The engine knows an environment through [`Environment`] and [`Site`] and
//! through nothing else, so that one scenario file runs on all of them.

mod capability;
mod declared;
mod fault;
mod site;

pub use capability::{Capabilities, Capability};
pub use declared::{About, Declared, Tolerated};
pub use fault::{FAULT_WITHIN, Fault, FaultId, RequestFailure};
pub use site::{
    AuditLog, Container, Database, DatabaseRequest, Description, Environment, EnvironmentError, Isolation,
    LeaseRequest, OperatorState, Site, Stream,
};
