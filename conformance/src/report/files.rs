//! The reports as files, replaced as a whole after each result: whoever reads them never sees half of one, and a run
//! that is killed leaves what it knew.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::RunReport;
use super::junit::junit;
use crate::engine::Outcome;

/// The directory of the bundles, in that of the reports.
const BUNDLES: &str = "bundles";

/// Where the reports are written.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
}

/// A report cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report {path}: {problem}", path = path.display())]
pub struct ReportError {
    /// The file or directory.
    path: PathBuf,
    /// What is wrong.
    problem: String,
}

impl ReportError {
    fn new(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl Files {
    /// Reports in `directory`, which is made if it is not there.
    pub fn new(directory: &Path) -> Result<Self, ReportError> {
        std::fs::create_dir_all(directory).map_err(|error| ReportError::new(directory, error))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Keeps other runs from writing here until the result is dropped.
    ///
    /// # Errors
    /// Another run does.
    pub fn hold(&self) -> Result<File, ReportError> {
        let error = |problem: &dyn std::fmt::Display| ReportError::new(&self.directory, problem);
        // flock(2) takes directories, too: no file is left behind.
        let directory = File::open(&self.directory).map_err(|problem| error(&problem))?;
        match directory.try_lock() {
            Ok(()) => Ok(directory),
            Err(TryLockError::WouldBlock) => {
                Err(error(&"another run writes its reports there; name another directory by --report-dir"))
            }
            Err(TryLockError::Error(problem)) => Err(error(&problem)),
        }
    }

    /// Removes the bundles of an earlier run.
    pub fn without_bundles(self) -> Result<Self, ReportError> {
        let path = self.directory.join(BUNDLES);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ReportError::new(&path, error)),
            _ => Ok(self),
        }
    }

    /// Writes the logs and objects of a scenario that failed into a directory of its own, and notes where they are. What
    /// was there of an earlier run of it is removed in any case.
    pub fn bundle(&self, outcome: &mut Outcome) -> Result<(), ReportError> {
        let mut path = self.directory.join(BUNDLES).join(&outcome.scenario);
        if outcome.repetition > 1 {
            path.set_file_name(format!("{}-{}", path.file_name().unwrap_or_default().display(), outcome.repetition));
        }
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(ReportError::new(&path, error)),
            _ => {}
        }
        for (name, text) in std::mem::take(&mut outcome.bundle) {
            let file = path.join(name);
            let written = std::fs::create_dir_all(file.parent().unwrap_or(&path));
            let written = written.and_then(|()| std::fs::write(&file, text));
            written.map_err(|error| ReportError::new(&file, error))?;
            outcome.written = Some(path.clone());
        }
        Ok(())
    }

    /// The machine-readable report.
    pub fn json(&self) -> PathBuf {
        self.directory.join("report.json")
    }

    /// The report for CI servers.
    pub fn junit(&self) -> PathBuf {
        self.directory.join("junit.xml")
    }

    /// Writes both.
    pub fn write(&self, run: &RunReport) -> Result<(), ReportError> {
        let path = self.json();
        let json = serde_json::to_string_pretty(run).map_err(|error| ReportError::new(&path, error))?;
        self.replace(&path, &json)?;
        let path = self.junit();
        let xml = junit(run).map_err(|error| ReportError::new(&path, error))?;
        self.replace(&path, &xml)
    }

    /// Replaces `path`, in the directory, as a whole.
    pub fn replace(&self, path: &Path, content: &str) -> Result<(), ReportError> {
        let write = || {
            let mut file = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(&self.directory)?;
            file.write_all(content.as_bytes())?;
            file.persist(path)?;
            std::io::Result::Ok(())
        };
        write().map_err(|error| ReportError::new(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::tests_support::{outcome, run};
    use super::*;
    use crate::engine::Verdict;

    #[test]
    fn the_files_are_complete_after_each_result() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(&directory.path().join("reports")).unwrap();
        let mut report = run([outcome("gate/x", Verdict::Passed)]);
        files.write(&report).unwrap();
        report.add(outcome("gate/y", Verdict::Failed));
        report.state = State::Complete;
        files.write(&report).unwrap();
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(files.json()).unwrap()).unwrap();
        assert_eq!((&json["state"], &json["counts"]["failed"]), (&"complete".into(), &1.into()));
        assert!(std::fs::read_to_string(files.junit()).unwrap().contains("gate/y"));
        let left = std::fs::read_dir(directory.path().join("reports")).unwrap().count();
        assert_eq!(left, 2, "nothing but the two reports");
    }

    #[test]
    fn a_bundle_takes_the_place_of_an_earlier_one() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path()).unwrap();
        let failed = |name: &str| {
            let bundle = [(name.to_owned(), "text".to_owned())].into();
            Outcome { bundle, repetition: 2, ..outcome("gate/x", Verdict::Failed) }
        };
        let mut first = failed("logs/demo-0/probe.log");
        files.bundle(&mut first).unwrap();
        let path = directory.path().join("bundles/gate/x-2");
        assert_eq!((first.written, first.bundle.len()), (Some(path.clone()), 0));
        assert_eq!(std::fs::read_to_string(path.join("logs/demo-0/probe.log")).unwrap(), "text");
        files.bundle(&mut failed("operator.log")).unwrap();
        assert!(path.join("operator.log").exists() && !path.join("logs").exists());
        let mut passed = Outcome { repetition: 2, ..outcome("gate/x", Verdict::Passed) };
        files.bundle(&mut passed).unwrap();
        assert!(passed.written.is_none() && !path.exists());
        files.bundle(&mut failed("operator.log")).unwrap();
        files.without_bundles().unwrap();
        assert!(!directory.path().join("bundles").exists());
    }

    #[test]
    fn one_run_at_a_time_writes_into_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path()).unwrap();
        let held = files.hold().unwrap();
        let error = Files::new(directory.path()).unwrap().hold().unwrap_err().to_string();
        assert!(error.contains("another run") && error.contains("--report-dir"), "{error}");
        drop(held);
        files.hold().unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Files::new(&file.path().join("x")).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
