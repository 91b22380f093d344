//! What has been fetched or built once, kept for the next time.
//!
//! An entry is a directory that appears in one step and never changes. Its manifest says where it came from and what each
//! file must be. One lock file per entry keeps two processes from making the same one; readers need no lock.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::ToolError;
use super::progress::Progress;
use crate::partial;

const MANIFEST: &str = "manifest.json";

/// Half-made entries begin with this; the owner of the entry's lock removes those of killed processes.
const UNFINISHED: &str = ".new-";

/// The directory with all entries.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A complete entry whose files are what its manifest says.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its directory.
    pub directory: PathBuf,
    /// Where it came from.
    pub origin: Origin,
}

/// Where an entry came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// How it got here: `built from go.etcd.io/etcd/server/v3`, `downloaded from https://…`.
    pub source: String,
    /// The version of what is in it.
    pub version: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(flatten)]
    origin: Origin,
    files: BTreeMap<String, Stamp>,
}

/// Size and time of change decide whether the digest has to be computed again, which would cost a second per start.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamp {
    sha256: String,
    size: u64,
    modified_nanoseconds: i128,
}

impl Cache {
    /// `${XDG_CACHE_HOME:-~/.cache}/dittofs-conformance`.
    ///
    /// # Errors
    /// Neither variable is set to an absolute path.
    pub fn default_root() -> Result<PathBuf, ToolError> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .map(|caches| caches.join("dittofs-conformance"))
            .ok_or_else(|| ToolError::Request("no place for the cache: set HOME or XDG_CACHE_HOME".to_owned()))
    }

    /// Opens the cache at `root`, which is created when it is missing.
    pub fn open(root: PathBuf) -> Result<Self, ToolError> {
        fs::create_dir_all(&root).map_err(ToolError::file("create", &root))?;
        Ok(Self { root })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks up an entry and checks it; `None` when there is none.
    ///
    /// # Errors
    /// [`ToolError::Damaged`] when a file is not what it was.
    pub fn find(&self, name: &str) -> Result<Option<Entry>, ToolError> {
        let directory = self.root.join(name);
        let path = directory.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => return Ok(None),
            Err(error) => return Err(damaged(&directory, MANIFEST, error.to_string(), "it is a file")),
        };
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| damaged(&directory, MANIFEST, format!("cannot be read ({error})"), "it is JSON"))?;
        manifest.files.iter().try_for_each(|(file, stamp)| check(&directory, file, stamp))?;
        Ok(Some(Entry { directory, origin: manifest.origin }))
    }

    /// The entry `name`; when there is none, `make` fills a new directory with it and says where it came from.
    ///
    /// Processes that want the same entry at the same time wait for the one that makes it.
    pub async fn obtain<F>(
        &self,
        name: &str,
        progress: &Progress,
        make: impl FnOnce(PathBuf) -> F,
    ) -> Result<Entry, ToolError>
    where
        F: Future<Output = Result<Origin, ToolError>>,
    {
        if let Some(entry) = self.find(name)? {
            return Ok(entry);
        }
        let _lock = self.lock(name, progress).await?;
        if let Some(entry) = self.find(name)? {
            return Ok(entry);
        }
        let prefix = format!("{UNFINISHED}{name}-");
        self.remove_unfinished(&prefix)?;
        let unfinished = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&self.root)
            .map_err(ToolError::file("create a directory in", &self.root))?;
        let origin = make(unfinished.path().to_owned()).await?;
        let manifest = Manifest { origin, files: stamps(unfinished.path())? };
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        fs::write(unfinished.path().join(MANIFEST), text).map_err(ToolError::file("write", unfinished.path()))?;
        let directory = self.root.join(name);
        fs::rename(unfinished.path(), &directory).map_err(ToolError::file("rename", unfinished.path()))?;
        // It is no longer there under that name.
        let _ = unfinished.keep();
        Ok(Entry { directory, origin: manifest.origin })
    }

    /// Removes all but the `kept` newest of the entries whose names begin with `prefix`. One that is being made stays.
    pub fn prune(&self, prefix: &str, kept: usize) -> Result<(), ToolError> {
        let entries = fs::read_dir(&self.root).map_err(ToolError::file("list", &self.root))?;
        let made = |path: &Path| path.join(MANIFEST).metadata().ok()?.modified().ok();
        let mut found: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(prefix)))
            .filter_map(|path| Some((made(&path)?, path)))
            .collect();
        found.sort();
        found.reverse();
        for (_, path) in found.into_iter().skip(kept) {
            // In one step, so that nobody finds half an entry.
            if !partial::remove(&path, UNFINISHED).map_err(ToolError::file("remove", &path))? {
                continue;
            }
            let lock = path.with_file_name(format!("{}.lock", path.file_name().unwrap_or_default().display()));
            match fs::remove_file(&lock) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ToolError::File { action: "remove", path: lock, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn lock(&self, name: &str, progress: &Progress) -> Result<File, ToolError> {
        let path = self.root.join(format!("{name}.lock"));
        let file = File::create(&path).map_err(ToolError::file("create", &path))?;
        if file.try_lock().is_ok() {
            return Ok(file);
        }
        let step = progress.begin(format!("waiting for another process that makes {name}"), None);
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        let file = locked.map_err(io::Error::other).flatten().map_err(ToolError::file("lock", &path))?;
        step.done();
        Ok(file)
    }

    fn remove_unfinished(&self, prefix: &str) -> Result<(), ToolError> {
        let entries = fs::read_dir(&self.root).map_err(ToolError::file("list", &self.root))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(prefix)) {
                fs::remove_dir_all(&path).map_err(ToolError::file("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn damaged(entry: &Path, file: &str, found: impl Into<String>, expected: impl Into<String>) -> ToolError {
    ToolError::Damaged { entry: entry.into(), file: file.into(), found: found.into(), expected: expected.into() }
}

fn check(entry: &Path, file: &str, stamp: &Stamp) -> Result<(), ToolError> {
    let path = entry.join(file);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => return Err(damaged(entry, file, format!("cannot be read ({error})"), "it is there")),
    };
    if metadata.len() == stamp.size && modified(&metadata) == stamp.modified_nanoseconds {
        return Ok(());
    }
    let found = digest(&path)?;
    if found == stamp.sha256 {
        return Ok(());
    }
    Err(damaged(entry, file, format!("has sha256 {found}"), &stamp.sha256))
}

/// Stamps of all regular files below `directory`. Symbolic links are left out: what they lead to counts.
fn stamps(directory: &Path) -> Result<BTreeMap<String, Stamp>, ToolError> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(current) = open.pop() {
        let failed = || ToolError::file("list", &current);
        for entry in fs::read_dir(&current).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed())?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                let metadata = entry.metadata().map_err(failed())?;
                let stamp =
                    Stamp { sha256: digest(&path)?, size: metadata.len(), modified_nanoseconds: modified(&metadata) };
                let name = path.strip_prefix(directory).unwrap_or(&path);
                files.insert(name.to_string_lossy().into_owned(), stamp);
            }
        }
    }
    Ok(files)
}

