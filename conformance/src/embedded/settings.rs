//! What the user chose, and whether a running environment still fits it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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

    /// The workload's program, which cargo puts beside ours.
    pub fn probe(&self) -> PathBuf {
        self.program.with_file_name("dittofs-probe")
    }
}

/// What decides whether a running environment is the one that would be started now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fingerprint {
    /// The settings.
    pub settings: Settings,
    /// Programs and files by what they are called in messages.
    pub files: Vec<(String, FileStamp)>,
}

/// A version of a file, told by its size and the time of its last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStamp {
    path: PathBuf,
    size: u64,
    /// Nanoseconds since 1970.
    changed: u128,
}

impl FileStamp {
    /// The version that is there now.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let changed = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        Ok(Self { path: path.to_owned(), size: metadata.len(), changed })
    }
}

impl Fingerprint {
    /// The fingerprint of what would be started now. What is not there yet has no stamp.
    pub fn now(settings: &Settings) -> Self {
        let mut files = vec![
            ("the conformance binary", settings.program.clone()),
            ("the probe", settings.probe()),
            ("the implementation file", settings.implementation.clone()),
        ];
        if let Some(crds) = &settings.percona_crds {
            files.push(("Percona's CRDs", crds.clone()));
        }
        let stamp = |(name, path): (&str, PathBuf)| Some((name.to_owned(), FileStamp::of(&path).ok()?));
        Self { settings: settings.clone(), files: files.into_iter().filter_map(stamp).collect() }
    }

    /// What differs, in words; empty when nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.settings != other.settings {
            differences.push("the settings".to_owned());
        }
        for (name, stamp) in &other.files {
            if !self.files.iter().any(|(mine, here)| mine == name && here == stamp) {
                differences.push(name.clone());
            }
        }
        for (name, _) in &self.files {
            if !other.files.iter().any(|(theirs, _)| theirs == name) {
                differences.push(name.clone());
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(name: &str, changed: u128) -> (String, FileStamp) {
        (name.to_owned(), FileStamp { path: name.into(), size: 1, changed })
    }

    fn fingerprint(files: Vec<(String, FileStamp)>) -> Fingerprint {
        Fingerprint { settings: Settings::new("conformance".into(), "bundled.yaml".into()), files }
    }

    #[test]
    fn an_equal_environment_fits() {
        let running = fingerprint(vec![stamp("a", 1)]);
        assert!(running.differences(&running.clone()).is_empty());
    }

    #[rstest::rstest]
    #[case::changed(vec![stamp("a", 2)], &["a"])]
    #[case::new(vec![stamp("a", 1), stamp("b", 1)], &["b"])]
    #[case::gone(vec![], &["a"])]
    fn a_changed_file_is_named(#[case] wanted: Vec<(String, FileStamp)>, #[case] expected: &[&str]) {
        assert_eq!(fingerprint(vec![stamp("a", 1)]).differences(&fingerprint(wanted)), expected);
    }

    #[test]
    fn other_settings_do_not_fit() {
        let running = fingerprint(Vec::new());
        let mut wanted = running.clone();
        wanted.settings.storage = Storage::Minio;
        assert_eq!(running.differences(&wanted), ["the settings"]);
    }
}
