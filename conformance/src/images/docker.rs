//! The `docker` program: builds, saves and loads images.

use std::path::Path;

use super::context::file;
use crate::process::Launch;
use crate::tools::{Step, ToolError, Workshop};

/// How a daemon is spoken to.
const INHERITED: [&str; 4] = ["DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "XDG_RUNTIME_DIR"];
/// How people and contexts choose one.
const CHOICE: [&str; 2] = ["DOCKER_HOST", "DOCKER_CONTEXT"];

/// The label of what is in Docker only until it has been saved into an archive.
pub const TEMPORARY: &str = "com.dittofs.conformance=temporary";

/// Docker, as the user has it.
pub(super) struct Docker<'a> {
    pub workshop: &'a Workshop,
    /// The daemon, as in `DOCKER_HOST`; none: the one that the user has chosen.
    pub daemon: Option<&'a str>,
}

impl Docker<'_> {
    /// Builds the stage `target` of the `Dockerfile` in `context`; `base` takes the place of its base.
    pub(super) async fn build(
        &self,
        context: &Path,
        target: &str,
        base: Option<&str>,
        name: &str,
        step: &Step,
    ) -> Result<(), ToolError> {
        let base = base.map(|base| format!("--build-arg=BASE={base}"));
        let build = self.command("docker build").args(["build", "--quiet", "--label", TEMPORARY, "--target", target]);
        let build = build.args(["--tag", name]).arg("--file").arg(context.join(file(target)));
        let build = build.args(base).arg(context);
        self.run(build, step).await
    }

    /// Writes an image to the file `path`.
    pub(super) async fn save(&self, name: &str, path: &Path, step: &Step) -> Result<(), ToolError> {
        let save = self.command("docker save").args(["save", "--output"]).arg(path).arg(name);
        self.run(save, step).await
    }

    /// Loads the archive `path`.
    pub(super) async fn load(&self, path: &Path, step: &Step) -> Result<(), ToolError> {
        let load = self.command("docker load").args(["load", "--quiet", "--input"]).arg(path);
        self.run(load, step).await
    }

    /// Whether an image of this name is there.
    pub(super) async fn has(&self, name: &str) -> Result<bool, ToolError> {
        let list = self.command("docker image ls").args(["image", "ls", "--quiet", name]);
        Ok(!self.workshop.output(list).await?.trim().is_empty())
    }

    /// Removes an image.
    pub(super) async fn remove(&self, name: &str) -> Result<(), ToolError> {
        let remove = self.command("docker image rm").args(["image", "rm", "--force", name]);
        self.workshop.output(remove).await.map(drop)
    }

    fn command(&self, name: &str) -> Launch {
        // The default builder leaves the image in the daemon, where it is saved from; a provenance would be a second image.
        let command = Workshop::launch(name, "docker")
            .inherit(INHERITED)
            .envs([("BUILDX_BUILDER", "default"), ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")]);
        match self.daemon {
            Some(daemon) => command.env("DOCKER_HOST", daemon),
            None => command.inherit(CHOICE),
        }
    }

    async fn run(&self, launch: Launch, step: &Step) -> Result<(), ToolError> {
        self.workshop.work(launch, step).await?.map_err(|reason| ToolError::Unavailable {
            what: "a container image".to_owned(),
            reason,
            remedy: "does `docker info` answer, can the base be pulled, and is there space on the disk?".to_owned(),
        })
    }
}

/// Removes from Docker what an interrupted [`super::prepare`] has left there: images that were built and not yet saved.
/// Returns how many there were. Not while another process prepares images: it would lose the one that it saves.
pub async fn sweep(workshop: &Workshop) -> Result<usize, ToolError> {
    let docker = Docker { workshop, daemon: None };
    let filter = format!("label={TEMPORARY}");
    let list = docker.command("docker image ls").args(["image", "ls", "--quiet", "--filter", &filter]);
    let list = workshop.output(list).await?;
    for image in list.split_whitespace() {
        docker.remove(image).await?;
    }
    Ok(list.split_whitespace().count())
}
