//! The programs and images of a run, found, fetched or built while the cluster comes up.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::docker;
use super::settings::{ImageSource, PerconaKind, Settings};
use crate::exit::Exit;
use crate::images::{self, Bundle, Images, Programs};
use crate::implementation::Implementation;
use crate::process::Spawner;
use crate::supervisor::{DatabasePrograms, StartError};
use crate::tools::{self, Cache, Needs, Progress, Workshop, versions};

/// The public image of MinIO: the last release whose tag quay.io still serves.
const MINIO: &str = "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z";

/// What is made for pods.
pub(super) struct Built {
    /// The operator under test.
    pub implementation: Implementation,
    /// Its program, where it was built here.
    pub program: Option<PathBuf>,
    /// The images of the nodes.
    pub images: Images,
    /// MinIO's image, in Docker.
    pub minio: String,
}

/// A workshop for a run.
pub(super) fn workshop(spawner: &Spawner, progress: Progress) -> anyhow::Result<Workshop> {
    let cache = Cache::open(Cache::default_root()?)?;
    Ok(Workshop { cache, spawner: spawner.clone(), progress })
}

/// The programs of the servers on this machine: those of the double, and those beside Percona.
pub(super) async fn databases(workshop: &Workshop, settings: &Settings) -> anyhow::Result<DatabasePrograms> {
    let backups = settings.percona == PerconaKind::Double;
    let needs = Needs { postgresql: true, backups, minio: false };
    let toolbox = tools::prepare(workshop, &settings.tools, needs).await?;
    DatabasePrograms::prepare(workshop, toolbox.postgresql, toolbox.pgbackrest).await
}

impl Built {
    /// Builds the operator under test and the images, or takes images that were made before.
    pub async fn prepare(
        workshop: &Workshop,
        settings: &Settings,
        implementation: Implementation,
    ) -> anyhow::Result<Self> {
        let Some(cluster) = &implementation.cluster else {
            let message = format!(
                "the implementation file of {} has no `cluster` section, which says by which chart it is installed; it can be \
                 judged with `--env embedded`",
                implementation.name
            );
            return Err(StartError { exit: Exit::Usage, message }.into());
        };
        let mut program = None;
        let daemon = docker::host();
        let (images, made) = if let Some(directory) = &settings.bundle {
            let bundle = Bundle::import(directory)?;
            (bundle.images, bundle.minio)
        } else {
            let probe = settings.probe();
            if !probe.is_file() {
                return Err(no_probe(&probe));
            }
            build(workshop, settings, &implementation).await?;
            let programs = Programs { operator: implementation.program(&settings.log_level), probe };
            let images =
                images::prepare(workshop, &daemon, &programs, &cluster.workload, settings.images.into()).await?;
            program = Some(programs.operator);
            (images, None)
        };
        let minio = match (&settings.minio_image, settings.images, made) {
            (Some(image), ..) => image.clone(),
            (None, _, Some(archive)) => images::load(workshop, &archive, &daemon).await?,
            (None, ImageSource::Offline, None) => {
                let archive = images::minio(workshop, &settings.tools).await?;
                images::load(workshop, &archive, &daemon).await?
            }
            (None, ImageSource::Registry, None) => MINIO.to_owned(),
        };
        Ok(Self { implementation, program, images, minio })
    }
}

fn no_probe(probe: &Path) -> anyhow::Error {
    let message = format!(
        "the images need the workload's program, and there is no {}: `cargo build -p conformance --bins` makes it, which \
         `just e2e` does",
        probe.display()
    );
    StartError { exit: Exit::MissingTool, message }.into()
}

async fn build(workshop: &Workshop, settings: &Settings, implementation: &Implementation) -> anyhow::Result<()> {
    let step = workshop.progress.begin(format!("building {}", implementation.name), None);
    let log = workshop.spawner.run().directory().join("build.log");
    implementation.build(&workshop.spawner, &log, &settings.log_level).await?;
    step.done();
    Ok(())
}

/// The image of the nodes: the user's, or the one for the version of Kubernetes that is asked for.
pub(super) fn node_image(settings: &Settings) -> anyhow::Result<String> {
    if let Some(image) = &settings.node_image {
        return Ok(image.clone());
    }
    let known = &versions().kubernetes;
    let minor = settings.tools.kubernetes.as_deref().unwrap_or(&known.default);
    let minor = minor.strip_prefix('v').unwrap_or(minor);
    let image = known.nodes.get(minor).ok_or_else(|| {
        let minors: Vec<&str> = known.nodes.keys().map(String::as_str).collect();
        let minors = minors.join(", ");
        let message =
            format!("there is no node image for Kubernetes {minor}, but for {minors}; `--node-image` names one");
        StartError { exit: Exit::Usage, message }
    })?;
    Ok(image.reference())
}

/// A file that must be there, absolute.
pub(super) fn existing(path: &Path) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_that_was_not_built_is_a_missing_program() {
        assert_eq!(StartError::of(&no_probe(Path::new("/nowhere/dittofs-probe"))).exit, Exit::MissingTool);
    }
}
