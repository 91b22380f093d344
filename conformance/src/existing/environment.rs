//! The environment: connecting, and giving the cluster back as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::capabilities::Seen;
use super::context::Chosen;
use super::install::{Install, Installed};
use super::site::Cluster;
use crate::environment::{Capabilities, Description, Environment, EnvironmentError, LeaseRequest, Site};
use crate::implementation::Implementation;
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
    /// The cluster cannot be used, or lacks the operator. What was installed by then is removed again.
    pub async fn start(
        options: &Options,
        display: &Display,
        interrupted: &CancellationToken,
    ) -> Result<Self, EnvironmentError> {
        let implementation = Implementation::load(&options.implementation)
            .map_err(|error| EnvironmentError::Broken(format!("the implementation cannot be read: {error}")))?;
        let connecting = connect(options.kubeconfig.as_deref(), options.context.as_deref());
        let (chosen, config) = interrupted.run_until_cancelled(connecting).await.ok_or_else(stopped)??;
        let unusable = |error: kube::Error| broken(&format!("{chosen} cannot be used: {error}"));
        let client = Client::try_from(config.clone()).map_err(unusable)?;
        let asking = client.apiserver_version();
        let version = interrupted.run_until_cancelled(asking).await.ok_or_else(stopped)?.map_err(unusable)?;
        let name = options.install.as_ref().map(|_| implementation.name.as_str());
        anstream::eprintln!("{}", chosen.announcement(&version.git_version, name));
        let mut installed = None;
        if let Some(install) = &options.install {
            let kubeconfig = kubeconfig(options.kubeconfig.as_deref())?;
            let begun = Installed::begin(install, &client, kubeconfig, &chosen.context, display).await;
            let begun = begun.map_err(|error| broken(&format!("{error:#}")))?;
            let done = interrupted.run_until_cancelled(Box::pin(begun.install(&implementation))).await;
            match done {
                Some(Ok(())) => installed = Some(begun),
                Some(Err(error)) => return Err(given_up(&format!("{error:#}"), Some(begun)).await),
                None => return Err(given_up("interrupted", Some(begun)).await),
            }
        }
        let seen = match Seen::look(&client).await {
            Ok(seen) if seen.servers => seen,
            Ok(_) => {
                let why = format!(
                    "the cluster at {chosen} does not serve DittoServer: install the operator in it, or add \
                     `--install-operator --operator-image IMAGE --allow-cluster-changes`"
                );
                return Err(given_up(&why, installed).await);
            }
            Err(error) => return Err(given_up(&unusable(error).to_string(), installed).await),
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

fn broken(text: &str) -> EnvironmentError {
    EnvironmentError::Broken(text.to_owned())
}

/// The end of a start: what was installed is removed, and what could not be is told at once, whoever hears the error.
async fn given_up(why: &str, installed: Option<Installed>) -> EnvironmentError {
    if let Some(installed) = installed
        && let Err(error) = installed.remove().await
    {
        anstream::eprintln!("left behind: {error:#}");
    }
    broken(why)
}

fn stopped() -> EnvironmentError {
    broken("interrupted")
}

fn kubeconfig(path: Option<&Path>) -> Result<Kubeconfig, EnvironmentError> {
    let read = match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    read.map_err(|error| broken(&format!("no cluster is known: {error}; `--kubeconfig` names a file")))
}

/// A client of the cluster that is named, for what is done there without a run; and how to call that cluster.
///
/// # Errors
/// No cluster is known, or there is no such context.
pub async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(String, Client), EnvironmentError> {
    let (chosen, config) = connect(kubeconfig, context).await?;
    let client = Client::try_from(config).map_err(|error| broken(&format!("{chosen} cannot be used: {error}")))?;
    Ok((chosen.to_string(), client))
}

async fn connect(path: Option<&Path>, context: Option<&str>) -> Result<(Chosen, Config), EnvironmentError> {
    let kubeconfig = kubeconfig(path)?;
    let chosen = Chosen::of(&kubeconfig, context).map_err(|error| broken(&error))?;
    let choice = KubeConfigOptions { context: Some(chosen.context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &choice).await;
    let config = config.map_err(|error| broken(&format!("{chosen} cannot be used: {error}")))?;
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
            Some(installed) => installed.remove().await.map_err(|error| broken(&format!("left behind: {error:#}"))),
        }
    }
}
