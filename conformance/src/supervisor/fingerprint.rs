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
    /// Programs and files by what they are called in messages; the files of a directory are called alike.
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

    /// The versions that are there now of a file, or of all files in a directory and below, in the order of their paths. What
    /// goes meanwhile is left out, and a link to a directory is not followed: it may lead upwards.
    ///
    /// # Errors
    /// There is no such file, or a directory cannot be listed.
    pub fn all(path: &Path) -> io::Result<Vec<Self>> {
        if !path.is_dir() {
            return Ok(vec![Self::of(path)?]);
        }
        let mut stamps = Vec::new();
        let mut open = vec![path.to_owned()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(&directory)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                } else {
                    stamps.extend(Self::of(&entry.path()).ok());
                }
            }
        }
        stamps.sort_by(|one, another| one.path.cmp(&another.path));
        Ok(stamps)
    }

    /// As [`FileStamp::all`], of several. `None`: one of them is not there.
    pub fn of_each<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Option<Vec<Self>> {
        let each: Option<Vec<Vec<Self>>> = paths.into_iter().map(|path| Self::all(path.as_ref()).ok()).collect();
        each.map(|stamps| stamps.into_iter().flatten().collect())
    }
}

impl Fingerprint {
    /// The fingerprint of what would be started now. What is not there yet has no stamp.
    pub fn now(plan: &Plan) -> Self {
        let stamps = |(name, path): (&str, PathBuf)| {
            let stamps = FileStamp::all(&path).unwrap_or_default();
            stamps.into_iter().map(|stamp| (name.to_owned(), stamp)).collect::<Vec<_>>()
        };
        Self { plan: plan.clone(), files: plan.files().into_iter().flat_map(stamps).collect() }
    }

    /// What differs, in words; empty when nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.plan != other.plan {
            differences.push("the settings".to_owned());
        }
        for (name, _) in other.files.iter().chain(&self.files) {
            if self.called(name) != other.called(name) && !differences.contains(name) {
                differences.push(name.clone());
            }
        }
        differences
    }

    fn called(&self, name: &str) -> Vec<&FileStamp> {
        self.files.iter().filter(|(called, _)| called == name).map(|(_, stamp)| stamp).collect()
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
    fn what_changes_in_a_directory_is_named_once() {
        let directory = tempfile::tempdir().unwrap();
        let crds = directory.path().join("crds");
        let (above, below) = (crds.join("a.yaml"), crds.join("below/b.yaml"));
        std::fs::create_dir_all(crds.join("below")).unwrap();
        std::fs::write(&above, "a").unwrap();
        std::fs::write(&below, "b").unwrap();
        let settings = Settings::new("conformance".into(), "bundled.yaml".into());
        let plan = Plan::Embedded(Settings { percona_crds: Some(crds), ..settings });
        let running = Fingerprint::now(&plan);
        assert!(running.differences(&Fingerprint::now(&plan)).is_empty());
        std::fs::write(&above, "another").unwrap();
        std::fs::write(&below, "another").unwrap();
        assert_eq!(running.differences(&Fingerprint::now(&plan)), ["Percona's CRDs"]);
        let changed = Fingerprint::now(&plan);
        std::fs::remove_file(&below).unwrap();
        assert_eq!(changed.differences(&Fingerprint::now(&plan)), ["Percona's CRDs"]);
    }

    #[test]
    fn one_file_that_is_not_there_leaves_all_without_a_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let (here, gone) = (directory.path().join("here"), directory.path().join("gone"));
        std::fs::write(&here, "").unwrap();
        assert_eq!(FileStamp::of_each([&here]), Some(vec![FileStamp::of(&here).unwrap()]));
        assert_eq!(FileStamp::of_each([&here, &gone]), None);
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
