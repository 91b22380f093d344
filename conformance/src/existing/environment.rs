//! The environment: connecting, and giving the cluster back as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::capabilities::Seen;
use super::context::Chosen;
use super::install::{Install, Installed, usage};
use super::site::Cluster;
use crate::environment::{Capabilities, Description, Environment, EnvironmentError, LeaseRequest, Site};
use crate::implementation::Implementation;
use crate::inert::inert;
use crate::redact::redact;
use crate::say::say;
use crate::tools::Display;

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kubeconfig; none: the usual one (`KUBECONFIG`, `~/.kube/config`).
    pub kubeconfig: Option<PathBuf>,
    /// The context; none: the current one.
    pub context: Option<String>,
    /// The file of the implementation under test: its name, and what it declines.
    pub implementation: PathBuf,
    /// Whether the operator is installed, and how.
    pub install: Option<Install>,
}

/// See the module.
pub struct Existing {
    description: Description,
    capabilities: Capabilities,
    site: Arc<Cluster>,
    installed: Mutex<Option<Installed>>,
}

impl Existing {
    /// Connects to the cluster, says which one it is, and installs the operator when that was asked for.
    ///
    /// # Errors
    /// The cluster cannot be used, or lacks the operator; of what kind that is tells [`crate::supervisor::StartError::of`]. What
    /// was installed by then is removed again.
    pub async fn start(options: &Options, display: &Display, interrupted: &CancellationToken) -> anyhow::Result<Self> {
        let implementation = Implementation::load(&options.implementation)
            .map_err(|error| usage(format!("the implementation cannot be read: {error}")))?;
        let connecting = connect(options.kubeconfig.as_deref(), options.context.as_deref());
        let (chosen, config) = interrupted.run_until_cancelled(connecting).await.ok_or_else(stopped)??;
        let unusable = |error: kube::Error| anyhow!("{chosen} cannot be used: {error}");
        let client = Client::try_from(config.clone()).map_err(unusable)?;
        let asking = client.apiserver_version();
        let version = interrupted.run_until_cancelled(asking).await.ok_or_else(stopped)?.map_err(unusable)?;
        let name = options.install.as_ref().map(|_| implementation.name.as_str());
        anstream::eprintln!("{}", chosen.announcement(&version.git_version, name));
        let mut installed = None;
        if let Some(install) = &options.install {
            let path = options.kubeconfig.as_deref();
            let kubeconfig = (path, kubeconfig(path)?);
            let begun = Installed::begin(install, &client, kubeconfig, &chosen.context, display, interrupted).await?;
            let done = interrupted.run_until_cancelled(Box::pin(begun.install(&implementation))).await;
            match done.unwrap_or_else(|| Err(stopped())) {
                Ok(()) => installed = Some(begun),
                Err(error) => return Err(given_up(error, Some(begun)).await),
            }
        }
        let looking = Box::pin(Seen::look(&client));
        let seen = match interrupted.run_until_cancelled(looking).await {
            Some(Ok(seen)) if seen.servers => seen,
            Some(Ok(_)) => {
                let why = anyhow!(
                    "the cluster at {chosen} does not serve DittoServer: install the operator in it, or add \
                     `--install-operator --operator-image IMAGE --allow-cluster-changes`"
                );
                return Err(given_up(why, installed).await);
            }
            Some(Err(error)) => return Err(given_up(unusable(error), installed).await),
            None => return Err(given_up(stopped(), installed).await),
        };
        let here = if installed.is_some() { implementation.version.clone() } else { "as it is there".to_owned() };
        Ok(Self {
            description: Description {
                environment: "existing".to_owned(),
                kubernetes: version.git_version,
                percona: "as it is there".to_owned(),
                implementation: implementation.name.clone(),
                implementation_version: here,
                about: implementation.about(),
            },
            capabilities: Capabilities { declared: implementation.declared(), ..seen.capabilities() },
            site: Arc::new(Cluster { config, client, bindings: json!({}) }),
            installed: Mutex::new(installed),
        })
    }
}

