//! What can be done here, and why the rest cannot.

use std::collections::BTreeMap;

use super::settings::Settings;
use super::shared::Parts;
use crate::environment::{Capabilities, Capability, Declared};
use crate::implementation::Implementation;

/// What the doubles do not do, whatever tools there are.
const NEVER: [(Capability, &str); 3] = [
    (Capability::AbsoluteMounts, "the embedded environment runs pods as processes: they see no mounts; use kind"),
    (Capability::ResourceLimits, "the embedded environment enforces no limits; use kind"),
    (Capability::NetworkPolicy, "the embedded environment has no network of its own"),
];

/// What can be said before anything is started: what the doubles never do, and what the implementation's file declines.
/// A file that cannot be read declines nothing: starting will say what is wrong with it.
pub fn foreseen(settings: &Settings) -> Capabilities {
    match Implementation::load(&settings.implementation) {
        Ok(implementation) => complete(never(), &implementation, implementation.webhook.is_some()),
        Err(_) => Capabilities { absent: never(), declared: Declared::default(), aside: false },
    }
}

fn never() -> BTreeMap<Capability, String> {
    NEVER.map(|(capability, why)| (capability, why.to_owned())).into()
}

/// A control plane of its own has an operator of its own.
fn without_control_planes(implementation: &Implementation) -> Option<(Capability, String)> {
    let port = implementation.webhook.as_ref()?.port?;
    let reason =
        format!("{} cannot run twice: its webhook is always on port {port}, says its file", implementation.name);
    Some((Capability::ControlPlanes, reason))
}

fn without_election(implementation: &Implementation) -> Option<(Capability, String)> {
    let reason = format!("the file of {} does not say how it elects a leader (leaderElection)", implementation.name);
    implementation.leader_election.is_none().then_some((Capability::LeaderElection, reason))
}

fn without_previous(implementation: &Implementation) -> Option<(Capability, String)> {
    let reason = format!("the file of {} names no previous release (previous)", implementation.name);
    implementation.previous.is_none().then_some((Capability::PreviousRelease, reason))
}

/// The capabilities of an environment made of `parts` for `implementation`.
pub(super) fn capabilities(parts: &Parts, implementation: &Implementation, webhook: bool) -> Capabilities {
    let mut absent = never();
    if let Err(reason) = &parts.postgresql {
        for capability in [Capability::Percona, Capability::Databases, Capability::Backups, Capability::PerconaControl]
        {
            absent.insert(capability, reason.clone());
        }
    }
    if let Err(reason) = &parts.clients {
        absent.insert(Capability::Pods, reason.clone());
    }
    if let Err(reason) = &parts.pgbackrest {
        absent.entry(Capability::Backups).or_insert_with(|| reason.clone());
    }
    complete(absent, implementation, webhook)
}

/// `absent`, and what `implementation` does not offer.
fn complete(mut absent: BTreeMap<Capability, String>, implementation: &Implementation, webhook: bool) -> Capabilities {
    if !webhook {
        absent.insert(Capability::Webhook, format!("{} has no webhook, says its file", implementation.name));
    }
    absent.extend(without_election(implementation));
    absent.extend(without_previous(implementation));
    let single = without_control_planes(implementation);
    let aside = single.is_none();
    absent.extend(single);
    Capabilities { absent, declared: implementation.declared(), aside }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::the_port_is_chosen("webhook: {}", false)]
    #[case::the_port_is_fixed("webhook: { port: 9443 }", true)]
    fn an_operator_whose_webhook_has_one_port_gets_no_second_control_plane(
        #[case] webhook: &str,
        #[case] absent: bool,
    ) {
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../implementations/bundled.yaml");
        let text = std::fs::read_to_string(bundled).unwrap().replace("directory: ..", "directory: .");
        assert!(text.contains("webhook: {}"));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("implementation.yaml");
        std::fs::write(&file, text.replace("webhook: {}", webhook)).unwrap();
        let reason = foreseen(&Settings::new("conformance".into(), file)).absent.remove(&Capability::ControlPlanes);
        assert_eq!(reason.is_some(), absent);
        assert!(reason.is_none_or(|reason| reason.contains("always on port 9443")));
    }
}
