//! Faults that a scenario can inject.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Isolation;

/// Until then an environment says that a fault is in force or cleared, or why not: longer than what it gives the operator under
/// test to end and to get ready, so that one that does not is told apart from an environment that hangs.
pub const FAULT_WITHIN: Duration = Duration::from_mins(4);

/// Something that goes wrong on purpose. All but [`Fault::KillPostgres`] and [`Fault::KillOperator`]
/// last until they are cleared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// Percona withholds the user Secret of a cluster: all of it, or only the named keys.
    HoldSecret {
        /// Name of the `PerconaPGCluster`.
        cluster: String,
        /// The keys that are withheld; empty means that there is no Secret at all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<String>,
    },
    /// A cluster's `status.state` stays `initializing`.
    HoldReady {
        /// Name of the `PerconaPGCluster`.
        cluster: String,
    },
    /// The operator under test is stopped (SIGTERM); cleared: it is started again.
    StopOperator {},
    /// The operator under test is killed (SIGKILL) and started again at once: in force when it is ready.
    KillOperator {},
    /// The operator under test is killed (SIGKILL) each time the API server has carried out a write of it in the scenario's
    /// namespace, before it hears of that, and started again; three times at most for each path and method, so that
    /// one that begins with the same write each time gets on, too. `Event`s do not count. Cleared: it runs undisturbed.
    KillOperatorAtWrites {},
    /// Every request of the operator under test fails on its way to the API server, and what watches are under way end. Cleared:
    /// requests pass again, those of the same process if it still runs. Clearing fails when the operator asked nothing, or did not
    /// back off: when in the second half of the time it asked more than fifteen times a second, and more than half as
    /// often as in the first. It may end meanwhile, as one does that has lost its lease, and is started again as a kubelet would.
    FailOperatorRequests {
        /// How they fail.
        how: RequestFailure,
    },
    /// The operator under test is started anew with leader election, and beside it a second process of it, which leads; in force
    /// when both are ready. Cleared: one process without an election again. Clearing fails when both led at once: when
    /// the standby wrote before [`Fault::SuspendLeader`], or the former leader after the standby had taken over (`Event`s and
    /// Leases do not count).
    LeaderElection {},
    /// While [`Fault::LeaderElection`] is in force: the process that leads is suspended (SIGSTOP) at its next write of an object,
    /// which the API server carries out, and answers only later. Cleared: it goes on (SIGCONT), with that answer.
    SuspendLeader {},
    /// The previous release of the operator under test (`previous` in its implementation file) takes its place: its manifests are
    /// installed, the process is stopped (SIGTERM), and that of the previous release started. Cleared: the same the other
    /// way round, which is the upgrade. In force, and cleared, when the process is ready.
    PreviousRelease {},
    /// Percona's operator is stopped; cleared: it is started again.
    StopPercona {},
    /// The PostgreSQL server of a cluster is killed (SIGKILL); it comes back by itself.
    KillPostgres {
        /// Name of the `PerconaPGCluster`.
        cluster: String,
    },
    /// Percona's CRDs are not installed, and the operator under test was started like that; cleared: they are installed,
    /// and the operator is *not* started again.
    PerconaAbsent {},
    /// S3 fails for a bucket: every request is answered with 503, or, on kind, with nothing.
    S3Outage {
        /// The bucket.
        bucket: String,
    },
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RequestFailure {
    /// Its connection is closed without an answer.
    Disconnected,
    /// The answer is status 401, as with a token that is not valid any more.
    Unauthorized,
}

impl Fault {
    /// Whether it is over by itself, and needs no release.
    pub fn is_momentary(&self) -> bool {
        matches!(self, Self::KillPostgres { .. } | Self::KillOperator {})
    }

    /// The least isolation under which nobody else notices the fault.
    pub fn isolation(&self) -> Isolation {
        match self {
            Self::PerconaAbsent {}
            | Self::FailOperatorRequests { .. }
            | Self::LeaderElection {}
            | Self::SuspendLeader {}
            | Self::PreviousRelease {} => Isolation::Cluster,
            Self::StopOperator {} | Self::KillOperator {} | Self::KillOperatorAtWrites {} | Self::StopPercona {} => {
                Isolation::Operator
            }
            Self::HoldSecret { .. } | Self::HoldReady { .. } | Self::KillPostgres { .. } | Self::S3Outage { .. } => {
                Isolation::Namespace
            }
        }
    }
}

/// Names an injected fault, so that it can be cleared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultId(pub String);
