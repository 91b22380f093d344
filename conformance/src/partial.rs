//! Directories that others look for by name: they appear in one step, and are gone in one step.
//!
//! Base layer.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// How the name begins of what is only being made, or removed.
pub const PREFIX: &str = ".partial-";

/// Removes a directory in one step: while that takes, and when the process is killed meanwhile, what is left of it has another
/// name, which begins with `prefix`. False when another process was faster.
pub fn remove(directory: &Path, prefix: &str) -> io::Result<bool> {
    let Some(gone) = put_aside(directory, prefix)? else { return Ok(false) };
    fs::remove_dir_all(gone)?;
    Ok(true)
}

/// Gives a directory the name of what is being removed, and returns that; `None` when it is not there any more.
fn put_aside(directory: &Path, prefix: &str) -> io::Result<Option<PathBuf>> {
    let name = directory.file_name().unwrap_or_default();
    let gone = directory.with_file_name(format!("{prefix}{}-old", name.display()));
    let mut renamed = fs::rename(directory, &gone);
    // A killed process has left it there.
    let is_occupied =
        |error: &io::Error| matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists);
    if renamed.as_ref().is_err_and(is_occupied) {
        fs::remove_dir_all(&gone)?;
        renamed = fs::rename(directory, &gone);
    }
    match renamed {
        Ok(()) => Ok(Some(gone)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes all that begins with [`PREFIX`] in `directory`. Nobody else may be making or removing anything there.
pub fn remove_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()? {
        if is_partial(&entry.file_name()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn is_partial(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_being_removed_is_not_found_and_goes_with_the_rest() {
        let cache = tempfile::tempdir().unwrap();
        fs::create_dir_all(cache.path().join("entry/half")).unwrap();
        fs::create_dir(cache.path().join("other")).unwrap();
        // As far as a process gets that is killed then.
        put_aside(&cache.path().join("entry"), PREFIX).unwrap();
        assert_eq!(names(cache.path()), [".partial-entry-old", "other"]);
        remove_all(cache.path()).unwrap();
        assert_eq!(names(cache.path()), ["other"]);
    }

    #[test]
    fn what_a_killed_process_has_left_is_no_obstacle() {
        let cache = tempfile::tempdir().unwrap();
        for name in ["entry/whole", ".partial-entry-old/half"] {
            fs::create_dir_all(cache.path().join(name)).unwrap();
        }
        assert!(remove(&cache.path().join("entry"), PREFIX).unwrap());
        assert!(names(cache.path()).is_empty());
        assert!(!remove(&cache.path().join("entry"), PREFIX).unwrap(), "it was gone before");
    }
}
