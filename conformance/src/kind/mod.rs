//! The kind environment: a cluster of containers on this machine, with real nodes, a real proxy and a real DNS.
//!
//! Environments layer. [`Host`] is what the supervisor owns. kind makes the cluster (`cluster`), Helm installs the operator
//! under test (`install`), `percona` is the real operator or the double, `minio` a container beside the cluster. What is
//! made outside of our processes stands in the `ledger` first, and `sweep` removes it from there, whoever dies when.

mod capabilities;
mod cluster;
mod docker;
mod faults;
mod fingerprint;
mod helm;
mod host;
mod install;
mod lease;
mod ledger;
mod limits;
mod logs;
mod minio;
mod not_ready;
mod operator;
mod parts;
mod percona;
mod pods;
mod ready;
mod real;
mod real_faults;
mod settings;
mod sweep;

pub use capabilities::foreseen;
pub use docker::host as docker_host;
pub(crate) use helm::Helm;
pub use host::Host;
pub(crate) use install::operator as install_operator;
pub use settings::{ImageSource, PerconaKind, Settings};
pub use sweep::{GONE_WITHIN, Swept, clean_up, sweep, sweep_images};
