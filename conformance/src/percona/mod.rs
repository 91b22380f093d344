//! The double of the Percona Operator for PostgreSQL: a controller that keeps the contract that was recorded.
//!
//! Parts layer: uses `postgres`, `pki`, `hosts` and the base modules. `secret`, `status`, `pod_status`, `names`,
//! `objects`, `role_options` and `volumes` are pure; the passes (`outer`, `inner`, `deletion`) write through `context` only.
//!
//! It stands for three programs: the operator (`controller`, `crash` and the passes), the Patroni in the pods and their
//! kubelet (`patroni` and `pods`). kube-controller-manager is the real one.

pub mod backup;
mod certificates;
mod cluster;
mod context;
mod controller;
mod crash;
mod deletion;
mod double;
mod events;
mod faults;
mod inner;
mod inner_status;
mod machine;
mod names;
mod node;
mod objects;
mod outer;
mod patroni;
mod pod_status;
mod pods;
mod registry;
mod role_options;
pub mod secret;
mod status;
mod user_secrets;
mod users;
mod volumes;

pub use context::{Context, Kind, ignore_absent};
pub use double::{Double, Options};
pub use events::Recorder;
pub use faults::{Crash, CrashScope, Faults};
pub use machine::Machine;
pub use names::{CLUSTER_LABEL, CRUNCHY, INNER, Key, NODE, OUTER, VERSION, owner};
pub use registry::{Instance, Registry};
