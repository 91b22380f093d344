//! The operator under test as a Deployment: installed by its chart, stopped and started by its number of replicas.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;

use super::pods::rolled_out;
use super::ready::{Missing, Seen, unless, until};
use crate::environment::FAULT_WITHIN;
use crate::implementation::Unusable;

/// How long a Deployment may take until its pods are ready, with its images in the nodes.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// How long its pods may take to go: longer than their grace period.
const GONE_WITHIN: Duration = Duration::from_mins(1);
/// How long a webhook that is ready may take until the API server reaches it.
const REACHED_WITHIN: Duration = Duration::from_secs(30);
/// How often that is tried: nothing tells when a proxy has learnt of an endpoint.
const ASK: Duration = Duration::from_millis(100);

// The most that a fault of the operator waits for.
const _: () =
    assert!(GONE_WITHIN.as_secs() + READY_WITHIN.as_secs() + REACHED_WITHIN.as_secs() < FAULT_WITHIN.as_secs());

/// A Deployment by which an operator runs.
#[derive(Clone)]
pub struct Workload {
    /// Administrator's access.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Workload {
    /// Asks for so many replicas.
    async fn scale(&self, replicas: i32) -> anyhow::Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let scaled = deployments.patch(&self.name, &PatchParams::default(), &patch).await;
        scaled.map(drop).with_context(|| format!("scaling Deployment {} to {replicas}", self.name))
    }

    /// Stops it. Returns when no pod is left.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.scale(0).await?;
        let what = format!("stopping Deployment {}", self.name);
        until(&what, self.pods(), self.selector().await?, GONE_WITHIN, |pods: &Seen<Pod>| {
            let left: Vec<&str> = pods.keys().map(String::as_str).collect();
            unless(left.is_empty(), || format!("pods {} are still there", left.join(", ")))
        })
        .await
    }

    /// Kills its pods: they get no time to end. The Deployment makes others.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let selector = self.selector().await?;
        let selected = ListParams { label_selector: selector.label_selector, ..ListParams::default() };
        let killed = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let deleted = self.pods().delete_collection(&killed, &selected).await;
        deleted.map(drop).with_context(|| format!("killing the pods of Deployment {}", self.name))
    }

    /// Starts it. Returns when it is ready.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.scale(1).await?;
        self.ready().await
    }

    /// Returns at once when it runs, else when it does again.
    pub async fn running(&self) -> anyhow::Result<()> {
        if self.is_running().await? { Ok(()) } else { self.ready().await.map_err(Unusable::blame) }
    }

    /// Waits until it is as asked for. An image that cannot be had ends the wait at once.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let what = format!("Deployment {}", self.name);
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let (seen, pods) = tokio::sync::watch::channel(Seen::<Pod>::new());
        // Two watches: the Deployment's own status comes last, the pods tell what keeps it.
        let selector = self.selector().await?;
        let hopeless = until(&what, self.pods(), selector, READY_WITHIN * 2, move |pods| {
            seen.send_replace(pods.clone());
            match pods.values().find_map(super::pods::missing_image) {
                Some(missing) => Err(Missing::ForGood(missing)),
                None => Err(Missing::Yet(String::new())),
            }
        });
        let name = self.name.clone();
        let ready = until(&what, deployments, only, READY_WITHIN, move |deployments| {
            rolled_out(deployments.get(&name), &pods.borrow())
        });
        tokio::select! {
            ready = ready => ready,
            hopeless = hopeless => hopeless,
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What selects its pods.
    async fn selector(&self) -> anyhow::Result<watcher::Config> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let deployment =
            deployments.get(&self.name).await.with_context(|| format!("looking at Deployment {}", self.name))?;
        let labels = deployment.spec.and_then(|spec| spec.selector.match_labels).unwrap_or_default();
        let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Ok(watcher::Config::default().labels(&selector.join(",")))
    }

    /// Whether it runs, as far as its pods tell.
    pub async fn is_running(&self) -> anyhow::Result<bool> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let status = deployments.get_status(&self.name).await?.status.unwrap_or_default();
        Ok(status.ready_replicas.unwrap_or_default() > 0)
    }

    /// Whether it has a validating webhook.
    pub async fn has_webhook(&self) -> anyhow::Result<bool> {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let listed = configurations.list(&ListParams::default()).await?;
        let ours = |configuration: &ValidatingWebhookConfiguration| {
            configuration.webhooks.iter().flatten().any(|webhook| {
                let service = webhook.client_config.service.as_ref();
                service.is_some_and(|service| service.namespace == self.namespace)
            })
        };
        Ok(listed.items.iter().any(ours))
    }

    /// Waits until the API server reaches the webhook: a proxy learns of a ready pod a moment later. Asks for a server that
    /// is not made (`dryRun`); any answer but that the webhook could not be called will do.
    ///
    /// # Errors
    /// The operator is blamed only when the API server has said that it could not call the webhook.
    pub async fn webhook_reached(&self) -> anyhow::Result<()> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("dittofs.dittofs.com", "v1alpha1", "DittoServer"));
        let servers: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), "default", &resource);
        let server = DynamicObject::new("conformance-webhook", &resource)
            .data(json!({ "spec": { "storage": { "metadataSize": "1Gi" } } }));
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let mut last = String::new();
        let reached = async {
            let mut interval = tokio::time::interval(ASK);
            loop {
                interval.tick().await;
                match servers.create(&dry, &server).await {
                    Err(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => {
                        last = status.message;
                    }
                    Ok(_) | Err(kube::Error::Api(_)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        match tokio::time::timeout(REACHED_WITHIN, reached).await {
            Ok(reached) => reached.context("asking the webhook"),
            Err(_) if last.is_empty() => {
                anyhow::bail!("the API server does not answer within {} s", REACHED_WITHIN.as_secs())
            }
            Err(_) => {
                let why = anyhow::anyhow!("the webhook is not reached after {} s: {last}", REACHED_WITHIN.as_secs());
                Err(Unusable::blame(why))
            }
        }
    }
}
