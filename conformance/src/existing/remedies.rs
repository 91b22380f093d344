//! What removes an installation, as commands that people are told: when this program cannot, or is ended before it does.

use std::path::{self, Path};
use std::sync::{Mutex, PoisonError};

use super::capabilities::SERVERS;
use crate::process::shell_line;

/// The commands that remove what this process has installed and not removed itself: it may be ended at any moment.
static LEFT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The commands that remove what this process has installed in a cluster and not removed until now.
pub fn left_behind() -> Vec<String> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Notes them.
pub(super) fn note_left(commands: Vec<String>) {
    *LEFT.lock().unwrap_or_else(PoisonError::into_inner) = commands;
}

/// What was there, and is not ours.
pub(super) struct Before {
    pub crds: Vec<String>,
    pub namespaces: Vec<String>,
}

impl Before {
    pub fn has_crd(&self, name: &str) -> bool {
        self.crds.iter().any(|known| known == name)
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.iter().any(|known| known == name)
    }

    /// The commands that remove a release, and what came with it.
    pub fn remedies(&self, Flags { kubeconfig, context }: &Flags, release: &str, namespace: &str) -> Vec<String> {
        let mut commands =
            vec![format!("helm uninstall {release} --namespace {namespace}{kubeconfig} --kube-context {context}")];
        if !self.has_crd(SERVERS) {
            commands.push(format!("kubectl{kubeconfig} --context {context} delete crd {SERVERS}"));
        }
        if !self.has_namespace(namespace) {
            commands.push(format!("kubectl{kubeconfig} --context {context} delete namespace {namespace}"));
        }
        commands
    }
}

/// How a command of Helm or kubectl reaches this cluster and no other.
pub(super) struct Flags {
    /// With the blank before it; empty for the usual kubeconfig.
    kubeconfig: String,
    context: String,
}

impl Flags {
    pub fn new(kubeconfig: Option<&Path>, context: &str) -> Self {
        let word = |text: &str| {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./@:".contains(letter);
            if text.chars().all(plain) { text.to_owned() } else { shell_line([text.to_owned()]) }
        };
        // Whoever is told may be in another directory.
        let path = kubeconfig.map(|path| path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let kubeconfig = path.map(|path| format!(" --kubeconfig {}", word(&path.display().to_string())));
        Self { kubeconfig: kubeconfig.unwrap_or_default(), context: word(context) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(crds: &[&str], namespaces: &[&str]) -> Before {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Before { crds: owned(crds), namespaces: owned(namespaces) }
    }

    #[test]
    fn what_was_there_before_is_not_to_be_removed() {
        let commands = before(&[SERVERS], &["system"]).remedies(&Flags::new(None, "staging"), "theirs", "system");
        assert_eq!(commands, ["helm uninstall theirs --namespace system --kube-context staging"]);
    }

    #[test]
    fn what_is_to_be_removed_is_of_the_cluster_that_was_used() {
        let flags = Flags::new(Some(Path::new("/a b/staging.yaml")), "it's");
        let commands = before(&[], &[]).remedies(&flags, "theirs", "system");
        assert_eq!(
            commands,
            [
                r"helm uninstall theirs --namespace system --kubeconfig '/a b/staging.yaml' --kube-context 'it'\''s'",
                r"kubectl --kubeconfig '/a b/staging.yaml' --context 'it'\''s' delete crd dittoservers.dittofs.dittofs.com",
                r"kubectl --kubeconfig '/a b/staging.yaml' --context 'it'\''s' delete namespace system",
            ]
        );
    }
}
