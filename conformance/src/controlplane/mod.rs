//! A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager.
//!
//! Environments layer. Uses `process` and `pki` and nothing above them; knows neither DittoFS nor Percona: CRDs come as
//! files.
//!
//! etcd listens on a Unix socket in the run directory, so that it needs no port and no other user can reach it. The API
//! server starts from a *prepared* etcd data directory that already holds the CRDs (`prepared`). There is no scheduler,
//! kubelet or volume binder: those are the business of the doubles.

mod apiserver;
mod components;
mod controllers;
mod crds;
mod etcd;
mod kubeconfig;
mod memory;
mod plane;
mod prepared;
mod ready;
mod server;

pub use apiserver::Audit;
pub use components::Components;
pub use crds::{CustomResources, remove, wait_until_established};
pub use kubeconfig::Access;
pub use plane::{ControlPlane, Options};
pub use ready::{ready, tail};
pub use server::Binaries;
