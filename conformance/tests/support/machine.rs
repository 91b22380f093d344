//! What a machine keeps besides processes and a run's own files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What the kernel keeps that no directory shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    /// Mounted file systems.
    pub mounts: BTreeSet<String>,
    /// Entries of the cache that were begun and not finished.
    pub cache: BTreeSet<String>,
}

impl Machine {
    /// As it is now.
    pub fn now() -> Self {
        let lines =
            |path: &str| -> BTreeSet<String> { fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect() };
        let cache = conformance::tools::Cache::default_root().unwrap();
        Self {
            mounts: lines("/proc/self/mountinfo"),
            cache: names(&cache).into_iter().filter(|name| name.starts_with(".new-")).collect(),
        }
    }
}

/// The names of what lies in a directory.
pub fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Key and id of every segment of shared memory on this machine.
pub fn segments() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    table.lines().skip(1).map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
}
