//! Copies of the repository's sources in the cache, to be broken on purpose.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache"), PathBuf::from)
            .join("dittofs-conformance/defects");
        std::fs::create_dir_all(&base)?;
        for number in 0.. {
            let lock = File::create(base.join(format!("{number}.lock")))?;
            if lock.try_lock().is_ok() {
                let copy = Self { path: base.join(number.to_string()), _lock: lock };
                copy.fill()?;
                return Ok(copy);
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
