//! Installing the operator under test by its chart, when that was asked for, and removing what was not there before.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::config::Kubeconfig;
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};

use crate::implementation::Implementation;
use crate::kind::{Helm, install_operator};
use crate::process::{Run, Spawner, default_base};
use crate::tools::{self, Cache, Display, Workshop};

/// How long the operator's namespace may take to go.
const GONE_WITHIN: Duration = Duration::from_mins(1);

/// What is installed, and with what.
#[derive(Clone, Debug)]
pub struct Install {
    /// The operator's image, `repository:tag`: the nodes must be able to get it.
    pub image: String,
    /// How much it logs.
    pub log_level: String,
    /// Where Helm is looked for.
    pub tools: tools::Options,
}

/// An installation that this run makes, and what was there before it.
pub struct Installed {
    install: Install,
    workshop: Workshop,
    helm: Helm,
    client: Client,
    /// CRDs and namespaces that are not ours.
    before: (Vec<String>, Vec<String>),
    release: tokio::sync::OnceCell<(String, String)>,
}

impl Installed {
    /// Notes what is there. Nothing is changed.
    ///
    /// # Errors
    /// The cluster or Helm cannot be used.
    pub async fn begin(
        install: &Install,
        client: &Client,
        mut kubeconfig: Kubeconfig,
        context: &str,
        display: &Display,
    ) -> anyhow::Result<Self> {
        let run = Arc::new(Run::create(&default_base())?);
        let spawner = Spawner::new(Arc::clone(&run), None)?;
        let cache = Cache::open(Cache::default_root()?)?;
        let workshop = Workshop { cache, spawner: spawner.clone(), progress: display.progress() };
        let prepared = async {
            // Helm's own file: nobody's current context is touched.
            kubeconfig.current_context = Some(context.to_owned());
            let path = run.directory().join("kubeconfig");
            std::fs::write(&path, serde_yaml::to_string(&kubeconfig)?).context("writing a kubeconfig for Helm")?;
            let tool = tools::helm(&workshop, &install.tools).await?;
            let before = (definitions(client).await?, namespaces(client).await?);
            anyhow::Ok((Helm { tool, spawner, kubeconfig: path }, before))
        };
        match prepared.await {
            Ok((helm, before)) => Ok(Self {
                install: install.clone(),
                workshop,
                helm,
                client: client.clone(),
                before,
                release: tokio::sync::OnceCell::new(),
            }),
            Err(error) => {
                run.remove()?;
                Err(error)
            }
        }
    }

    /// Installs the operator, and waits until it works.
    ///
    /// # Errors
    /// Another one is there, or it does not come up: says why.
    pub async fn install(&self, implementation: &Implementation) -> anyhow::Result<()> {
        let Some(cluster) = &implementation.cluster else {
            bail!("the implementation file of {} has no `cluster` section: it names no chart", implementation.name)
        };
        let namespace = &implementation.service_account.namespace;
        if self.helm.is_installed(&cluster.release, namespace).await? {
            bail!(
                "Helm's release {} is in namespace {namespace} already; leave --install-operator out to judge that one",
                cluster.release
            );
        }
        self.release.set((cluster.release.clone(), namespace.clone()))?;
        let Some((repository, tag)) = self.install.image.rsplit_once(':') else {
            bail!("the image {} has no tag", self.install.image)
        };
        let log_level = &self.install.log_level;
        install_operator(&self.workshop, self.helm.clone(), &self.client, implementation, (repository, tag), log_level)
            .await
            .map(drop)
    }

    /// Removes what was installed: the release, and CRDs and namespace that were not there before.
    ///
    /// # Errors
    /// Something is still there: says what.
    pub async fn remove(&self) -> anyhow::Result<()> {
        let removed = self.uninstall().await;
        self.workshop.spawner.run().remove()?;
        removed
    }

    async fn uninstall(&self) -> anyhow::Result<()> {
        let Some((release, namespace)) = self.release.get() else { return Ok(()) };
        self.helm.uninstall(release, namespace).await?;
        let (crds, namespaces) = &self.before;
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in definitions(&self.client).await?.iter().filter(|crd| !crds.contains(crd)) {
            api.delete(crd, &DeleteParams::default()).await.with_context(|| format!("removing CRD {crd}"))?;
        }
        if !namespaces.contains(namespace) {
            let api: Api<Namespace> = Api::all(self.client.clone());
            match api.delete(namespace, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                deleted => {
                    let uid = deleted.with_context(|| format!("removing namespace {namespace}"))?;
                    let uid = uid.either(|namespace| namespace.metadata.uid, |_| None).unwrap_or_default();
                    let gone = await_condition(api, namespace, is_deleted(&uid));
                    let gone = tokio::time::timeout(GONE_WITHIN, gone).await;
                    gone.with_context(|| {
                        format!("namespace {namespace} is still there after {} s", GONE_WITHIN.as_secs())
                    })??;
                }
            }
        }
        Ok(())
    }
}

/// The names of the operator's CRDs that are there: only of its group, for others may install theirs meanwhile.
async fn definitions(client: &Client) -> anyhow::Result<Vec<String>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let listed = api.list_metadata(&ListParams::default()).await.context("listing CRDs")?;
    let names = listed.items.into_iter().filter_map(|crd| crd.metadata.name);
    Ok(names.filter(|name| name.ends_with(".dittofs.dittofs.com")).collect())
}

async fn namespaces(client: &Client) -> anyhow::Result<Vec<String>> {
    let api: Api<Namespace> = Api::all(client.clone());
    let listed = api.list_metadata(&ListParams::default()).await.context("listing namespaces")?;
    Ok(listed.items.into_iter().filter_map(|namespace| namespace.metadata.name).collect())
}
