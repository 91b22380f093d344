//! Copies of the repository's sources in the cache, to be broken on purpose.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use libtest_mimic::Failed;

/// Which copies are in use.
static TAKEN: Mutex<Vec<bool>> = Mutex::new(Vec::new());

/// A copy of the sources, without the working tree's `target`: it keeps its own, so that only the operator is compiled
/// again for each change. One user at a time has it.
pub struct Copy {
    pub path: PathBuf,
    slot: usize,
}

impl Copy {
    /// Makes a copy that nobody uses equal to the sources.
    pub fn take() -> Result<Self, Failed> {
        let mut taken = TAKEN.lock().expect("nobody fails while holding it");
        let slot = taken.iter().position(|taken| !taken).unwrap_or(taken.len());
        if slot == taken.len() {
            taken.push(false);
        }
        taken[slot] = true;
        drop(taken);
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache"), PathBuf::from);
        let copy = Self { path: base.join("dittofs-conformance/defects").join(slot.to_string()), slot };
        copy.fill()?;
        Ok(copy)
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

    /// Applies a patch to the copy.
    pub fn patch(&self, patch: &Path) -> Result<(), Failed> {
        let mut apply = Command::new("git");
        apply.arg("apply").arg(patch).current_dir(&self.path);
        // In a directory of a repository, `git apply` would pass over what is not of that repository.
        apply.env("GIT_CEILING_DIRECTORIES", self.path.parent().unwrap_or(&self.path));
        run(&mut apply).map(drop)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        TAKEN.lock().expect("nobody fails while holding it")[self.slot] = false;
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