fn modified(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn digest(path: &Path) -> Result<String, ToolError> {
    let failed = || ToolError::file("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block).map_err(failed())? {
            0 => return Ok(hex::encode(hasher.finalize())),
            length => hasher.update(&block[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { source: "built here".to_owned(), version: "v1".to_owned() }
    }

    async fn obtain(cache: &Cache, content: &str) -> Entry {
        let make = |directory: PathBuf| async move {
            fs::create_dir(directory.join("bin")).unwrap();
            fs::write(directory.join("bin/tool"), content).unwrap();
            Ok(origin())
        };
        cache.obtain("tool-v1", &Progress::silent(), make).await.unwrap()
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path().join("cache")).unwrap();
        (directory, cache)
    }

    #[tokio::test]
    async fn an_entry_is_made_once() {
        let (_directory, cache) = cache();
        assert!(cache.find("tool-v1").unwrap().is_none());
        let entry = obtain(&cache, "first").await;
        assert_eq!(entry.origin, origin());
        let entry = obtain(&cache, "second").await;
        assert_eq!(fs::read_to_string(entry.directory.join("bin/tool")).unwrap(), "first");
    }

    #[tokio::test]
    async fn a_changed_file_is_reported_with_both_digests_and_the_remedy() {
        let (_directory, cache) = cache();
        let entry = obtain(&cache, "good").await;
        fs::write(entry.directory.join("bin/tool"), "evil").unwrap();
        let error = cache.find("tool-v1").unwrap_err();
        let message = error.to_string().replace(&*cache.root().to_string_lossy(), "<cache>");
        insta::assert_snapshot!(message, @"the cache entry <cache>/tool-v1 is damaged: bin/tool has sha256 b5c1fb2efc6d6b4674c2fdcc48ce01b43a3b7c03763c0c3355de0099ee0f8c73, but its manifest says 770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c; remove the entry with `rm -r <cache>/tool-v1`, it will be made again");
    }

    #[tokio::test]
    async fn only_the_newest_entries_of_a_kind_are_kept() {
        let (_directory, cache) = cache();
        for name in ["image-a-1", "image-a-2", "image-a-3", "other"] {
            let make = |directory: PathBuf| async move {
                fs::write(directory.join("file"), name).unwrap();
                Ok(origin())
            };
            let entry = cache.obtain(name, &Progress::silent(), make).await.unwrap();
            // The order must not hang on how fine the file system's clock is.
            let age = if name.ends_with('1') { 0 } else { 1000 };
            let manifest = File::options().write(true).open(entry.directory.join(MANIFEST)).unwrap();
            manifest.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(age)).unwrap();
        }
        cache.prune("image-a-", 2).unwrap();
        assert!(cache.find("image-a-1").unwrap().is_none());
        assert!(!cache.root().join("image-a-1.lock").exists());
        for name in ["image-a-2", "image-a-3", "other"] {
            assert!(cache.find(name).unwrap().is_some(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_touched_file_is_still_good() {
        let (_directory, cache) = cache();
        let entry = obtain(&cache, "good").await;
        fs::write(entry.directory.join("bin/tool"), "good").unwrap();
        assert!(cache.find("tool-v1").unwrap().is_some());
    }

    #[tokio::test]
    async fn a_missing_file_or_manifest_is_damage() {
        let (_directory, cache) = cache();
        let entry = obtain(&cache, "good").await;
        fs::remove_file(entry.directory.join("bin/tool")).unwrap();
        assert!(matches!(cache.find("tool-v1"), Err(ToolError::Damaged { file, .. }) if file == "bin/tool"));
        fs::remove_file(entry.directory.join(MANIFEST)).unwrap();
        assert!(matches!(cache.find("tool-v1"), Err(ToolError::Damaged { file, .. }) if file == MANIFEST));
    }

    #[tokio::test]
    async fn nothing_stays_of_an_entry_that_could_not_be_made() {
        let (_directory, cache) = cache();
        let make = |directory: PathBuf| async move {
            fs::write(directory.join("half"), "half").unwrap();
            Err(ToolError::Request("no".to_owned()))
        };
        cache.obtain("tool-v1", &Progress::silent(), make).await.unwrap_err();
        // What a killed process has left is removed by the next one that makes the entry.
        fs::create_dir(cache.root().join(".new-tool-v1-killed")).unwrap();
        obtain(&cache, "good").await;
        let mut names: Vec<_> = fs::read_dir(cache.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["tool-v1", "tool-v1.lock"]);
    }
}
