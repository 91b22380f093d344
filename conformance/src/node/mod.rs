//! The node double: runs pods as local processes, by the kubelet's rules.
//!
//! Parts layer: may use the base modules, `postgres` (to read a URL) and `probe` (the names of its variables). The
//! decisions are pure ([`lifecycle`], [`status`], [`variables`], [`mounts`], [`counter`], [`back_off`], [`names`], [`image`]);
//! the worker of each pod carries them out; [`libpq`] runs within pods. `docs/environments/node-double.md` lists what it does
//! not do.

mod address;
mod back_off;
mod check;
mod counter;
mod dispatcher;
mod events;
mod expansion;
mod image;
pub mod libpq;
mod lifecycle;
mod logs;
mod mounts;
mod names;
mod slot;
mod sources;
mod status;
mod surroundings;
mod variables;
mod volumes;
mod worker;

use std::fs::DirBuilder;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use address::loopback;
pub use back_off::BackOffLimits;
pub use image::{Image, ImageTable};
pub use logs::files as log_files;

use crate::hosts::Hosts;
use crate::process::Spawner;

/// Name of the node. Pods that are bound to another one are left alone.
pub const NODE: &str = "dittofs-node";

const FIELD_MANAGER: &str = "kubelet";

/// Where the node is seen in the cluster.
const NODE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Changes of Secrets, ConfigMaps and claims that may wait for a worker to look at them. One that falls behind looks at all of them.
const PENDING_CHANGES: usize = 64;

/// What a node needs.
pub struct Options {
    /// Access to the API server, as an administrator.
    pub config: kube::Config,
    /// Starts the containers.
    pub spawner: Spawner,
    /// Where the names of Services and pods are published.
    pub hosts: Hosts,
    /// A directory for this node alone: logs and volumes. It need not exist; it is made for this user only.
    pub directory: PathBuf,
    /// What images there are.
    pub images: ImageTable,
    /// How long a crashing container waits.
    pub back_off: BackOffLimits,
}

/// What all parts of a node share.
struct Context {
    client: Client,
    spawner: Spawner,
    hosts: Hosts,
    directory: PathBuf,
    images: ImageTable,
    back_off: BackOffLimits,
    addresses: address::Addresses,
    events: events::Events,
    /// Namespaces in which a Secret, ConfigMap or claim has changed.
    configuration: broadcast::Sender<String>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A node that runs. Dropping it ends its pods too, but does not wait for their end.
pub struct Node {
    tasks: TaskTracker,
    directory: PathBuf,
    _shutdown: DropGuard,
}

impl Node {
    /// Registers the node and begins to run pods.
    ///
    /// # Errors
    /// The API server does not answer, or the directory cannot be made.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let Options { config, spawner, hosts, directory, images, back_off } = options;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let client = Client::try_from(config)?;
        register(&client).await.context("cannot register the node")?;

        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let context = Arc::new(Context {
            events: events::Events::new(client.clone(), tasks.clone(), shutdown.clone()),
            client: client.clone(),
            spawner,
            hosts,
            directory: directory.clone(),
            images,
            back_off,
            addresses: address::Addresses::default(),
            configuration: broadcast::Sender::new(PENDING_CHANGES),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        });
        let until_shutdown = || shutdown.clone();
        tasks.spawn(until_shutdown().run_until_cancelled_owned(volumes::bind_claims(client, directory.clone())));
        tasks.spawn(until_shutdown().run_until_cancelled_owned(dispatcher::watch_configuration(Arc::clone(&context))));
        tasks.spawn(until_shutdown().run_until_cancelled_owned(dispatcher::Dispatcher::new(context).run()));
        Ok(Self { tasks, directory, _shutdown: shutdown.drop_guard() })
    }

    /// Where [`log_files`] finds the logs of this node's containers.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Kills every process of every pod and waits until they are gone. The API server need not be there any more.
    pub async fn stop(self) {
        let Self { tasks, _shutdown: shutdown, .. } = self;
        drop(shutdown);
        tasks.close();
        tasks.wait().await;
    }
}

/// There is no heartbeat: the node lifecycle controller, which would look for it, does not run here.
async fn register(client: &Client) -> kube::Result<()> {
    let nodes = Api::<NodeObject>::all(client.clone());
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}},
    });
    nodes.patch(NODE, &parameters, &Patch::Apply(&object)).await?;
    let room = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    let status = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "status": {
            "addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}, {"type": "Hostname", "address": NODE}],
            "allocatable": room,
            "capacity": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the node double runs"}],
        },
    });
    nodes.patch_status(NODE, &parameters, &Patch::Apply(&status)).await?;
    Ok(())
}
