//! The kind cluster itself: made by kind's command line, and usable when *we* have seen that it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client, Config};

use super::docker::{self, Docker};
use super::ledger::CLUSTER_LABEL;
use super::limits;
use super::ready::{Missing, Seen, unless, until};
use crate::process::{Launch, Spawner};
use crate::tools::Tool;

/// How long `kind create cluster` may take once the node image is there: 20 s on an idle machine.
const CREATED_WITHIN: Duration = Duration::from_mins(5);
/// How long a made cluster may take until pods can be scheduled, Services resolved and volumes made.
const READY_WITHIN: Duration = Duration::from_mins(3);
/// How long an archive may take into the nodes.
const LOADED_WITHIN: Duration = Duration::from_mins(5);
/// The annotation of the StorageClass that claims without one get.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// What kind needs of our environment: where `docker` is and how it speaks to the daemon. Which one that is, we say.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "XDG_RUNTIME_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "KIND_EXPERIMENTAL_DOCKER_NETWORK",
    "KIND_EXPERIMENTAL_PROVIDER",
];

/// A cluster, by its name.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// kind.
    pub kind: Tool,
    /// Starts it.
    pub spawner: Spawner,
    /// The cluster's name.
    pub name: String,
    /// Its own kubeconfig: nobody's current context is touched.
    pub kubeconfig: PathBuf,
}

impl Cluster {
    fn launch(&self, arguments: &[&str]) -> Launch {
        // Named also where nobody else names it: `docker` would take that of its current context.
        Launch::new("kind", &self.kind.path).args(arguments).inherit(INHERITED).env("DOCKER_HOST", docker::host())
    }

    async fn run(&self, arguments: &[&str], limit: Duration) -> anyhow::Result<String> {
        let completed = self.spawner.complete(&self.launch(arguments), limit).await?;
        if completed.status.success() {
            return Ok(completed.stdout);
        }
        bail!("`kind {}` ended with {}:\n{}", arguments.join(" "), completed.status, completed.stderr.trim_end())
    }

    /// Refuses to go on when a cluster of that name is there.
    ///
    /// # Errors
    /// There is one: says how to remove it.
    pub async fn refuse_foreign(&self, docker: &Docker) -> anyhow::Result<()> {
        let name = &self.name;
        if self.nodes(docker).await?.is_empty() {
            return Ok(());
        }
        bail!(
            "a kind cluster {name} is there that this run has not made; remove it with `kind delete cluster --name {name}`"
        )
    }

    /// Makes it from `configuration` (a file) with nodes of `image`.
    pub async fn create(&self, configuration: &Path, image: &str) -> anyhow::Result<()> {
        let (configuration, kubeconfig) = (configuration.to_string_lossy(), self.kubeconfig.to_string_lossy());
        // Without --wait: kind only warns when it was in vain.
        let arguments = ["create", "cluster", "--name", &self.name, "--image", image, "--config", &configuration];
        let arguments: Vec<&str> = arguments.into_iter().chain(["--kubeconfig", &kubeconfig]).collect();
        match self.run(&arguments, CREATED_WITHIN).await {
            Ok(_) => Ok(()),
            Err(error) if error.to_string().contains("failed to pull image") => Err(error.context(format!(
                "the node image {image} is not in Docker and cannot be pulled (`--node-image` names another one)"
            ))),
            Err(error) => Err(limits::explain(error)),
        }
    }

    /// Writes the kubeconfig of a cluster that is there already.
    pub async fn adopt(&self) -> anyhow::Result<()> {
        let kubeconfig = self.kubeconfig.to_string_lossy();
        let arguments = ["export", "kubeconfig", "--name", &self.name, "--kubeconfig", &kubeconfig];
        self.run(&arguments, CREATED_WITHIN).await.map(drop)
    }

    /// The ids of its nodes' containers.
    pub async fn nodes(&self, docker: &Docker) -> anyhow::Result<Vec<String>> {
        docker.labelled(CLUSTER_LABEL, &self.name).await
    }

    /// Puts the images of an archive into its nodes.
    pub async fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let path = archive.to_string_lossy();
        self.run(&["load", "image-archive", &path, "--name", &self.name], LOADED_WITHIN)
            .await
            .map(drop)
            .with_context(|| format!("loading {path} into the cluster"))
    }

    /// Administrator's access.
    pub async fn config(&self) -> anyhow::Result<Config> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)
            .with_context(|| format!("reading {}", self.kubeconfig.display()))?;
        Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
    }
}

