//! etcd, kube-apiserver and kube-controller-manager.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::cache::{Entry, Origin};
use super::command::Workshop;
use super::download::Download;
use super::error::ToolError;
use super::go::Build;
use super::tool::{Options, Tool, architecture, entry_name, is_program, named};
use super::versions::versions;

/// Both components of Kubernetes as one program; the name it is called by says which one it is.
const MAIN: &str = include_str!("../../assets/kube/main.go");

pub(super) const ETCD: &str = "etcd";
pub(super) const APISERVER: &str = "kube-apiserver";
pub(super) const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// What the cache entry with both components is called.
const KUBERNETES: &str = "kubernetes";

/// The programs of a control plane.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// etcd.
    pub etcd: Tool,
    /// kube-apiserver.
    pub apiserver: Tool,
    /// kube-controller-manager.
    pub controller_manager: Tool,
}

impl ControlPlane {
    /// Finds, fetches or builds all three; without them there is no embedded environment.
    pub async fn prepare(workshop: &Workshop, options: &Options) -> Result<Self, ToolError> {
        let (etcd, (apiserver, controller_manager)) =
            tokio::try_join!(etcd(workshop, options), components(workshop, options))?;
        Ok(Self { etcd, apiserver, controller_manager })
    }
}

/// One of the programs, if it is here already: named by the user, in the directory of `setup-envtest`, or in the cache.
pub(super) async fn find(workshop: &Workshop, options: &Options, program: &str) -> Result<Option<Tool>, ToolError> {
    let (path, entry) = match program {
        ETCD => (&options.etcd, entry_name(ETCD, &versions().etcd.version)),
        APISERVER => (&options.kube_apiserver, entry_name(KUBERNETES, tag(options)?)),
        _ => (&options.kube_controller_manager, entry_name(KUBERNETES, tag(options)?)),
    };
    if let Some(path) = named(path.as_ref(), program)? {
        return Tool::inspect(workshop, path, "named by the user", "--version").await.map(Some);
    }
    let assets = named(options.assets.as_ref(), "KUBEBUILDER_ASSETS")?.map(|assets| assets.join(program));
    if let Some(path) = assets.filter(|path| is_program(path)) {
        return Tool::inspect(workshop, &path, "in KUBEBUILDER_ASSETS", "--version").await.map(Some);
    }
    Ok(workshop.cache.find(&entry)?.map(|entry| Tool::cached(&entry, program)))
}

fn tag(options: &Options) -> Result<&'static str, ToolError> {
    let kubernetes = &versions().kubernetes;
    kubernetes.tag(options.kubernetes.as_deref().unwrap_or(&kubernetes.default)).map_err(ToolError::Request)
}

async fn etcd(workshop: &Workshop, options: &Options) -> Result<Tool, ToolError> {
    if let Some(tool) = find(workshop, options, ETCD).await? {
        return Ok(tool);
    }
    let version = &versions().etcd.version;
    let make = |directory: PathBuf| async move {
        let archive = etcd_archive(version);
        if archive.fetch(workshop, &directory).await? {
            return Ok(Origin { source: format!("downloaded from {}", archive.url), version: version.clone() });
        }
        let module = "go.etcd.io/etcd/server/v3";
        let step = workshop.progress.begin(format!("building etcd {version}"), Some("about a minute the first time"));
        let build =
            Build { name: ETCD, module, version, main: None, package: module, replace: None, variables: vec![] };
        build.run(workshop, &step, &directory.join(ETCD)).await?;
        step.done();
        Ok(Origin { source: format!("built from {module}"), version: version.clone() })
    };
    let entry = workshop.cache.obtain(&entry_name(ETCD, version), &workshop.progress, make).await?;
    Ok(Tool::cached(&entry, ETCD))
}

/// The official archive of etcd.
fn etcd_archive(version: &str) -> Download<'_> {
    let directory = format!("etcd-{version}-linux-{}", architecture());
    let url = format!("https://github.com/etcd-io/etcd/releases/download/{version}/{directory}.tar.gz");
    Download { name: ETCD, version, url, directory: Some(directory), programs: &[ETCD] }
}

async fn components(workshop: &Workshop, options: &Options) -> Result<(Tool, Tool), ToolError> {
    let (apiserver, controller_manager) =
        tokio::try_join!(find(workshop, options, APISERVER), find(workshop, options, CONTROLLER_MANAGER))?;
    if let (Some(apiserver), Some(controller_manager)) = (&apiserver, &controller_manager) {
        return Ok((apiserver.clone(), controller_manager.clone()));
    }
    let entry = kubernetes(workshop, tag(options)?).await?;
    let ours = |program| Tool::cached(&entry, program);
    Ok((apiserver.unwrap_or_else(|| ours(APISERVER)), controller_manager.unwrap_or_else(|| ours(CONTROLLER_MANAGER))))
}

/// The cache entry with both components.
async fn kubernetes(workshop: &Workshop, tag: &str) -> Result<Entry, ToolError> {
    let make = |directory: PathBuf| async move {
        let archive = archive(tag);
        if archive.fetch(workshop, &directory).await? {
            return Ok(Origin { source: format!("downloaded from {}", archive.url), version: tag.to_owned() });
        }
        let what = format!("building kube-apiserver and kube-controller-manager {tag}");
        let step = workshop.progress.begin(what, Some("about 6 minutes the first time"));
        build(tag).run(workshop, &step, &directory.join("kube")).await?;
        for name in [APISERVER, CONTROLLER_MANAGER] {
            let link = directory.join(name);
            symlink("kube", &link).map_err(ToolError::file("link", link))?;
        }
        step.done();
        Ok(Origin { source: "built from k8s.io/kubernetes".to_owned(), version: tag.to_owned() })
    };
    workshop.cache.obtain(&entry_name(KUBERNETES, tag), &workshop.progress, make).await
}

/// The official archive of the components.
fn archive(tag: &str) -> Download<'_> {
    let url = format!("https://dl.k8s.io/{tag}/kubernetes-server-linux-{}.tar.gz", architecture());
    let directory = Some("kubernetes/server/bin".to_owned());
    Download { name: "kubernetes-server", version: tag, url, directory, programs: &[APISERVER, CONTROLLER_MANAGER] }
}

fn build(tag: &str) -> Build<'_> {
    let mut numbers = tag.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let variables = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"]
        .iter()
        .flat_map(|package| {
            [("gitVersion", tag), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean")]
                .map(|(variable, value)| format!("{package}.{variable}={value}"))
        })
        .collect();
    Build {
        name: "Kubernetes",
        module: "k8s.io/kubernetes",
        version: tag,
        main: Some(MAIN),
        package: ".",
        // Its libraries are published apart, as v0.MINOR.PATCH.
        replace: Some(|version| version.replacen("v1.", "v0.", 1)),
        variables,
    }
}
