//! Whether a running environment is the one that would be started now.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// What decides whether a running environment is the one that would be started now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fingerprint {
    /// What was asked for.
    pub plan: Plan,
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
    pub fn now(plan: &Plan) -> Self {
        let stamp = |(name, path): (&str, PathBuf)| Some((name.to_owned(), FileStamp::of(&path).ok()?));
        Self { plan: plan.clone(), files: plan.files().into_iter().filter_map(stamp).collect() }
    }

    /// What differs, in words; empty when nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.plan != other.plan {
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
    use crate::embedded::{Settings, Storage};

    fn stamp(name: &str, changed: u128) -> (String, FileStamp) {
        (name.to_owned(), FileStamp { path: name.into(), size: 1, changed })
    }

    fn fingerprint(files: Vec<(String, FileStamp)>) -> Fingerprint {
        let settings = Settings::new("conformance".into(), "bundled.yaml".into());
        Fingerprint { plan: Plan::Embedded(settings), files }
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
        let settings = Settings::new("conformance".into(), "bundled.yaml".into());
        wanted.plan = Plan::Embedded(Settings { storage: Storage::Minio, ..settings });
        assert_eq!(running.differences(&wanted), ["the settings"]);
    }
}
