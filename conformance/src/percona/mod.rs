//! The double of the Percona Operator for PostgreSQL: a controller that keeps the contract that was recorded.
//!
//! Parts layer: uses `postgres`, `pki`, `hosts` and the base modules. `secret`, `status`, `names` and `objects` are pure.

pub mod backup;
mod context;
mod events;
mod faults;
mod names;
mod registry;
pub mod secret;

pub use context::{Context, Kind, ignore_absent};
pub use events::Recorder;
pub use faults::{Crash, CrashScope, Faults};
pub use names::{CLUSTER_LABEL, CRUNCHY, INNER, Key, NODE, OUTER, VERSION, owner};
pub use registry::{Instance, Registry};
