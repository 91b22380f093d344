//! Copies of the repository's sources in the cache, to be broken on purpose and judged.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conformance::tools::Cache;
use libtest_mimic::Failed;

/// A copy of the sources, without the working tree's `target`: it keeps its own, so that only the operator is compiled
/// again for each change. One user at a time has it.
pub struct Copy {
    pub path: PathBuf,
    _lock: File,
}

impl Copy {
    /// Makes the first copy that nobody uses equal to the sources.
    pub fn take() -> Result<Self, Failed> {
        let base = Cache::default_root()?.join("defects");
        std::fs::create_dir_all(&base)?;
        for number in 0.. {
            let lock = File::create(base.join(format!("{number}.lock")))?;
            match lock.try_lock() {
                Ok(()) => {
                    let copy = Self { path: base.join(number.to_string()), _lock: lock };
                    copy.fill()?;
                    return Ok(copy);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        unreachable!("there are more numbers than processes")
    }

    fn fill(&self) -> Result<(), Failed> {
        let listed = run(Command::new("git").args(["ls-files", "-z"]).current_dir(repository()))?;
        std::fs::create_dir_all(&self.path)?;
        for kept in ["operator", "conformance", "implementations"] {
            let _ = std::fs::remove_dir_all(self.path.join(kept));
        }
        for file in listed.split('\0').filter(|file| !file.is_empty()) {
            let (from, to) = (repository().join(file), self.path.join(file));
            if !from.is_file() {
                continue;
            }
            std::fs::create_dir_all(to.parent().unwrap_or(&self.path))?;
            std::fs::copy(from, to)?;
        }
        Ok(())
    }

    /// The suite, to be run against the copy's operator.
    pub fn suite(&self, reports: &Path) -> Command {
        let mut suite = Command::new(env!("CARGO_BIN_EXE_conformance"));
        suite.args(["run", "--report-dir"]).arg(reports);
        suite.arg("--implementation").arg(self.path.join("implementations/bundled.yaml"));
        suite.env_remove("CARGO_TARGET_DIR").stdout(Stdio::null());
        suite
    }
}

/// The sources.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// Runs a command that must succeed, and gives what it prints.
pub fn run(command: &mut Command) -> Result<String, Failed> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
