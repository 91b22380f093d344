//! What can be done here, and why the rest cannot.

use std::collections::BTreeMap;

use super::settings::{PerconaKind, Settings};
use crate::environment::{Capabilities, Capability, Declared};
use crate::implementation::Implementation;
use crate::supervisor::DatabasePrograms;

/// Why the operator's requests cannot be held.
pub(super) const NO_RELAY: &str =
    "the operator in a kind cluster talks to its API server without us in between; use --env embedded";

/// Why there is no other release of the operator.
pub(super) const ONE_RELEASE: &str = "a kind cluster has one release of the operator's chart; use --env embedded";

/// What no kind cluster offers.
const NEVER: [(Capability, &str); 5] = [
    (Capability::OperatorRequests, NO_RELAY),
    (Capability::LeaderElection, NO_RELAY),
    (Capability::PreviousRelease, ONE_RELEASE),
    (Capability::AuditLog, "the audit log of a kind cluster is inside its node; use --env embedded"),
    // Which network a node image brings cannot be seen from its name.
    (Capability::NetworkPolicy, "whether the network of these nodes enforces policies is not known"),
];

fn never() -> BTreeMap<Capability, String> {
    NEVER.map(|(capability, why)| (capability, why.to_owned())).into()
}

/// What can be said before anything is started: what no kind cluster offers, and what the implementation's file declines.
/// A file that cannot be read declines nothing: starting will say what is wrong with it.
pub fn foreseen(settings: &Settings) -> Capabilities {
    let implementation = Implementation::load(&settings.implementation);
    let declared = implementation.map_or_else(|_| Declared::default(), |implementation| implementation.declared());
    Capabilities { absent: never(), declared, aside: false }
}

/// The capabilities of an environment made of `parts` for `implementation`.
pub(super) fn capabilities(
    settings: &Settings,
    parts: &DatabasePrograms,
    implementation: &Implementation,
    webhook: bool,
) -> Capabilities {
    let mut absent = never();
    let double = settings.percona == PerconaKind::Double;
    if let Err(reason) = &parts.postgresql {
        absent.insert(Capability::Databases, reason.clone());
        if double {
            for capability in [Capability::Percona, Capability::Backups, Capability::PerconaControl] {
                absent.insert(capability, reason.clone());
            }
        }
    }
    if let (true, Err(reason)) = (double, &parts.pgbackrest) {
        absent.entry(Capability::Backups).or_insert_with(|| reason.clone());
    }
    if !webhook {
        let name = &implementation.name;
        absent.insert(Capability::Webhook, format!("the chart of {name} registers no validating webhook"));
    }
    Capabilities { absent, declared: implementation.declared(), aside: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_kind_cluster_offers_is_known_before_one_is_made() {
        let settings = Settings::new("conformance".into(), "there-is-none.yaml".into(), "kind-config.yaml".into());
        let absent: Vec<Capability> = foreseen(&settings).absent.into_keys().collect();
        let never = [
            Capability::OperatorRequests,
            Capability::LeaderElection,
            Capability::PreviousRelease,
            Capability::AuditLog,
            Capability::NetworkPolicy,
        ];
        assert_eq!(absent, never);
    }
}
