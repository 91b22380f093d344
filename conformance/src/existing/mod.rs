//! A cluster that is already there, reached through a kubeconfig: `--env existing`.
//!
//! Environments layer. It only talks to the API server: connections into the cluster are forwarded by it (`reach`), logs are
//! asked of it. Nothing is broken here, so the scenarios that need faults, storage or databases of ours are skipped with the
//! reason. `install` is the one part that changes something outside of the scenarios' namespaces; `remedies` says how people
//! undo that.

mod capabilities;
mod context;
mod environment;
mod install;
mod remedies;
mod site;

pub use environment::{Existing, Options, client};
pub use install::Install;
pub use remedies::left_behind;
