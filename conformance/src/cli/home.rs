//! Where scenarios and the bundled implementation are: in a repository around, or, for the scenarios, in this program.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use include_dir::{Dir, DirEntry};
use sha2::{Digest as _, Sha256};

use super::CliError;
use crate::exit::Exit;
use crate::tools::{Cache, Display, Origin, ToolError};

/// What this program carries: the directory of the scenarios as it was when it was built.
static CARRIED: OnceLock<&'static Dir<'static>> = OnceLock::new();

/// How many versions of the carried scenarios stay in the cache.
const KEPT: usize = 3;

/// Says what this program carries.
pub(super) fn carry(scenarios: &'static Dir<'static>) {
    // Whoever says it twice says the same.
    let _ = CARRIED.set(scenarios);
}

/// The repository: the nearest directory upwards from here that holds the bundled implementation.
pub fn repository() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().find(|directory| is_repository(directory)).map(Path::to_owned)
}

/// The repository around, else the one that this program was built from, where it is still there.
pub fn sources() -> Option<PathBuf> {
    let built = || Some(Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.to_owned());
    repository().or_else(|| built().filter(|directory| is_repository(directory)))
}

fn is_repository(directory: &Path) -> bool {
    directory.join("implementations/bundled.yaml").is_file()
}

/// A file of the sources, for which `option` stands in where there are none.
pub(super) fn source_file(name: &str, option: &str) -> Result<PathBuf, CliError> {
    let missing = || {
        let message = format!(
            "there is no {name}: no repository of the suite is around, and the one that this program was built from is gone; name a file by {option}"
        );
        CliError::new(Exit::Usage, message)
    };
    sources().map(|directory| directory.join(name)).ok_or_else(missing)
}

/// Where the reports of runs go unless somebody says otherwise.
pub fn report_directory() -> PathBuf {
    match repository() {
        Some(repository) => shown(&repository.join("target/conformance")),
        None => PathBuf::from("conformance-reports"),
    }
}

/// `path` as it is shortest from here.
pub fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).map_or_else(|_| path.to_owned(), Path::to_owned)
}

/// The directory of the scenarios, as people are told about it: that of the repository around, else those that this
/// program carries, as files in the cache, so that a message can name a line in one.
pub(super) async fn scenarios() -> Result<PathBuf, CliError> {
    if let Some(repository) = repository() {
        return Ok(shown(&repository.join("scenarios")));
    }
    let Some(carried) = CARRIED.get() else {
        return Err(CliError::new(Exit::Usage, "this program carries no scenarios; name a directory by --scenarios"));
    };
    unpacked(carried).await.map_err(|error| CliError::environment(&error.into()))
}

async fn unpacked(carried: &Dir<'static>) -> Result<PathBuf, ToolError> {
    let cache = Cache::open(Cache::default_root()?)?;
    let name = format!("scenarios-{}", &digest(carried)[..16]);
    let entry = cache
        .obtain(&name, &Display::stderr().progress(), async |directory| {
            let scenarios = directory.join("scenarios");
            std::fs::create_dir(&scenarios)
                .and_then(|()| carried.extract(&scenarios))
                .map_err(|error| ToolError::File { action: "write", path: scenarios, source: error })?;
            let source = "carried by the conformance program".to_owned();
            Ok(Origin { source, version: env!("CARGO_PKG_VERSION").to_owned() })
        })
        .await?;
    cache.prune("scenarios-", KEPT)?;
    Ok(entry.directory.join("scenarios"))
}

/// The digest of all files, with their paths.
fn digest(directory: &Dir<'_>) -> String {
    let mut digest = Sha256::new();
    add(directory, &mut digest);
    hex::encode(digest.finalize())
}

fn add(directory: &Dir<'_>, digest: &mut Sha256) {
    let mut entries: Vec<&DirEntry<'_>> = directory.entries().iter().collect();
    entries.sort_by_key(|entry| entry.path());
    for entry in entries {
        match entry {
            DirEntry::Dir(directory) => add(directory, digest),
            DirEntry::File(file) => {
                // With lengths, so that no two directories are the same bytes.
                for part in [file.path().as_os_str().as_encoded_bytes(), file.contents()] {
                    digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
                    digest.update(part);
                }
            }
        }
    }
}
