//! MinIO in a container beside the cluster: an object storage that outlives pods, and that an outage can take away.
//!
//! Pods reach it under the name of a Service without pods; this machine, and the double's pgBackRest, through a port on
//! loopback. Both have the same port number, so that one endpoint serves all.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context as _;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::{Value, json};
use testcontainers::bollard::models::PortBinding;
use testcontainers::core::IntoContainerPort as _;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use tokio::sync::Mutex;

use super::docker::{Docker, NETWORK};
use super::ledger::{RUN_LABEL, minio_name};
use crate::pki::Authority;
use crate::redact;
use crate::s3::{self, Endpoint};

/// The namespace of what the harness itself has in the cluster.
pub const NAMESPACE: &str = "dittofs-conformance";
/// Field manager of that.
pub const MANAGER: &str = "dittofs-conformance";
/// The Service under which pods find the storage.
const SERVICE: &str = "s3";
/// The port on which MinIO listens.
const PORT: u16 = 9000;
const REGION: &str = "eu-west-1";
/// How long it has to serve: it takes one second on an idle machine. Pulling its image is not part of it.
const START: Duration = Duration::from_mins(1);
/// How often a starting MinIO is asked; it has no event that tells.
const ASK: Duration = Duration::from_millis(50);

/// A running MinIO. Its container is removed when this is dropped.
pub struct Minio {
    container: ContainerAsync<GenericImage>,
    endpoint: Endpoint,
    client: s3::Client,
    /// Where this machine reaches it.
    port: u16,
    /// Where the cluster's Service leads.
    address: Ipv4Addr,
    outages: Mutex<u32>,
}

impl Minio {
    /// Starts a container of `image` (`name:tag`) on kind's network.
    pub async fn start(docker: &Docker, image: &str, run: &str) -> anyhow::Result<Self> {
        let host = format!("{SERVICE}.{NAMESPACE}.svc");
        let authority = Authority::create("object storage of the conformance suite")?;
        // pgBackRest checks a certificate against names only.
        let names = [host.clone(), format!("{host}.cluster.local"), "localhost".to_owned(), "127.0.0.1".to_owned()];
        let identity = authority.server(names)?;
        let access_key = format!("AKIA{}", Alphanumeric.sample_string(&mut rand::rng(), 16).to_uppercase());
        let secret_key = Alphanumeric.sample_string(&mut rand::rng(), 40);
        redact::register(&secret_key);

        let (name, tag) = image.rsplit_once(':').with_context(|| format!("{image} has no tag"))?;
        let container = GenericImage::new(name, tag)
            .with_exposed_port(PORT.tcp())
            .with_network(NETWORK)
            .with_label(RUN_LABEL, run)
            .with_container_name(minio_name(run))
            .with_env_var("MINIO_ROOT_USER", &access_key)
            .with_env_var("MINIO_ROOT_PASSWORD", &secret_key)
            .with_env_var("MINIO_SITE_REGION", REGION)
            .with_env_var("MINIO_BROWSER", "off")
            .with_env_var("MINIO_UPDATE", "off")
            .with_copy_to("/certs/public.crt", identity.certificate.into_bytes())
            .with_copy_to("/certs/private.key", identity.key.into_bytes())
            .with_cmd(["server", "/data", "--address", ":9000", "--certs-dir", "/certs", "--quiet"])
            .with_host_config_modifier(|host| {
                let loopback = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(String::new()) };
                host.publish_all_ports = Some(false);
                host.port_bindings = Some([(format!("{PORT}/tcp"), Some(vec![loopback]))].into());
            })
            .start()
            .await
            .with_context(|| format!("starting MinIO from image {image} (`--minio-image` names another one)"))?;
        let port = container.get_host_port_ipv4(PORT).await.context("looking for the port of MinIO")?;
        let address = docker.address(container.id(), NETWORK).await?;
        let endpoint = Endpoint {
            endpoint: format!("{host}:{port}"),
            local: Some(format!("localhost:{port}")),
            region: REGION.to_owned(),
            access_key,
            secret_key,
            ca: authority.certificate().to_owned(),
        };
        let client = s3::Client::new(&endpoint)?;
        let minio = Self { container, endpoint, client, port, address, outages: Mutex::default() };
        minio.serving().await?;
        Ok(minio)
    }

    async fn serving(&self) -> anyhow::Result<()> {
        let mut last = None;
        let serving = async {
            let mut interval = tokio::time::interval(ASK);
            while let Err(error) = self.client.bucket_exists("readiness").await {
                last = Some(error);
                interval.tick().await;
            }
        };
        if tokio::time::timeout(START, serving).await.is_ok() {
            return Ok(());
        }
        let log = self.container.stdout_to_vec().await.unwrap_or_default();
        let said = last.map(|error| error.to_string()).unwrap_or_default();
        let log = redact::redact(&String::from_utf8_lossy(&log));
        anyhow::bail!("MinIO did not serve within {} s (last seen: {said}); it wrote: {log}", START.as_secs())
    }

    /// How to reach it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The host name of the endpoint, and where this machine finds it.
    pub fn alias(&self) -> (String, SocketAddrV4) {
        let host = self.endpoint.endpoint.rsplit_once(':').map_or(self.endpoint.endpoint.as_str(), |(host, _)| host);
        (host.to_owned(), SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port))
    }

    /// The client for it.
    pub fn client(&self) -> &s3::Client {
        &self.client
    }

    /// The id of its container.
    pub fn container(&self) -> &str {
        self.container.id()
    }

    /// Gives it a name in the cluster.
    pub async fn publish(&self, client: &Client) -> anyhow::Result<()> {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        let objects = forward(NAMESPACE, SERVICE, self.port, SocketAddrV4::new(self.address, PORT));
        apply(client, &namespace).await?;
        for object in &objects {
            apply(client, object).await?;
        }
        Ok(())
    }

    /// Stops answering, for all buckets, until [`Self::end_outage`] was called as often as this.
    pub async fn begin_outage(&self) -> anyhow::Result<()> {
        let mut outages = self.outages.lock().await;
        if *outages == 0 {
            self.container.pause().await.context("pausing MinIO")?;
        }
        *outages += 1;
        Ok(())
    }

    /// Answers again.
    pub async fn end_outage(&self) -> anyhow::Result<()> {
        let mut outages = self.outages.lock().await;
        if *outages == 1 {
            self.container.unpause().await.context("resuming MinIO")?;
        }
        *outages = outages.saturating_sub(1);
        Ok(())
    }
}

/// A Service without pods, whose `port` leads to `target`: two objects.
pub fn forward(namespace: &str, name: &str, port: u16, target: SocketAddrV4) -> [Value; 2] {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "namespace": namespace, "name": name, "labels": {
            "kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": MANAGER } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [target.ip()], "conditions": { "ready": true } }],
        "ports": [{ "name": "main", "port": target.port(), "protocol": "TCP" }],
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": namespace, "name": name },
        "spec": { "type": "ClusterIP", "ports": [{ "name": "main", "port": port, "protocol": "TCP" }] },
    });
    [service, slice]
}

/// Applies an object of a built-in kind.
pub async fn apply(client: &Client, object: &Value) -> anyhow::Result<()> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let name = text("/metadata/name");
    let parameters = PatchParams::apply(MANAGER).force();
    let applied = api.patch(name, &parameters, &Patch::Apply(object)).await;
    applied.map(drop).with_context(|| format!("applying {kind} {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_leads_out_of_the_cluster() {
        insta::assert_yaml_snapshot!(forward("ns", "s3", 32768, "172.18.0.3:9000".parse().unwrap()));
    }
}
