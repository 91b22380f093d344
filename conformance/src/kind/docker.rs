//! The Docker daemon: asked through its API, for everything that kind's command line does not do.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Context as _;
use futures::StreamExt as _;
use testcontainers::bollard;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::models::ContainerCreateBody;
use testcontainers::bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};

use crate::exit::Exit;
use crate::supervisor::StartError;

/// The network that kind makes for the nodes of all its clusters.
pub const NETWORK: &str = "kind";

/// A handle of the daemon. Cheap.
#[derive(Clone, Debug)]
pub struct Docker {
    client: bollard::Docker,
}

/// What the daemon says about itself and its machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Where images and volumes are, as the daemon sees it.
    pub root: PathBuf,
    /// Whether control groups are those of version 1.
    pub cgroup_v1: bool,
}

/// Where the daemon is: what `DOCKER_HOST` says, else the usual socket. Contexts of Docker's command line do not count, for
/// everybody who asks the daemon must ask the same one.
pub fn host() -> String {
    let named = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    named.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
}

impl Docker {
    /// Connects to the daemon at [`host`].
    ///
    /// # Errors
    /// There is none, or this user may not use it; both say what to do.
    pub async fn connect() -> anyhow::Result<Self> {
        let client = bollard::Docker::connect_with_host(&host()).map_err(|error| refused(&error))?;
        client.ping().await.map_err(|error| refused(&error))?;
        Ok(Self { client })
    }

    /// What the daemon says about its machine.
    pub async fn machine(&self) -> anyhow::Result<Machine> {
        let info = self.client.info().await.context("asking Docker about its machine")?;
        Ok(Machine {
            root: info.docker_root_dir.unwrap_or_default().into(),
            cgroup_v1: info.cgroup_version.is_some_and(|version| version.to_string() == "1"),
        })
    }

    /// The address of this machine in a network; `None`: there is no such network.
    pub async fn gateway(&self, network: &str) -> anyhow::Result<Option<Ipv4Addr>> {
        let Some(network) = found(self.client.inspect_network(network, None).await).context("looking at a network")?
        else {
            return Ok(None);
        };
        let ranges = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        Ok(ranges.into_iter().filter_map(|range| range.gateway).find_map(|gateway| gateway.parse().ok()))
    }

    /// Whether a network is there.
    pub async fn has_network(&self, network: &str) -> anyhow::Result<bool> {
        Ok(found(self.client.inspect_network(network, None).await).context("looking at a network")?.is_some())
    }

    /// Removes a network, unless it is gone or someone uses it.
    pub async fn remove_unused_network(&self, network: &str) -> anyhow::Result<()> {
        match self.client.remove_network(network).await {
            // Gone; in use.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 403 | 409, .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("removing the network {network}")),
        }
    }

    /// The address of a container in a network.
    pub async fn address(&self, container: &str, network: &str) -> anyhow::Result<Ipv4Addr> {
        let inspected =
            self.client.inspect_container(container, None).await.context("looking for a container's address")?;
        let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.get(network).and_then(|endpoint| endpoint.ip_address.as_deref());
        let address = address.and_then(|address| address.parse().ok());
        address.with_context(|| format!("container {container} has no address in the network {network}"))
    }

    /// The ids of all containers, running or not, that have a label with this value.
    pub async fn labelled(&self, label: &str, value: &str) -> anyhow::Result<Vec<String>> {
        let filter = HashMap::from([("label", vec![format!("{label}={value}")])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filter).build();
        let containers = self.client.list_containers(Some(options)).await.context("listing containers")?;
        Ok(containers.into_iter().filter_map(|container| container.id).collect())
    }

    /// Whether a container that has a label with this value runs.
    pub async fn runs(&self, label: &str, value: &str) -> anyhow::Result<bool> {
        let filter = HashMap::from([("label", vec![format!("{label}={value}")])]);
        let options = ListContainersOptionsBuilder::new().filters(&filter).build();
        let running = self.client.list_containers(Some(options)).await.context("listing containers")?;
        Ok(!running.is_empty())
    }

    /// Ends and removes a container with its anonymous volumes. One that is gone is no error.
    pub async fn remove(&self, container: &str) -> anyhow::Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.client.remove_container(container, Some(options)).await {
            // Gone; being removed by somebody else.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("removing container {container}")),
        }
    }

    /// Whether a container of this name is there, or is just being made: the daemon reserves the name long before it lists
    /// the container, and goes on making it when the client that has asked for it is gone. Found out by asking for one
    /// of that name, of an image that is there.
    pub async fn is_taken(&self, name: &str, image: &str) -> anyhow::Result<bool> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let body = ContainerCreateBody { image: Some(image.to_owned()), ..ContainerCreateBody::default() };
        match self.client.create_container(Some(options), body).await {
            Ok(created) => {
                self.remove(&created.id).await?;
                Ok(false)
            }
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(true),
            // No such image: nothing of it can be made.
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("asking for the container name {name}")),
        }
    }

    /// Removes the images that have a label with this value. Returns how many there were.
    pub async fn remove_images(&self, label: &str, value: &str) -> anyhow::Result<usize> {
        let filter = HashMap::from([("label", vec![format!("{label}={value}")])]);
        let options = ListImagesOptionsBuilder::new().all(true).filters(&filter).build();
        let images = self.client.list_images(Some(options)).await.context("listing images")?;
        for image in &images {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            found(self.client.remove_image(&image.id, Some(options), None).await)
                .with_context(|| format!("removing image {}", image.id))?;
        }
        Ok(images.len())
    }

    /// Waits until one of the containers ends, or the daemon goes away, and says which.
    pub async fn ended(&self, containers: &[String]) -> anyhow::Error {
        let filter = HashMap::from([
            ("type", vec!["container".to_owned()]),
            ("event", vec!["die".to_owned()]),
            ("container", containers.to_vec()),
        ]);
        let options = EventsOptionsBuilder::new().filters(&filter).build();
        let mut events = Box::pin(self.client.events(Some(options)));
        match events.next().await {
            Some(Ok(event)) => {
                let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
                let of = |name: &str| attributes.get(name).cloned().unwrap_or_default();
                anyhow::anyhow!("container {} has ended with exit code {}", of("name"), of("exitCode"))
            }
            Some(Err(error)) => anyhow::anyhow!("the Docker daemon is gone: {error}"),
            None => anyhow::anyhow!("the Docker daemon is gone: it has closed its stream of events"),
        }
    }
}

/// `None` instead of an error when it is not there.
fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why the daemon cannot be used, and what to do.
fn refused(error: &Error) -> anyhow::Error {
    let text = chain(error);
    let (exit, message) = if text.contains("ermission denied") {
        let advice =
            "let this user use it (`sudo usermod -aG docker $USER`, then log in again), or use `--env embedded`";
        (Exit::Environment, format!("the Docker daemon refuses this user ({text}); {advice}"))
    } else {
        let advice = "start or install Docker (DOCKER_HOST says where it is when it is not at the usual place), or use \
                      `--env embedded`, which needs none";
        (Exit::MissingTool, format!("there is no Docker daemon ({text}); {advice}"))
    };
    StartError { exit, message }.into()
}

/// An error with all that caused it: bollard says little itself.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