/// Waits until pods can be scheduled, Services resolved and volumes made.
pub async fn ready(client: &Client) -> anyhow::Result<()> {
    let all = watcher::Config::default;
    let system = |name: &str| watcher::Config::default().labels(&format!("k8s-app={name}"));
    let nodes = until("the nodes", Api::<Node>::all(client.clone()), all(), READY_WITHIN, nodes_are_ready);
    let classes: Api<StorageClass> = Api::all(client.clone());
    let storage = until("the default StorageClass", classes, all(), READY_WITHIN, |classes| {
        let is_default = |class: &StorageClass| {
            let annotations = class.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
        };
        unless(classes.values().any(is_default), || format!("there are {} classes, none is the default", classes.len()))
    });
    let dns: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    let dns = until("the cluster's DNS", dns, system("kube-dns"), READY_WITHIN, |deployments| {
        let available = |deployment: &Deployment| {
            let status = deployment.status.as_ref();
            status.and_then(|status| status.available_replicas).unwrap_or_default() > 0
        };
        unless(deployments.values().any(available), || "no pod of it is available".to_owned())
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let hopeless = async {
        // Ends only with an error: an image that the node lacks keeps it from ever being ready.
        until("the cluster's own pods", pods, all(), READY_WITHIN * 2, |pods| {
            Err(match pods.values().find_map(super::pods::missing_image) {
                Some(missing) => Missing::ForGood(missing),
                None => Missing::Yet(String::new()),
            })
        })
        .await
    };
    let ready = async { tokio::try_join!(nodes, storage, dns).map(drop) };
    tokio::select! {
        ready = ready => ready,
        failed = hopeless => failed,
    }
    .map_err(limits::explain)
}

fn nodes_are_ready(nodes: &Seen<Node>) -> Result<(), Missing> {
    if nodes.is_empty() {
        return Err(Missing::Yet("there is none".to_owned()));
    }
    match nodes.iter().find(|(_, node)| !is_ready(node)) {
        None => Ok(()),
        Some((name, node)) => Err(Missing::Yet(format!("{name}: {}", reason(node)))),
    }
}

fn is_ready(node: &Node) -> bool {
    condition(node).is_some_and(|(status, _)| status == "True")
}

fn reason(node: &Node) -> String {
    condition(node).map_or_else(|| "it says nothing yet".to_owned(), |(_, message)| message)
}

fn condition(node: &Node) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some((ready.status.clone(), ready.message.clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::process::Run;

    fn node(ready: &str) -> Node {
        serde_json::from_value(json!({ "metadata": { "name": "n" }, "status": { "conditions": [
            { "type": "Ready", "status": ready, "message": "cni plugin not initialized" } ] } }))
        .unwrap()
    }

    #[rstest::rstest]
    #[case::none(&[], Some("there is none"))]
    #[case::all(&["True", "True"], None)]
    #[case::one_is_not(&["True", "False"], Some("1: cni plugin not initialized"))]
    fn nodes_are_awaited_by_name(#[case] ready: &[&str], #[case] missing: Option<&str>) {
        let nodes: Seen<Node> =
            ready.iter().enumerate().map(|(number, ready)| (number.to_string(), node(ready))).collect();
        let expected = missing.map_or(Ok(()), |text| Err(Missing::Yet(text.to_owned())));
        assert_eq!(nodes_are_ready(&nodes), expected);
    }

    #[tokio::test]
    async fn kind_asks_the_daemon_that_we_ask() {
        let directory = tempfile::tempdir().unwrap();
        let run = Arc::new(Run::create(directory.path()).unwrap());
        let cluster = Cluster {
            kind: Tool::named("kind"),
            spawner: Spawner::new(run, None).unwrap(),
            name: "a-cluster".to_owned(),
            kubeconfig: directory.path().join("kubeconfig"),
        };
        let launched = format!("{:?}", cluster.launch(&["version"]));
        assert!(launched.contains(&format!("\"DOCKER_HOST\": {:?}", docker::host())), "{launched}");
        assert!(!launched.contains("DOCKER_CONTEXT"), "{launched}");
    }
}
