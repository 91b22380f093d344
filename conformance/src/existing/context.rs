//! Which cluster is meant, and what is said about it before anything is done to it.
//!
//! Pure.

use std::fmt;

use kube::config::Kubeconfig;

/// A context of a kubeconfig, and the server that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The context's name.
    pub context: String,
    /// The API server's URL.
    pub server: String,
}

impl Chosen {
    /// The context of that name; the current one by default.
    ///
    /// # Errors
    /// There is no such context, or it leads nowhere; says which there are.
    pub fn of(kubeconfig: &Kubeconfig, named: Option<&str>) -> Result<Self, String> {
        let known: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let current = kubeconfig.current_context.as_deref().filter(|name| !name.is_empty());
        let Some(name) = named.or(current) else {
            return Err(format!("the kubeconfig has no current context; `--context` names one of: {known}"));
        };
        let found = kubeconfig.contexts.iter().find(|context| context.name == name);
        let Some(found) = found else {
            return Err(format!("the kubeconfig has no context {name}, but: {known}"));
        };
        let cluster = found.context.as_ref().map(|context| context.cluster.as_str()).unwrap_or_default();
        let cluster = kubeconfig.clusters.iter().find(|known| known.name == cluster);
        let server = cluster.and_then(|known| known.cluster.as_ref()?.server.clone());
        let server = server.ok_or_else(|| format!("context {name} of the kubeconfig leads to no server"))?;
        Ok(Self { context: name.to_owned(), server })
    }

    /// What a run is about to do to this cluster. `installs`: the operator that it installs.
    pub fn announcement(&self, version: &str, installs: Option<&str>) -> String {
        let changes = match installs {
            None => "nothing else is changed".to_owned(),
            Some(operator) => format!(
                "{operator} is installed by its chart, with its CRD, cluster roles and webhook, and removed at the end"
            ),
        };
        format!(
            "using the cluster at {self}, Kubernetes {version}\nscenarios make namespaces of their own in it and remove \
             them; {changes}"
        )
    }
}

/// A kubeconfig that leads to the cluster of `context` and nowhere else: without the other contexts, their clusters and the
/// secrets of their users.
pub fn alone(kubeconfig: Kubeconfig, context: &str) -> Kubeconfig {
    let contexts: Vec<_> = kubeconfig.contexts.into_iter().filter(|known| known.name == context).collect();
    let meant = contexts.iter().find_map(|known| known.context.clone()).unwrap_or_default();
    let clusters = kubeconfig.clusters.into_iter().filter(|known| known.name == meant.cluster);
    let users = kubeconfig.auth_infos.into_iter().filter(|known| meant.user.as_ref() == Some(&known.name));
    Kubeconfig {
        clusters: clusters.collect(),
        auth_infos: users.collect(),
        contexts,
        current_context: Some(context.to_owned()),
        kind: kubeconfig.kind,
        api_version: kubeconfig.api_version,
        ..Kubeconfig::default()
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (context {})", self.server, self.context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(current: &str) -> Kubeconfig {
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: '{current}', users: [], \
             clusters: [{{name: c, cluster: {{server: 'https://10.0.0.1:6443'}}}}], \
             contexts: [{{name: staging, context: {{cluster: c, user: u}}}}, \
             {{name: lost, context: {{cluster: gone, user: u}}}}]}}"
        );
        Kubeconfig::from_yaml(&text).unwrap()
    }

    #[test]
    fn the_current_context_is_taken_unless_another_one_is_named() {
        let staging = Chosen { context: "staging".to_owned(), server: "https://10.0.0.1:6443".to_owned() };
        assert_eq!(Chosen::of(&kubeconfig("staging"), None), Ok(staging.clone()));
        assert_eq!(Chosen::of(&kubeconfig("lost"), Some("staging")), Ok(staging));
    }

    #[test]
    fn a_wrong_context_is_told_with_those_that_are_there() {
        let errors = [
            Chosen::of(&kubeconfig(""), None),
            Chosen::of(&kubeconfig("staging"), Some("stagin")),
            Chosen::of(&kubeconfig("lost"), None),
            Chosen::of(&Kubeconfig::default(), None),
        ];
        let errors: Vec<String> = errors.into_iter().map(Result::unwrap_err).collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        the kubeconfig has no current context; `--context` names one of: staging, lost
        the kubeconfig has no context stagin, but: staging, lost
        context lost of the kubeconfig leads to no server
        the kubeconfig has no current context; `--context` names one of: none
        ");
    }

    #[test]
    fn what_leads_to_one_cluster_holds_no_secret_of_another() {
        let text = "{apiVersion: v1, kind: Config, current-context: production, \
                    clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}, \
                    {name: p, cluster: {server: 'https://10.0.0.2:6443'}}], \
                    users: [{name: u, user: {token: of-staging}}, {name: p, user: {token: of-production}}], \
                    contexts: [{name: staging, context: {cluster: c, user: u}}, \
                    {name: production, context: {cluster: p, user: p}}]}";
        let alone = alone(Kubeconfig::from_yaml(text).unwrap(), "staging");
        assert_eq!(Chosen::of(&alone, None).unwrap().server, "https://10.0.0.1:6443");
        let written = serde_yaml::to_string(&alone).unwrap();
        assert!(written.contains("of-staging"), "{written}");
        assert!(!written.contains("production") && !written.contains("10.0.0.2"), "{written}");
    }

    #[test]
    fn context_server_and_changes_are_told_before_the_start() {
        let chosen = Chosen::of(&kubeconfig("staging"), None).unwrap();
        let both =
            [chosen.announcement("v1.34.4", None), chosen.announcement("v1.34.4", Some("dittofs-operator"))].join("\n");
        insta::assert_snapshot!(both, @r"
        using the cluster at https://10.0.0.1:6443 (context staging), Kubernetes v1.34.4
        scenarios make namespaces of their own in it and remove them; nothing else is changed
        using the cluster at https://10.0.0.1:6443 (context staging), Kubernetes v1.34.4
        scenarios make namespaces of their own in it and remove them; dittofs-operator is installed by its chart, with its CRD, cluster roles and webhook, and removed at the end
        ");
    }
}
