//! What the user chose.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tools;

/// What an embedded environment is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The `conformance` binary, which is the supervisor's program too. The probe is beside it.
    pub program: PathBuf,
    /// Where tools are looked for.
    pub tools: tools::Options,
    /// The implementation file.
    pub implementation: PathBuf,
    /// Percona's own CRDs: a file or a directory. Without it, our minimal ones.
    pub percona_crds: Option<PathBuf>,
    /// What stores objects.
    pub storage: Storage,
    /// Verbosity of the operator and of the supervisor: error, warn, info, debug or trace.
    pub log_level: String,
    /// How many control planes of their own scenarios may have at the same time.
    pub own_control_planes: usize,
    /// Whether the audit log ties writes to versions, for measurements.
    pub audit_versions: bool,
}

/// What stores objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Storage {
    /// The supervisor's own memory.
    #[default]
    Memory,
    /// MinIO.
    Minio,
}

impl Settings {
    /// The usual settings for a `conformance` binary and an implementation file.
    pub fn new(program: PathBuf, implementation: PathBuf) -> Self {
        Self {
            program,
            tools: tools::Options::default(),
            implementation,
            percona_crds: None,
            storage: Storage::default(),
            log_level: "info".to_owned(),
            own_control_planes: 2,
            audit_versions: false,
        }
    }

    /// Programs and files on which a running environment hangs, by what they are called in messages.
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![
            ("the conformance binary", self.program.clone()),
            ("the implementation file", self.implementation.clone()),
        ];
        if let Some(crds) = &self.percona_crds {
            files.push(("Percona's CRDs", crds.clone()));
        }
        files
    }
}
