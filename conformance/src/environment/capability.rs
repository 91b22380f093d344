//! What an environment can do, and why it cannot do the rest.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Declared;

/// Something that a scenario may need and that not every environment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Capability {
    /// `PerconaPGCluster`s become real PostgreSQL servers.
    Percona,
    /// Pods run.
    Pods,
    /// The implementation under test has a validating webhook.
    Webhook,
    /// An S3 endpoint that speaks TLS.
    S3,
    /// pgBackRest archives to the S3 endpoint.
    Backups,
    /// PostgreSQL servers outside of Percona can be made (`database`).
    Databases,
    /// The operator under test can be stopped and started.
    OperatorControl,
    /// The requests of the operator under test can be held, or made to fail, on their way to the API server.
    OperatorRequests,
    /// Two processes of the operator under test can elect a leader.
    LeaderElection,
    /// The previous release of the operator under test can take its place.
    PreviousRelease,
    /// Percona can be stopped and started, and its Secret and its `ready` held.
    PerconaControl,
    /// The S3 endpoint can be taken away.
    S3Control,
    /// A control plane of its own can be had (`isolation: cluster`).
    ControlPlanes,
    /// The requests of the operator under test can be read in the API server's audit log.
    AuditLog,
    /// Containers see volumes at the absolute paths of their `volumeMounts`.
    AbsoluteMounts,
    /// CPU and memory limits are enforced.
    ResourceLimits,
    /// `NetworkPolicy` is enforced.
    NetworkPolicy,
}

/// The capabilities of one environment: each is there, or absent for a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Absent capabilities and why they are: a sentence that a person can act on.
    pub absent: BTreeMap<Capability, String>,
    /// Whether scenarios that must be alone on a control plane can have one beside the shared one, one after the other, so that the
    /// others need not wait for them.
    #[serde(default)]
    pub aside: bool,
    /// Where the implementation under test declares to differ.
    #[serde(default)]
    pub declared: Declared,
}

impl Capabilities {
    /// Why a scenario that needs `needs` cannot run here; `None` when it can.
    pub fn lacking<'a>(&self, needs: impl IntoIterator<Item = &'a Capability>) -> Option<&str> {
        needs.into_iter().find_map(|need| self.absent.get(need)).map(String::as_str)
    }

    /// Why a scenario that covers `requirements` cannot be asked of this implementation; `None` when it can.
    pub fn declines<'a>(&self, requirements: impl IntoIterator<Item = &'a String>) -> Option<&str> {
        requirements.into_iter().find_map(|requirement| self.declared.unsupported(requirement))
    }
}
