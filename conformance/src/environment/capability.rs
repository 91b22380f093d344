//! What an environment can do, and why it cannot do the rest.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Percona can be stopped and started, and its Secret and its `ready` held.
    PerconaControl,
    /// A control plane of its own can be had (`isolation: cluster`).
    ControlPlanes,
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
    /// Requirements that the implementation under test declares not to meet, and why. A name that ends in `/*` means all
    /// below.
    #[serde(default)]
    pub declined: BTreeMap<String, String>,
}

impl Capabilities {
    /// Why a scenario that needs `needs` cannot run here; `None` when it can.
    pub fn lacking<'a>(&self, needs: impl IntoIterator<Item = &'a Capability>) -> Option<&str> {
        needs.into_iter().find_map(|need| self.absent.get(need)).map(String::as_str)
    }

    /// Why a scenario that covers `requirements` cannot be asked of this implementation; `None` when it can.
    pub fn declines<'a>(&self, requirements: impl IntoIterator<Item = &'a String>) -> Option<&str> {
        let declined = |requirement: &String| {
            self.declined.iter().find(|(pattern, _)| match pattern.strip_suffix('*') {
                Some(prefix) => requirement.starts_with(prefix),
                None => requirement == *pattern,
            })
        };
        requirements.into_iter().find_map(declined).map(|(_, reason)| reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("backup/retention", Some("no backups"))]
    #[case("gate/secret-absent", Some("no gate"))]
    #[case("gate/secret-absent-too", None)]
    #[case("backups", None)]
    fn declined_requirements_are_matched_whole_or_by_their_area(#[case] covers: &str, #[case] reason: Option<&str>) {
        let declined = [("backup/*", "no backups"), ("gate/secret-absent", "no gate")];
        let declined = declined.map(|(name, reason)| (name.to_owned(), reason.to_owned())).into();
        let capabilities = Capabilities { declined, ..Capabilities::default() };
        assert_eq!(capabilities.declines([&covers.to_owned()]), reason);
    }
}
