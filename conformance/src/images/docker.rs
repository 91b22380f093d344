//! The `docker` program: builds, saves and loads images.

use std::path::Path;

use super::context::file;
use crate::process::Launch;
use crate::tools::{Step, ToolError, Workshop};

/// How a daemon is spoken to.
const INHERITED: [&str; 4] = ["DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "XDG_RUNTIME_DIR"];

/// The label of what is in Docker only until it has been saved into an archive. [`crate::kind::sweep_images`] removes it.
pub const TEMPORARY: &str = "com.dittofs.conformance=temporary";

/// Docker, by its command line.
pub(super) struct Docker<'a> {
    pub workshop: &'a Workshop,
    /// The daemon, as in `DOCKER_HOST`.
    pub daemon: &'a str,
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
        Workshop::launch(name, "docker").inherit(INHERITED).envs([
            ("DOCKER_HOST", self.daemon),
            ("BUILDX_BUILDER", "default"),
            ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1"),
        ])
    }

    async fn run(&self, launch: Launch, step: &Step) -> Result<(), ToolError> {
        self.workshop.work(launch, step).await?.map_err(|reason| ToolError::Unavailable {
            what: "a container image".to_owned(),
            reason,
            remedy: "does `docker info` answer, can the base be pulled, and is there space on the disk?".to_owned(),
        })
    }
}
