//! What a container finds around it: its variables and its working directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::address::Address;
use super::expansion::expand;
use super::image::Image;
use super::variables::{self, Sources, VariableError};
use crate::hosts::{HOSTS_VARIABLE, Hosts};
use crate::probe::{ADDRESS_VARIABLE, PORT_VARIABLE};
use crate::process::Launch;

/// Name of the container port that a workload serves its API on.
const API_PORT: &str = "api";

/// The variables and the directory of a container.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// Those that the spec declares, which alone are seen by `$(VAR)`.
    declared: BTreeMap<String, String>,
    /// All of them.
    variables: BTreeMap<String, String>,
    directory: PathBuf,
}

impl Surroundings {
    /// Fails when something that the container's environment refers to is missing.
    pub(super) fn new(
        pod: &Pod,
        container: &Container,
        image: &Image,
        address: &Address,
        sources: &Sources,
        hosts: &Hosts,
        directory: &Path,
    ) -> Result<Self, VariableError> {
        let declared = variables::resolve(container, pod, sources)?;
        let mut variables = image.environment.clone();
        variables.extend([
            ("PATH".to_owned(), image.search_path()),
            ("HOME".to_owned(), directory.display().to_string()),
            ("HOSTNAME".to_owned(), pod.metadata.name.clone().unwrap_or_default()),
            (HOSTS_VARIABLE.to_owned(), hosts.path().display().to_string()),
            (ADDRESS_VARIABLE.to_owned(), address.listen().to_string()),
        ]);
        let mut ports = container.ports.iter().flatten();
        if let Some(port) = ports.find(|port| port.name.as_deref() == Some(API_PORT)) {
            variables.insert(PORT_VARIABLE.to_owned(), port.container_port.to_string());
        }
        variables.extend(declared.clone());
        Ok(Self { declared, variables, directory: directory.to_owned() })
    }

    /// A process of the container. An empty `line` cannot be started.
    pub(super) fn launch(&self, name: String, line: &[String]) -> Launch {
        let (program, arguments) = line.split_first().map_or(("", line), |(program, rest)| (program.as_str(), rest));
        Launch::new(name, program).args(arguments).envs(&self.variables).directory(&self.directory)
    }

    /// The container's command line; `None` when neither it nor its image says what to run.
    pub(super) fn command_line(&self, container: &Container, image: &Image) -> Option<Vec<String>> {
        let expanded = |words: &Option<Vec<String>>| {
            let lookup = |name: &str| self.declared.get(name).map(String::as_str);
            words.iter().flatten().map(|word| expand(word, lookup)).collect::<Vec<_>>()
        };
        image.command_line(&expanded(&container.command), &expanded(&container.args))
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "JSON literals read better without a reference")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::node::address::Addresses;

    fn surroundings(container: Value) -> (Surroundings, Container) {
        let directory = tempfile::tempdir().unwrap();
        let hosts = Hosts::create(directory.path().join("hosts")).unwrap();
        let container: Container = serde_json::from_value(container).unwrap();
        let pod = serde_json::from_value(json!({"metadata": {"name": "demo-0"}, "spec": {"containers": []}})).unwrap();
        let image = Image { environment: [("LANG".to_owned(), "C".to_owned())].into(), ..Image::default() };
        let address = Addresses::default().take(&[]).unwrap();
        let made = Surroundings::new(&pod, &container, &image, &address, &Sources::default(), &hosts, Path::new("/c"));
        (made.unwrap(), container)
    }

    #[test]
    fn a_container_knows_its_name_its_address_and_its_port() {
        let (made, _) = surroundings(json!({"name": "c", "ports": [
            {"name": "metrics", "containerPort": 9000}, {"name": "api", "containerPort": 8181},
        ]}));
        let mut names: Vec<_> = made.variables.keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected = [HOSTS_VARIABLE, ADDRESS_VARIABLE, PORT_VARIABLE, "HOME", "HOSTNAME", "LANG", "PATH"];
        assert_eq!(names, expected);
        assert_eq!((made.variables["HOSTNAME"].as_str(), made.variables[PORT_VARIABLE].as_str()), ("demo-0", "8181"));
        assert!(made.variables[ADDRESS_VARIABLE].starts_with("127."));
    }

    #[test]
    fn command_and_arguments_see_the_variables_of_the_spec() {
        let (made, container) = surroundings(json!({
            "name": "c",
            "command": ["/bin/echo", "$(LEVEL)", "$(HOSTNAME)"],
            "args": ["$(NONE)", "$$(LEVEL)", "$(LANG)"],
            "env": [{"name": "LEVEL", "value": "debug"}],
        }));
        let line = made.command_line(&container, &Image::default());
        assert_eq!(line.unwrap(), ["/bin/echo", "debug", "$(HOSTNAME)", "$(NONE)", "$(LEVEL)", "$(LANG)"]);
    }

    #[test]
    fn what_the_spec_declares_comes_before_what_the_container_has_anyway() {
        let env = json!([{"name": "LANG", "value": "C.UTF-8"}, {"name": "HOSTNAME", "value": "other"}]);
        let (made, _) = surroundings(json!({"name": "c", "env": env}));
        let values = ["LANG", "HOSTNAME", "HOME"].map(|name| made.variables[name].as_str());
        assert_eq!(values, ["C.UTF-8", "other", "/c"]);
    }
}
