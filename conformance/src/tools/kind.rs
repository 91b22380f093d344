//! kind, which makes clusters of containers.

use super::command::Workshop;
use super::download::Download;
use super::error::ToolError;
use super::program::Program;
use super::tool::{Options, Tool, architecture};
use super::versions::versions;

const NAME: &str = "kind";
const MODULE: &str = "sigs.k8s.io/kind";

fn program() -> Program {
    let versions = &versions().kind;
    let version = versions.version.as_str();
    let file = format!("{NAME}-linux-{}", architecture());
    let url = format!("https://github.com/kubernetes-sigs/kind/releases/download/{version}/{file}");
    Program {
        title: NAME,
        name: NAME,
        version,
        minimum: Some(&versions.minimum),
        ask: "version",
        download: Some(Download { name: NAME, version, url, directory: None, programs: &[NAME] }),
        module: MODULE,
        package: MODULE,
        variables: Vec::new(),
        takes: "a few seconds",
    }
}

/// kind, if it is here already.
pub(super) async fn find(workshop: &Workshop, options: &Options) -> Result<Option<Tool>, ToolError> {
    program().find(workshop, options.kind.as_ref()).await
}

/// kind; without it there is no kind environment. It calls `docker`, which has to be on the `PATH`.
pub async fn kind(workshop: &Workshop, options: &Options) -> Result<Tool, ToolError> {
    program().prepare(workshop, options.kind.as_ref()).await
}
