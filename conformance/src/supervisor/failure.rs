//! Why an environment could not be started, kept across the processes: the supervisor fails, and the runner says so.

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::implementation::Unusable;
use crate::redact::redact;
use crate::tools::ToolError;

/// The environment could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct StartError {
    /// How the program is to end.
    pub exit: Exit,
    /// What happened, without secrets.
    pub message: String,
}

impl StartError {
    /// Finds the kind of a failure; one that has been told by another process stays what it was.
    pub fn of(error: &anyhow::Error) -> Self {
        let message = redact(&format!("{error:#}"));
        Self { exit: exit(error, &message), message }
    }
}

fn exit(error: &anyhow::Error, message: &str) -> Exit {
    for cause in error.chain() {
        if let Some(told) = cause.downcast_ref::<StartError>() {
            return told.exit;
        }
        if let Some(ToolError::Damaged { .. } | ToolError::Digest { .. }) = cause.downcast_ref() {
            return Exit::Digest;
        }
    }
    // Compilers and servers tell this and the next one in their own output only, in the system's words.
    if message.contains("o space left on device") {
        return Exit::DiskFull;
    }
    // Before ports: an operator that has its port, and can still not bind what it wants, is not the machine's fault. When
    // somebody else has the port, it is not called unusable (`PortTaken`).
    if error.is::<Unusable>() {
        return Exit::Implementation;
    }
    if message.contains("ddress already in use") {
        return Exit::PortInUse;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<ToolError>()) {
        Some(error) if error.is_unavailable() => Exit::MissingTool,
        Some(ToolError::Request(_)) => Exit::Usage,
        Some(_) | None => Exit::Environment,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};
    use rstest::rstest;

    use super::*;
    use crate::implementation::PortTaken;

    fn unavailable(reason: &str) -> anyhow::Error {
        let error = ToolError::Unavailable { what: "etcd".into(), reason: reason.into(), remedy: "install Go".into() };
        anyhow::Error::from(error).context("preparing")
    }

    fn damaged() -> anyhow::Error {
        let text = String::new;
        ToolError::Damaged { entry: "/cache/etcd".into(), file: text(), found: text(), expected: text() }.into()
    }

    fn full() -> anyhow::Error {
        anyhow::Error::from(std::io::Error::from_raw_os_error(28)).context("writing the hosts file")
    }

    #[rstest]
    #[case::no_go(unavailable("there is no Go"), Exit::MissingTool)]
    #[case::full_while_building(unavailable("compile: no space left on device"), Exit::DiskFull)]
    #[case::full(full(), Exit::DiskFull)]
    #[case::damaged(damaged(), Exit::Digest)]
    #[case::port(anyhow!("etcd: listen tcp 127.0.0.1:2379: bind: address already in use"), Exit::PortInUse)]
    #[case::wrong_version(ToolError::Request("Kubernetes 1.2 is not known".into()).into(), Exit::Usage)]
    #[case::fixed_port(anyhow!("it ended").context(PortTaken(9443)).context("starting"), Exit::PortInUse)]
    #[case::port_of_its_own(anyhow!("bind: address already in use").context(Unusable), Exit::Implementation)]
    #[case::full_when_it_starts(anyhow!("no space left on device").context(Unusable), Exit::DiskFull)]
    #[case::unusable(anyhow!("it ended").context(Unusable).context("starting"), Exit::Implementation)]
    #[case::other(anyhow!("etcd ended"), Exit::Environment)]
    fn a_failure_has_a_kind(#[case] error: anyhow::Error, #[case] expected: Exit) {
        assert_eq!(StartError::of(&error).exit, expected);
    }

    #[test]
    fn the_kind_survives_the_way_to_another_process() {
        let told = serde_json::to_string(&StartError::of(&damaged())).unwrap();
        let heard: StartError = serde_json::from_str(&told).unwrap();
        let error = Err::<(), _>(heard).context("starting").unwrap_err();
        assert_eq!(StartError::of(&error).exit, Exit::Digest);
    }
}
