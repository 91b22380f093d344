//! The control plane as a whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::runtime::wait::{Condition, await_condition};

use super::apiserver::Audit;
use super::components::Components;
use super::crds::CustomResources;
use super::kubeconfig::Access;
use super::server::{Binaries, Server};
use super::{controllers, etcd, prepared, ready};
use crate::process::{Process, Spawner};

/// How long the controllers may take to make their first object.
const CONTROLLERS_WITHIN: Duration = Duration::from_mins(1);

/// What a control plane is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs.
    pub binaries: Binaries,
    /// A directory for this control plane alone. It is created, and must not be there yet.
    pub directory: PathBuf,
    /// Starts the programs.
    pub spawner: Spawner,
    /// Installed from the beginning.
    pub crds: CustomResources,
    /// The root of the suite's cache; prepared etcd data has a directory of its own in it.
    pub cache: PathBuf,
    /// What its audit log holds.
    pub audit: Audit,
}

/// A control plane that runs. Dropping it kills its processes.
pub struct ControlPlane {
    server: Server,
    controllers: Option<Process>,
    options: Options,
}

impl ControlPlane {
    /// Starts etcd and the API server, and returns when it is ready. The controllers come later: see
    /// [`ControlPlane::start_controllers`].
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let Options { binaries, directory, spawner, crds, cache, audit } = &options;
        create_private(directory)?;
        let key = prepared::key(binaries, crds).context("looking at the control plane's programs")?;
        let data = etcd::data(directory);
        prepared::provide(&cache.join(prepared::ENTRIES), &key, &data, async || {
            let directory = directory.join("prepare");
            create_private(&directory)?;
            let server = Server::start(binaries, &directory, *audit, spawner).await?;
            let components = server.components();
            tokio::select! {
                biased;
                error = components.ended() => return Err(error),
                prepared = prepare(&server, crds) => prepared.context("preparing a control plane")?,
            }
            server.stop().await;
            Ok(etcd::data(&directory))
        })
        .await?;
        tracing::info!("the data of the control plane is there");
        let server = Server::start(binaries, directory, *audit, spawner).await?;
        Ok(Self { server, controllers: None, options })
    }

    /// Starts kube-controller-manager, and returns when its controllers work.
    ///
    /// To be called after the CRDs of the implementation under test are installed: the garbage collector learns of a kind
    /// that comes later with a delay of up to 30 s.
    pub async fn start_controllers(&mut self) -> anyhow::Result<()> {
        let Options { binaries, directory, spawner, .. } = &self.options;
        let process = spawner.spawn(&controllers::launch(&binaries.kube_controller_manager, directory)).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(Client::try_from(self.config())?, "default");
        // A prepared directory holds no service account: the first one proves that the controllers work.
        let first = await_condition(accounts, "default", exists());
        let log = directory.join("kube-controller-manager.log");
        let reason = tokio::select! {
            biased;
            status = process.wait() => format!("it ended with {status}"),
            outcome = tokio::time::timeout(CONTROLLERS_WITHIN, first) => match outcome {
                Ok(outcome) => {
                    outcome.context("watching the first service account")?;
                    self.controllers = Some(process);
                    tracing::info!("the controllers work");
                    return Ok(());
                }
                Err(_) => format!("it made no service account within {} s", CONTROLLERS_WITHIN.as_secs()),
            },
        };
        Err(ready::failure(process.name(), &log, &reason))
    }

    /// Its processes, to notice that one has ended.
    pub fn components(&self) -> Components {
        let components = self.server.components();
        match &self.controllers {
            Some(controllers) => {
                components.with(controllers, self.options.directory.join("kube-controller-manager.log"))
            }
            None => components,
        }
    }

    /// The administrator's access as a client configuration.
    pub fn config(&self) -> kube::Config {
        self.server.config.clone()
    }

    /// The administrator's access.
    pub fn access(&self) -> &Access {
        &self.server.access
    }

    /// The administrator's kubeconfig file (mode 0600).
    pub fn kubeconfig(&self) -> PathBuf {
        self.options.directory.join("admin.kubeconfig")
    }

    /// The audit log: JSON lines, one per answered request; see [`Audit`].
    pub fn audit_log(&self) -> PathBuf {
        self.options.directory.join("audit.log")
    }

    /// Ends all processes at once: the data is thrown away.
    pub async fn stop(&self) {
        if let Some(controllers) = &self.controllers {
            controllers.kill().await;
        }
        self.server.kill().await;
    }
}

/// A directory that only its owner may enter.
fn create_private(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("creating {}", directory.display()))
}

/// What every control plane holds from the beginning.
async fn prepare(server: &Server, crds: &CustomResources) -> anyhow::Result<()> {
    let client = Client::try_from(server.config.clone())?;
    let class: StorageClass = serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": "standard",
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        },
        "provisioner": "conformance.dittofs.com/local",
        "volumeBindingMode": "WaitForFirstConsumer",
    }))?;
    Api::<StorageClass>::all(client.clone()).create(&PostParams::default(), &class).await?;
    crds.install(&client).await
}

fn exists<K>() -> impl Condition<K> {
    |object: Option<&K>| object.is_some()
}
