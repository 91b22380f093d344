//! Where one process of the operator runs: its ports, its kubeconfig and its log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::Client;
use tokio::net::TcpStream;

use super::http;
use super::setup::{Options, Prepared, Site, launch, write_kubeconfig};
use super::unusable::PortTaken;
use crate::controlplane::{Access, ready};
use crate::environment::FAULT_WITHIN;
use crate::pki::Authority;
use crate::process::Process;

/// How long the operator may take until it is ready.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);

// The most that a fault waits for: a leader that gets ready and takes its Lease, and then its standby.
const _: () = assert!(3 * READY_WITHIN.as_secs() < FAULT_WITHIN.as_secs());

/// What one process of the operator is started with.
pub(super) struct Place {
    pub prepared: Arc<Prepared>,
    pub options: Options,
    pub log: PathBuf,
    site: Site,
    /// Has signed the certificate of the webhook.
    authority: Arc<Authority>,
}

impl Place {
    /// Chooses one in the directory of `options`, which must exist.
    pub fn choose(prepared: Arc<Prepared>, options: Options, authority: Arc<Authority>) -> anyhow::Result<Self> {
        let site = Site::choose(&prepared, &authority, &options.directory)?;
        let log = options.directory.join("operator.log");
        Ok(Self { prepared, options, log, site, authority })
    }

    /// One for a second process: it has a directory, ports and a kubeconfig of its own, and writes into the same log.
    pub fn beside(&self, name: &str) -> anyhow::Result<Self> {
        let options = self.below(name)?;
        let site = self.site.beside(&options.directory)?;
        let (prepared, authority) = (Arc::clone(&self.prepared), Arc::clone(&self.authority));
        Ok(Self { prepared, options, log: self.log.clone(), site, authority })
    }

    /// One for the release before this one, which writes into the same log.
    pub fn of_previous(&self) -> anyhow::Result<Self> {
        let previous = self.prepared.previous.clone();
        let previous = previous.with_context(|| {
            format!("the file of {} names no previous release (previous)", self.prepared.implementation.name)
        })?;
        let place = Self::choose(previous, self.below("previous")?, Arc::clone(&self.authority))?;
        Ok(Self { log: self.log.clone(), ..place })
    }

    fn below(&self, name: &str) -> anyhow::Result<Options> {
        let directory = self.options.directory.join(name);
        std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        Ok(Options { directory, ..self.options.clone() })
    }

    /// Installs everything but the webhooks.
    pub async fn install(&self) -> anyhow::Result<()> {
        self.prepared.install(&self.client().await?).await
    }

    /// Lets the API server call the webhook, if there is one. Its process must be ready.
    pub async fn register_webhooks(&self) -> anyhow::Result<()> {
        if !self.prepared.has_webhook() {
            return Ok(());
        }
        let (port, certificate) = (self.site.webhook_port, self.authority.certificate());
        self.prepared.manifests.register_webhooks(&self.client().await?, port, certificate).await
    }

    /// The API server calls the webhook no more.
    pub async fn unregister_webhooks(&self) -> anyhow::Result<()> {
        self.prepared.manifests.unregister_webhooks(&self.client().await?).await
    }

    async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.options.access.config().await?)?)
    }

    /// Starts a process that asks the server of `access`, and waits until it is ready. It takes part in an election if
    /// `elects`.
    ///
    /// # Errors
    /// It does not get ready, and has ended; [`PortTaken`] when somebody else listens where it is to.
    pub async fn launch(&self, access: &Access, elects: bool) -> anyhow::Result<Process> {
        let process = self.spawn(access, elects).await?;
        let implementation = &self.prepared.implementation;
        let url = implementation.ready.render(&self.site.values);
        let url = url.parse().with_context(|| format!("{url:?} (ready) is no URL"))?;
        let webhook = self.prepared.has_webhook().then_some(self.site.webhook_port);
        let readiness = ready(&process, &self.log, READY_WITHIN, async || {
            let status = http::get(&url).await.with_context(|| format!("GET {url}"))?;
            ensure!(status.is_success(), "GET {url} says {status}");
            if let Some(port) = webhook {
                let serving = TcpStream::connect(("127.0.0.1", port)).await;
                serving.with_context(|| format!("connecting to the webhook on port {port}"))?;
            }
            Ok(())
        })
        .await;
        if let Err(error) = readiness {
            process.kill().await;
            return Err(match self.port_of_another() {
                Some(port) => error.context(PortTaken(port)),
                None => error,
            });
        }
        Ok(process)
    }

    /// One of its ports on which somebody else listens. Its process must have ended.
    pub fn port_of_another(&self) -> Option<u16> {
        self.site.port_in_use()
    }

    /// Starts a process as [`Self::launch`] does, and does not wait.
    pub async fn spawn(&self, access: &Access, elects: bool) -> anyhow::Result<Process> {
        write_kubeconfig(&self.prepared, &self.options, access).await?;
        let implementation = &self.prepared.implementation;
        let start = &implementation.start;
        let env = start.env.iter().map(|(name, value)| (name.as_str(), value.render(&self.site.values)));
        let election =
            implementation.leader_election.iter().filter(|_| elects).flat_map(|election| &election.arguments);
        let words: Vec<_> = start.command.iter().chain(election).cloned().collect();
        let launch = launch(implementation, &words, &self.site.values)?
            .envs(env)
            .inherit(["PATH", "HOME", "TMPDIR"])
            .log(&self.log);
        Ok(self.options.spawner.spawn(&launch).await?)
    }
}
