//! What can be done here, and why the rest cannot.

use std::collections::BTreeMap;

use super::settings::{PerconaKind, Settings};
use crate::environment::{Capabilities, Capability};
use crate::implementation::Implementation;
use crate::supervisor::DatabasePrograms;

/// What can be said before anything is started: what the implementation's file declines. A file that cannot be read
/// declines nothing: starting will say what is wrong with it.
pub fn foreseen(settings: &Settings) -> Capabilities {
    let Ok(implementation) = Implementation::load(&settings.implementation) else { return Capabilities::default() };
    Capabilities { absent: BTreeMap::new(), declared: implementation.declared() }
}

/// The capabilities of an environment made of `parts` for `implementation`.
pub(super) fn capabilities(
    settings: &Settings,
    parts: &DatabasePrograms,
    implementation: &Implementation,
    webhook: bool,
) -> Capabilities {
    let mut absent = BTreeMap::new();
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
    let reason = "the audit log of a kind cluster is inside its node; use --env embedded";
    absent.insert(Capability::AuditLog, reason.to_owned());
    // Which network a node image brings cannot be seen from its name.
    let reason = "whether the network of these nodes enforces policies is not known";
    absent.insert(Capability::NetworkPolicy, reason.to_owned());
    Capabilities { absent, declared: implementation.declared() }
}
