//! Helm, which installs charts.

use super::command::Workshop;
use super::download::Download;
use super::error::ToolError;
use super::program::Program;
use super::tool::{Options, Tool, architecture};
use super::versions::versions;

const NAME: &str = "helm";

fn program() -> Program {
    let versions = &versions().helm;
    let version = versions.version.as_str();
    let directory = format!("linux-{}", architecture());
    let url = format!("https://get.helm.sh/{NAME}-{version}-{directory}.tar.gz");
    Program {
        title: "Helm",
        name: NAME,
        version,
        minimum: Some(&versions.minimum),
        ask: "version --short",
        download: Some(Download { name: NAME, version, url, directory: Some(directory), programs: &[NAME] }),
        module: "helm.sh/helm/v4",
        package: "helm.sh/helm/v4/cmd/helm",
        variables: vec![format!("helm.sh/helm/v4/internal/version.version={version}")],
        takes: "about 4 minutes the first time",
    }
}

/// Helm, if it is here already.
pub(super) async fn find(workshop: &Workshop, options: &Options) -> Result<Option<Tool>, ToolError> {
    program().find(workshop, options.helm.as_ref()).await
}

/// Helm; without it no chart can be installed.
pub async fn helm(workshop: &Workshop, options: &Options) -> Result<Tool, ToolError> {
    program().prepare(workshop, options.helm.as_ref()).await
}
