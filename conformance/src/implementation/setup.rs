//! From the file to something that can be started: build, manifests, permissions, certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};

use super::file::Implementation;
use super::manifests::Manifests;
use super::template::{Template, Values, render_all};
use super::unusable::Unusable;
use crate::controlplane::{Access, tail};
use crate::pki::Authority;
use crate::ports::{Port, is_in_use};
use crate::process::{Launch, Spawner};

/// How long a build command may take. The first build of an operator compiles all that it depends on.
const BUILT_WITHIN: Duration = Duration::from_mins(30);

/// How long the operator's token is good for; every start gets a new one.
const TOKEN_SECONDS: i64 = 7 * 24 * 60 * 60;

/// An implementation that is built and whose manifests are known. One serves any number of control planes.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) implementation: Implementation,
    pub(super) manifests: Manifests,
    pub(super) log_level: String,
    /// The release before it.
    pub(super) previous: Option<Arc<Prepared>>,
}

/// Where and with whose help one operator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The administrator's access to the control plane.
    pub access: Access,
    /// A directory for this operator alone. It is created.
    pub directory: PathBuf,
    /// Starts it.
    pub spawner: Spawner,
}

impl Prepared {
    /// Builds the operator and gathers its manifests; so for the release before it, if its file names one. What the builds print
    /// goes to `log`.
    pub async fn prepare(
        implementation: Implementation,
        spawner: &Spawner,
        log: &Path,
        log_level: String,
    ) -> anyhow::Result<Self> {
        let previous = match implementation.load_previous()? {
            Some(previous) => {
                let prepared = Box::pin(Self::prepare(previous, spawner, log, log_level.clone())).await;
                Some(Arc::new(prepared.context("the previous release")?))
            }
            None => None,
        };
        implementation.build(spawner, log, &log_level).await?;
        let values = values(&implementation, &log_level);
        let manifests = Manifests::gather(&implementation, &values, spawner).await.map_err(Unusable::blame)?;
        Ok(Self { implementation, manifests, log_level, previous })
    }

    /// The file.
    pub fn implementation(&self) -> &Implementation {
        &self.implementation
    }

    /// Installs everything but the webhooks.
    pub async fn install(&self, client: &Client) -> anyhow::Result<()> {
        self.manifests.install(client, &self.implementation.service_account.namespace).await
    }

    /// Whether the operator is asked to serve a webhook.
    pub fn has_webhook(&self) -> bool {
        self.implementation.webhook.is_some() && self.manifests.has_webhooks()
    }
}

impl Implementation {
    /// Builds the operator. What the build prints goes to the file `log`.
    pub async fn build(&self, spawner: &Spawner, log: &Path, log_level: &str) -> anyhow::Result<()> {
        self.run_build(spawner, log, log_level).await.map_err(Unusable::blame)
    }

    async fn run_build(&self, spawner: &Spawner, log: &Path, log_level: &str) -> anyhow::Result<()> {
        let values = values(self, log_level);
        for words in &self.build {
            let launch = command(self, words, &values)?.log(log);
            let process = spawner.spawn(&launch).await?;
            match tokio::time::timeout(BUILT_WITHIN, process.wait()).await {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    let end = tail(log, 30).unwrap_or_default();
                    bail!("building {}: {} ended with {status}:\n{end}", self.name, shown(words, &values));
                }
                Err(_) => bail!(
                    "building {}: {} did not end within {} minutes; see {}",
                    self.name,
                    shown(words, &values),
                    BUILT_WITHIN.as_secs() / 60,
                    log.display()
                ),
            }
        }
        Ok(())
    }

    /// The port on which its webhook always listens, if there is one.
    pub(super) fn webhook_port(&self) -> Option<u16> {
        self.webhook.as_ref().and_then(|webhook| webhook.port)
    }

    /// The values for the chart of [`super::InCluster`], with the operator's image in them.
    ///
    /// # Errors
    /// A text in them has a placeholder that nobody knows.
    pub fn chart_values(&self, log_level: &str, repository: &str, tag: &str) -> anyhow::Result<serde_json::Value> {
        let chart = self.cluster.as_ref().map(|cluster| cluster.values.clone()).unwrap_or_default();
        let mut known = values(self, log_level);
        known.extend([("operatorRepository", repository.to_owned()), ("operatorTag", tag.to_owned())]);
        Ok(render_all(&serde_json::Value::Object(chart), &known)?)
    }
}

/// One choice of ports and files for an operator.
pub(super) struct Site {
    pub values: Values,
    pub webhook_port: u16,
    /// For health, metrics and the webhook; the last one is not used where the file fixes the webhook's.
    ports: [Port; 3],
}

impl Site {
    /// Chooses free ports, and makes the webhook's certificate.
    pub fn choose(prepared: &Prepared, authority: &Authority, directory: &Path) -> anyhow::Result<Self> {
        let implementation = &prepared.implementation;
        let certificates = directory.join("webhook");
        if !certificates.exists() {
            std::fs::create_dir(&certificates)?;
            authority
                .server(["127.0.0.1", "localhost"])?
                .write(&certificates.join("tls.crt"), &certificates.join("tls.key"))?;
        }
        let mut values = values(implementation, &prepared.log_level);
        values.insert("webhookCertificates", certificates.display().to_string());
        Ok(Self::of(values, implementation.webhook_port(), directory)?)
    }

