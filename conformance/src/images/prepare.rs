//! All images of a run.

use std::fs;
use std::path::{Path, PathBuf};

use super::context::{Context, DOCKERFILE};
use super::docker::Docker;
use super::{archive, names, offline};
use crate::tools::{self, Origin, Step, ToolError, Workshop, digest};

/// The file of every cache entry that is an image.
pub(super) const FILE: &str = "image.tar";

/// How many archives of a program are kept: every change of its sources makes another one.
const KEPT: usize = 5;

/// The stages of `ci/Dockerfile`, called as the programs.
const OPERATOR: &str = "dittofs-operator";
const PROBE: &str = "dittofs-probe";

/// Where what is not ours comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Docker pulls the base of our images, and the cluster pulls the others.
    Registry,
    /// Everything is made of Debian packages and Go modules.
    Offline,
}

/// The programs that images are made of, with or without debug information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The operator under test, whatever its file is called.
    pub operator: PathBuf,
    /// `dittofs-probe`, the workload that stands in for DittoFS.
    pub probe: PathBuf,
}

impl Programs {
    /// The programs in a directory such as `target/debug`.
    pub fn in_directory(directory: &Path) -> Self {
        Self { operator: directory.join(OPERATOR), probe: directory.join(PROBE) }
    }
}

/// An image as a file for `kind load image-archive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// What it is called once it is loaded: with a host, without a digest. Our own name comes first.
    pub names: Vec<String>,
    /// The file, in the cache. It stays there during the run; a later run may remove it.
    pub path: PathBuf,
}

impl Archive {
    /// Repository and tag of its first name.
    pub fn repository_and_tag(&self) -> (&str, &str) {
        self.names.first().and_then(|name| name.rsplit_once(':')).unwrap_or_default()
    }
}

/// The images of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The operator.
    pub operator: Archive,
    /// The workload; besides its own it has the names that it stands in for.
    pub workload: Archive,
    /// PostgreSQL's clients; `None`: the cluster pulls `postgres:16-alpine`.
    pub postgres: Option<Archive>,
}

impl Images {
    /// All archives, to be loaded into the nodes of a cluster.
    pub fn archives(&self) -> impl Iterator<Item = &Archive> {
        [&self.operator, &self.workload].into_iter().chain(&self.postgres)
    }
}

/// Makes all images that are not in the cache. `workload` are further names for the workload, those that the operator under
/// test uses for DittoFS, such as `ghcr.io/marmos91/dittofs:0.1.0`. `daemon` is the Docker to ask, as in `DOCKER_HOST`.
///
/// # Errors
/// Docker or a package cannot be had ([`ToolError::Unavailable`]), or a program is missing.
pub async fn prepare(
    workshop: &Workshop,
    daemon: &str,
    programs: &Programs,
    workload: &[String],
    source: Source,
) -> Result<Images, ToolError> {
    let docker = Docker { workshop, daemon };
    let base = match source {
        Source::Registry => None,
        Source::Offline => Some(offline::base(&docker).await?),
    };
    let step = workshop.progress.begin("stripping the programs", None);
    let context = Context::new(workshop, &[(OPERATOR, &programs.operator), (PROBE, &programs.probe)], &step).await?;
    step.done();
    let recipe = Recipe { docker: &docker, context: &context, base: base.as_deref() };
    let operator = recipe.image(OPERATOR, &[]).await?;
    let workload = recipe.image(PROBE, workload).await?;
    let postgres = match source {
        Source::Registry => None,
        Source::Offline => Some(offline::postgres(workshop).await?),
    };
    Ok(Images { operator, workload, postgres })
}

/// An image of MinIO, made of its Go module: for [`load`], because it runs beside the cluster.
///
/// # Errors
/// MinIO cannot be had.
pub async fn minio(workshop: &Workshop, options: &tools::Options) -> Result<Archive, ToolError> {
    offline::minio(workshop, options).await
}

/// Loads an image into the Docker of `daemon` (as in `DOCKER_HOST`), when it is not there, and returns its name. It stays there
/// as a cache.
///
/// # Errors
/// Docker cannot be had, or the image is not one of those that have a name of our own.
pub async fn load(workshop: &Workshop, archive: &Archive, daemon: &str) -> Result<String, ToolError> {
    match archive.names.as_slice() {
        [name] if name.starts_with(names::OURS) => {
            offline::load(&Docker { workshop, daemon }, name, &archive.path).await?;
            Ok(name.clone())
        }
        names => Err(ToolError::Request(format!("{} must not be loaded into Docker", names.join(", ")))),
    }
}

struct Recipe<'a> {
    docker: &'a Docker<'a>,
    context: &'a Context,
    base: Option<&'a str>,
}

impl Recipe<'_> {
    /// The image of one program.
    async fn image(&self, program: &str, names: &[String]) -> Result<Archive, ToolError> {
        let workshop = self.docker.workshop;
        let digest = digest(&self.context.program(program))?;
        let base = self.base.unwrap_or_default();
        let tag = names::tag([digest.as_bytes(), DOCKERFILE.as_bytes(), base.as_bytes()]);
        let names: Vec<String> = [names::local(program, &tag)].into_iter().chain(names.iter().cloned()).collect();
        let kind = format!("image-{program}-");
        let entry = format!("{kind}{}", names::tag(names.iter().map(String::as_bytes)));
        let make = |directory: PathBuf| {
            let names = &names;
            async move {
                let step = workshop.progress.begin(format!("building the image of {program}"), None);
                self.build(program, names, &directory, &step).await?;
                step.done();
                Ok(Origin { source: "built by ci/Dockerfile".to_owned(), version: tag })
            }
        };
        let entry = workshop.cache.obtain(&entry, &workshop.progress, make).await?;
        workshop.cache.prune(&kind, KEPT)?;
        Ok(Archive { path: entry.directory.join(FILE), names })
    }

    async fn build(&self, program: &str, names: &[String], directory: &Path, step: &Step) -> Result<(), ToolError> {
        let [name, ..] = names else { return Err(ToolError::Request("an image without a name".to_owned())) };
        let saved = directory.join("saved.tar");
        self.docker.build(self.context.path(), program, self.base, name, step).await?;
        let outcome = self.docker.save(name, &saved, step).await;
        self.docker.remove(name).await?;
        outcome?;
        let output = directory.join(FILE);
        archive::rename(&saved, names, &output).map_err(ToolError::file("write", output))?;
        fs::remove_file(&saved).map_err(ToolError::file("remove", saved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_wants_repository_and_tag_apart() {
        let names = vec!["localhost/dittofs-operator:0123".to_owned()];
        let archive = Archive { names, path: PathBuf::new() };
        assert_eq!(archive.repository_and_tag(), ("localhost/dittofs-operator", "0123"));
    }

    #[test]
    fn the_dockerfile_has_a_stage_for_each_program_that_runs_as_a_number() {
        for program in [OPERATOR, PROBE] {
            assert!(DOCKERFILE.contains(&format!("AS {program}\nCOPY {program} ")), "{program}");
        }
        let stages = DOCKERFILE.lines().filter(|line| line.starts_with("FROM ")).count();
        assert_eq!(DOCKERFILE.lines().filter(|line| *line == "USER 65532:65532").count(), stages);
    }
}
