//! The cases: how each trace is driven, and what of it must be the same.

mod backups;
mod changes;
mod life;
mod secrets;

use futures::future::BoxFuture;

use crate::compare::{Allowed, Check};
use crate::driver::Driver;

/// What a case does.
pub type Run = Box<dyn for<'a> FnOnce(&'a mut Driver) -> BoxFuture<'a, anyhow::Result<()>> + Send>;

/// One trace, done again.
pub struct Case {
    /// Short name: that of the situation in `observed.md`.
    pub name: &'static str,
    /// Name of the recording.
    pub trace: &'static str,
    /// Drives the double as the real operator was driven.
    pub run: Run,
    /// What must be the same.
    pub checks: Vec<Check>,
}

/// Makes a [`Run`] of an async function.
macro_rules! run {
    ($function:expr) => {
        Box::new(|driver: &mut crate::driver::Driver| futures::FutureExt::boxed($function(driver)))
    };
}
use run;

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases = life::cases();
    cases.extend(secrets::cases());
    cases.extend(backups::cases());
    cases.extend(changes::cases());
    cases
}

/// Whether a case cannot be driven without pgBackRest.
pub fn needs_backups(case: &Case) -> bool {
    backups::cases().iter().any(|other| other.name == case.name)
}

const META: &[&str] = &["labels", "ownerReferences"];

/// The objects that a cluster is made of, and what of each is compared: names, labels, owners and shape. Contents of
/// ConfigMaps and specs of pods are not: the double's pods are run by the double itself.
pub const OBJECTS: &[(&str, &[&str])] = &[
    ("PostgresCluster", &["labels", "ownerReferences", "spec.shutdown"]),
    ("Secret", &["labels", "ownerReferences", "keys", "type", "annotations"]),
    ("Service", &["labels", "ownerReferences", "type", "headless", "selector", "ports", "publishNotReady"]),
    ("ConfigMap", &["labels", "ownerReferences", "keys"]),
    ("ServiceAccount", META),
    ("Role", META),
    ("RoleBinding", META),
    ("Endpoints", META),
    ("PersistentVolumeClaim", &["labels", "ownerReferences", "finalizers"]),
    ("StatefulSet", &["labels", "ownerReferences", "replicas_spec"]),
    ("Deployment", &["labels", "ownerReferences", "replicas_spec"]),
    ("Pod", &["labels", "containers", "initContainers"]),
];

/// The number of a password only says which of the recording's values it is; marks say whether it changed.
pub const IDS: &[Allowed] = &[
    ("Secret.pguser.password.id", "numbers count the values of one recording"),
    ("Secret.pguser.verifier.id", "numbers count the values of one recording"),
];

/// Conditions that 2.8 copies once: which value that is depends on who is first, also in reality (`observed.md`, i).
pub const FROZEN: &[Allowed] = &[(
    "PerconaPGCluster.status.conditions[ProxyAvailable].*",
    "frozen at its first value, and here PgBouncer is as fast as PostgreSQL",
)];

/// `status.state` goes through the same words.
pub fn states() -> Check {
    Check::Values { kind: "PerconaPGCluster", field: "status", pointer: "/state", skip: &[] }
}

/// The operator writes no Event on the outer object: in no trace.
pub fn silent() -> Check {
    Check::Never(crate::compare::event("PerconaPGCluster/", "*"))
}