    /// Other ports, and a kubeconfig in `directory`; the certificate stays.
    pub fn beside(&self, directory: &Path) -> std::io::Result<Self> {
        Self::of(self.values.clone(), None, directory)
    }

    fn of(mut values: Values, fixed: Option<u16>, directory: &Path) -> std::io::Result<Self> {
        let ports = [Port::choose()?, Port::choose()?, Port::choose()?];
        let [health, metrics, webhook] = ports.each_ref().map(Port::number);
        let webhook_port = fixed.unwrap_or(webhook);
        values.extend([
            ("healthPort", health.to_string()),
            ("kubeconfig", directory.join("kubeconfig").display().to_string()),
            ("metricsPort", metrics.to_string()),
            ("webhookPort", webhook_port.to_string()),
        ]);
        Ok(Self { values, webhook_port, ports })
    }

    /// One of its ports on which somebody listens: somebody else, when its process has ended.
    pub fn port_in_use(&self) -> Option<u16> {
        let [health, metrics, _] = self.ports.each_ref().map(Port::number);
        [health, metrics, self.webhook_port].into_iter().find(|port| is_in_use(*port))
    }
}

/// Writes a kubeconfig with a fresh token of the operator's service account, for the server of `access`.
pub(super) async fn write_kubeconfig(prepared: &Prepared, options: &Options, access: &Access) -> anyhow::Result<()> {
    let account = &prepared.implementation.service_account;
    let client = Client::try_from(options.access.config().await?)?;
    let request = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..Default::default() },
        ..Default::default()
    };
    let token = Api::<ServiceAccount>::namespaced(client, &account.namespace)
        .create_token_request(&account.name, &PostParams::default(), &request)
        .await
        .with_context(|| {
            format!(
                "asking for a token of the service account {}/{}, which the manifests of {} must contain",
                account.namespace, account.name, prepared.implementation.name
            )
        })?;
    let token = token.status.context("the API server answered without a token")?.token;
    access.with_token(&account.namespace, &token).write(&options.directory.join("kubeconfig"))?;
    Ok(())
}

/// A command of the file: our environment is passed on, except for what cargo and nextest tell the programs they run.
pub(super) fn command(implementation: &Implementation, words: &[Template], values: &Values) -> anyhow::Result<Launch> {
    let theirs = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "NEXTEST"].iter().any(|prefix| name.starts_with(prefix))
            || ["CARGO", "LD_LIBRARY_PATH", "OUT_DIR"].contains(&name)
    };
    let passed_on = std::env::vars_os().map(|(name, _)| name).filter(|name| !name.to_str().is_none_or(theirs));
    Ok(launch(implementation, words, values)?.inherit(passed_on))
}

/// A program of the file with its arguments, in the directory of the file, without an environment.
pub(super) fn launch(implementation: &Implementation, words: &[Template], values: &Values) -> anyhow::Result<Launch> {
    let mut words = words.iter().map(|word| word.render(values));
    let Some(program) = words.next() else { bail!("a command of {} has no program", implementation.name) };
    // A program without a slash is looked for in PATH; with one, relative to the directory of the file.
    let program = if program.contains('/') { implementation.directory.join(program) } else { PathBuf::from(program) };
    Ok(Launch::new(&implementation.name, program).args(words).directory(&implementation.directory))
}

/// A command as messages show it.
pub(super) fn shown(words: &[Template], values: &Values) -> String {
    let words: Vec<String> = words.iter().map(|word| word.render(values)).collect();
    format!("`{}`", words.join(" "))
}

pub(super) fn values(implementation: &Implementation, log_level: &str) -> Values {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Values::from([
        ("logLevel", log_level.to_owned()),
        ("namespace", implementation.service_account.namespace.clone()),
        ("targetDirectory", implementation.directory.join(target).display().to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn listen(port: u16) -> (TcpListener, u16) {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[test]
    fn a_port_on_which_somebody_else_listens_is_told() {
        let site = Site::of(Values::new(), None, Path::new("/run")).unwrap();
        assert_eq!(site.port_in_use(), None);
        let chosen: Vec<String> = site.ports.iter().map(|port| port.number().to_string()).collect();
        let values = ["healthPort", "metricsPort", "webhookPort"].map(|name| site.values[name].clone());
        assert_eq!(values.as_slice(), chosen);
        let (_health, port) = listen(site.ports[0].number());
        assert_eq!(site.port_in_use(), Some(port));
    }

    #[test]
    fn so_is_one_that_the_file_fixes() {
        let (_webhook, port) = listen(0);
        let site = Site::of(Values::new(), Some(port), Path::new("/run")).unwrap();
        assert_eq!(site.values["webhookPort"], port.to_string());
        assert_eq!(site.port_in_use(), Some(port));
    }
}
