//! The implementation under test: a file that says how to build, install and start somebody's operator, and the process
//! that comes of it.
//!
//! Environments layer. Uses `controlplane` (access, CRDs), `process`, `pki`, `https` and `tools` (`PATH`). Knows no operator
//! by name: the bundled one is described by `implementations/bundled.yaml` like any other.

mod chart_values;
mod election;
mod failed;
mod file;
mod http;
mod keeper;
mod manifests;
mod operator;
mod place;
mod program;
mod relay;
mod setup;
mod template;
mod unusable;
mod way;
mod writes;

pub use election::Handover;
pub use failed::Failed;
pub use file::{
    ApiVersion, Images, Implementation, InCluster, Kind, LeaderElection, LoadError, ManifestSource, ServiceAccountName,
    Start, Unsupported, Webhook, schema,
};
pub use operator::Operator;
pub use setup::{Options, Prepared};
pub use template::{Template, Values};
pub(crate) use unusable::Told;
pub use unusable::{PortTaken, Unusable};