/// The end of a start: what was installed is removed, and what could not be is told at once, whoever hears the error.
async fn given_up(why: anyhow::Error, installed: Option<Installed>) -> anyhow::Error {
    if let Some(installed) = installed
        && let Err(error) = installed.remove().await
    {
        say(&format!("left behind: {}", inert(&redact(&format!("{error:#}")))));
    }
    why
}

fn stopped() -> anyhow::Error {
    anyhow!("interrupted")
}

fn kubeconfig(path: Option<&Path>) -> anyhow::Result<Kubeconfig> {
    match path {
        Some(path) => {
            Kubeconfig::read_from(path).map_err(|error| usage(format!("{} cannot be used: {error}", path.display())))
        }
        None => {
            Kubeconfig::read().map_err(|error| anyhow!("no cluster is known: {error}; `--kubeconfig` names a file"))
        }
    }
}

/// A client of the cluster that is named, for what is done there without a run; and how to call that cluster.
///
/// # Errors
/// No cluster is known, or there is no such context.
pub async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> anyhow::Result<(String, Client)> {
    let (chosen, config) = connect(kubeconfig, context).await?;
    let client = Client::try_from(config).map_err(|error| anyhow!("{chosen} cannot be used: {error}"))?;
    Ok((chosen.to_string(), client))
}

async fn connect(path: Option<&Path>, context: Option<&str>) -> anyhow::Result<(Chosen, Config)> {
    let kubeconfig = kubeconfig(path)?;
    let chosen = Chosen::of(&kubeconfig, context).map_err(usage)?;
    let choice = KubeConfigOptions { context: Some(chosen.context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &choice).await;
    let config = config.map_err(|error| anyhow!("{chosen} cannot be used: {error}"))?;
    Ok((chosen, config))
}

#[async_trait]
impl Environment for Existing {
    fn description(&self) -> &Description {
        &self.description
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn lease(&self, _request: LeaseRequest) -> Result<Arc<dyn Site>, EnvironmentError> {
        Ok(self.site.clone())
    }

    async fn close(&self) -> Result<(), EnvironmentError> {
        match self.installed.lock().await.take() {
            None => Ok(()),
            Some(installed) => {
                installed.remove().await.map_err(|error| EnvironmentError::Broken(format!("left behind: {error:#}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use rstest::rstest;

    use super::*;
    use crate::exit::Exit;
    use crate::implementation::Unusable;
    use crate::supervisor::StartError;
    use crate::tools::ToolError;

    fn no_helm() -> anyhow::Error {
        let (what, reason, remedy) = ("Helm".to_owned(), "there is no Go".to_owned(), "install Go".to_owned());
        ToolError::Unavailable { what, reason, remedy }.into()
    }

    #[rstest]
    #[case::unusable(anyhow!("the image cannot be pulled").context(Unusable), Exit::Implementation)]
    #[case::no_helm(no_helm(), Exit::MissingTool)]
    #[case::no_tag(usage("the image x has no tag".to_owned()), Exit::Usage)]
    #[case::no_cluster(anyhow!("connection refused"), Exit::Environment)]
    #[tokio::test]
    async fn a_start_that_is_given_up_keeps_its_reason(#[case] why: anyhow::Error, #[case] exit: Exit) {
        assert_eq!(StartError::of(&given_up(why, None).await).exit, exit);
    }

    #[test]
    fn a_kubeconfig_that_was_named_must_be_there() {
        let error = kubeconfig(Some(Path::new("/nowhere/kubeconfig"))).map(drop).context("starting").unwrap_err();
        assert_eq!(StartError::of(&error).exit, Exit::Usage);
    }

    /// What a token that is cancelled before the start leaves undone.
    #[tokio::test]
    async fn an_interrupted_start_asks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, "{apiVersion: v1, kind: Config}").unwrap();
        let implementation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../implementations/bundled.yaml");
        let options = Options { kubeconfig: Some(kubeconfig), context: None, implementation, install: None };
        let interrupted = CancellationToken::new();
        interrupted.cancel();
        let started = Box::pin(Existing::start(&options, &Display::stderr(), &interrupted)).await;
        assert_eq!(started.err().map(|error| error.to_string()).as_deref(), Some("interrupted"));
    }
}
