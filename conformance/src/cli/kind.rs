//! Options of the kind environment.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::CliError;
use super::home::source_file;
use crate::exit::Exit;
use crate::kind::{ImageSource, PerconaKind, Settings};

/// Whose Percona Operator runs in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Percona {
    /// Percona's own, from its chart
    Real,
    /// The double of the embedded environment
    Double,
}

/// For `--env kind`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "kind")]
pub struct KindOptions {
    /// Whose Percona Operator runs in the cluster
    #[arg(long, value_enum, default_value = "real", env = "CONFORMANCE_PERCONA", hide_env_values = true)]
    percona: Percona,
    /// Percona's chart: a directory, an archive or a reference; the public one by default
    #[arg(long, value_name = "CHART", env = "CONFORMANCE_PERCONA_CHART", hide_env_values = true)]
    percona_chart: Option<String>,
    /// The image of the nodes, instead of the one for the version of Kubernetes
    #[arg(long, value_name = "IMAGE", env = "CONFORMANCE_NODE_IMAGE", hide_env_values = true)]
    node_image: Option<String>,
    /// The image of `MinIO`
    #[arg(long, value_name = "IMAGE", env = "CONFORMANCE_MINIO_IMAGE", hide_env_values = true)]
    minio_image: Option<String>,
    /// An archive of images that is loaded into the nodes; may be repeated, and the variable separates them by commas
    #[arg(
        long,
        value_name = "FILE",
        value_delimiter = ',',
        env = "CONFORMANCE_IMAGE_ARCHIVES",
        hide_env_values = true
    )]
    image_archive: Vec<PathBuf>,
    /// A directory with all images, made by `env images --output`: nothing is built
    #[arg(long, value_name = "DIR", env = "CONFORMANCE_IMAGES", hide_env_values = true)]
    images: Option<PathBuf>,
    /// Make all images here, of Debian packages and Go modules, instead of pulling some
    #[arg(long, env = "CONFORMANCE_OFFLINE", hide_env_values = true)]
    offline: bool,
    /// kind's configuration; kind-config.yaml of the repository by default
    #[arg(long, value_name = "FILE")]
    kind_config: Option<PathBuf>,
    /// Leave the cluster when the run has ended
    #[arg(long)]
    keep: bool,
    /// Use a cluster that `--keep` has left, if it is of the same make
    #[arg(long, env = "CONFORMANCE_REUSE", hide_env_values = true)]
    reuse: bool,
}

impl KindOptions {
    /// Completes the settings of a kind environment.
    pub fn apply(&self, settings: &mut Settings) -> Result<(), CliError> {
        settings.percona = match self.percona {
            Percona::Real => PerconaKind::Real,
            Percona::Double => PerconaKind::Double,
        };
        settings.percona_chart.clone_from(&self.percona_chart);
        settings.node_image.clone_from(&self.node_image);
        settings.minio_image.clone_from(&self.minio_image);
        settings.images = if self.offline { ImageSource::Offline } else { ImageSource::Registry };
        settings.image_archives = self.image_archive.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
        settings.bundle = self.images.as_deref().map(absolute).transpose()?;
        settings.keep = self.keep;
        settings.reuse = self.reuse;
        Ok(())
    }

    /// The options that differ from the defaults and change what is judged.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut say = |option: &str, value: Option<String>| {
            arguments.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        };
        say("--percona", (self.percona == Percona::Double).then(|| "double".to_owned()));
        say("--percona-chart", self.percona_chart.clone());
        say("--node-image", self.node_image.clone());
        say("--minio-image", self.minio_image.clone());
        for archive in &self.image_archive {
            say("--image-archive", Some(archive.display().to_string()));
        }
        say("--images", self.images.as_ref().map(|path| path.display().to_string()));
        say("--kind-config", self.kind_config.as_ref().map(|path| path.display().to_string()));
        if self.offline {
            arguments.push("--offline".to_owned());
        }
        arguments
    }

    /// kind's configuration.
    pub fn configuration(&self) -> Result<PathBuf, CliError> {
        match &self.kind_config {
            Some(path) => absolute(path),
            None => absolute(&source_file("kind-config.yaml", "--kind-config")?),
        }
    }
}

/// A file that has to be there.
pub fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path)
        .and_then(std::fs::canonicalize)
        .map_err(|error| CliError::new(Exit::Usage, format!("cannot read {}: {error}", path.display())))
}
