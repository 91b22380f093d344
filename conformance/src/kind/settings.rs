//! What the user chose.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::images::Source;
use crate::tools;

/// Whose Percona Operator runs in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PerconaKind {
    /// Percona's own, from its chart.
    Real,
    /// The double of the embedded environment.
    Double,
}

/// What a kind environment is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The `conformance` binary, which is the supervisor's program too. The probe is beside it.
    pub program: PathBuf,
    /// Where tools are looked for, and which Kubernetes is asked for.
    pub tools: tools::Options,
    /// The implementation file.
    pub implementation: PathBuf,
    /// kind's configuration.
    pub configuration: PathBuf,
    /// The image of the nodes; none: the one that `versions.toml` has for the Kubernetes version.
    pub node_image: Option<String>,
    /// Whose Percona.
    pub percona: PerconaKind,
    /// Percona's chart: a directory, an archive or what else Helm understands; none: the public one.
    pub percona_chart: Option<String>,
    /// For the double: Percona's own CRDs, a file or a directory. Without it, our minimal ones.
    pub percona_crds: Option<PathBuf>,
    /// The image of MinIO; none: the public one, or offline one that is built here.
    pub minio_image: Option<String>,
    /// Where images come from that are not ours.
    pub images: ImageSource,
    /// A directory with the images of a run, made before (`env images --output`); none: they are made here.
    pub bundle: Option<PathBuf>,
    /// Archives of images that are loaded into the nodes as well.
    pub image_archives: Vec<PathBuf>,
    /// Verbosity of the operator and of the supervisor: error, warn, info, debug or trace.
    pub log_level: String,
    /// Whether the cluster stays when the run has ended.
    pub keep: bool,
    /// Whether a kept cluster is used again.
    pub reuse: bool,
}

/// Where images come from that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageSource {
    /// From their registries.
    Registry,
    /// Made here, of Debian packages and Go modules.
    Offline,
}

impl From<ImageSource> for Source {
    fn from(source: ImageSource) -> Self {
        match source {
            ImageSource::Registry => Self::Registry,
            ImageSource::Offline => Self::Offline,
        }
    }
}

impl Settings {
    /// The usual settings.
    pub fn new(program: PathBuf, implementation: PathBuf, configuration: PathBuf) -> Self {
        Self {
            program,
            tools: tools::Options::default(),
            implementation,
            configuration,
            node_image: None,
            percona: PerconaKind::Real,
            percona_chart: None,
            percona_crds: None,
            minio_image: None,
            images: ImageSource::Registry,
            bundle: None,
            image_archives: Vec::new(),
            log_level: "info".to_owned(),
            keep: false,
            reuse: false,
        }
    }

    /// The workload's program, which cargo puts beside ours.
    pub fn probe(&self) -> PathBuf {
        self.program.with_file_name("dittofs-probe")
    }

    /// Programs and files on which a running environment hangs, by what they are called in messages.
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![
            ("the conformance binary", self.program.clone()),
            ("the probe", self.probe()),
            ("the implementation file", self.implementation.clone()),
            ("kind's configuration", self.configuration.clone()),
        ];
        let crds = self.percona_crds.iter().map(|crds| ("Percona's CRDs", crds.clone()));
        // One that is elsewhere is no file here.
        let chart = self.percona_chart.iter().map(|chart| ("Percona's chart", PathBuf::from(chart)));
        let images = self.bundle.iter().chain(&self.image_archives).map(|images| ("the images", images.clone()));
        files.extend(crds.chain(chart).chain(images));
        files
    }
}
