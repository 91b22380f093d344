//! etcd data directories that already hold the CRDs.
//!
//! Establishing Percona's CRDs takes seconds, and so does the API server's own bootstrap of roles. Both are done once per
//! version of the binaries and set of CRDs; a start copies the outcome.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::crds::CustomResources;
use super::server::Binaries;
use crate::partial;

/// Changes when what [`super::plane`] puts into a prepared directory does.
const FORMAT: &str = "1";

/// Where the entries are in the cache: a directory of their own, from which what is old is removed.
pub(super) const ENTRIES: &str = "control-planes";

/// An entry that nobody has used for so long is removed when another one is made: each takes about 70 MB.
const KEEP_FOR: Duration = Duration::from_hours(30 * 24);

/// The name of the entry for these binaries and CRDs.
pub(super) fn key(binaries: &Binaries, crds: &CustomResources) -> io::Result<String> {
    let mut digest = Sha256::new();
    digest.update(FORMAT);
    for binary in [&binaries.etcd, &binaries.kube_apiserver] {
        let file = std::fs::metadata(binary)?;
        let age = file.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        digest.update(file.len().to_le_bytes());
        digest.update(age.as_nanos().to_le_bytes());
    }
    crds.digest(&mut digest);
    Ok(hex::encode(&digest.finalize()[..8]))
}

/// Fills `target` with the entry `key` of the cache, which `prepare` makes when it is not there: in a directory of its
/// choice, which it returns.
pub(super) async fn provide(
    cache: &Path,
    key: &str,
    target: &Path,
    prepare: impl AsyncFnOnce() -> anyhow::Result<PathBuf>,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(cache).with_context(|| format!("creating the cache {}", cache.display()))?;
    let path = cache.join("lock");
    // Held until the end: another run that needs the same entry waits for it instead of making it again.
    let _lock = tokio::task::spawn_blocking(move || {
        let file = File::create(&path)?;
        file.lock()?;
        io::Result::Ok(file)
    })
    .await?
    .with_context(|| format!("locking {}", cache.join("lock").display()))?;

    let entry = cache.join(key);
    if !entry.is_dir() {
        remove_old(cache)?;
        let made = prepare().await?;
        let new = tempfile::Builder::new().prefix(partial::PREFIX).tempdir_in(cache)?;
        copy(&made, new.path()).with_context(|| format!("copying {} to the cache", made.display()))?;
        std::fs::rename(new.keep(), &entry)?;
    }
    copy(&entry, target).with_context(|| format!("copying {} to {}", entry.display(), target.display()))?;
    File::open(&entry)?.set_modified(SystemTime::now())?;
    Ok(())
}

/// Copies a tree of directories and files.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Removes what was not used for [`KEEP_FOR`], and what a killed run has left half-made or half-removed. The lock must be held.
fn remove_old(cache: &Path) -> io::Result<()> {
    partial::remove_all(cache)?;
    for entry in std::fs::read_dir(cache)?.collect::<io::Result<Vec<_>>>()? {
        let unused = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if entry.file_type()?.is_dir() && unused > KEEP_FOR {
            partial::remove(&entry.path(), partial::PREFIX)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn provided(cache: &Path, key: &str, content: &str) -> String {
        let target = tempfile::tempdir().unwrap();
        let made = tempfile::tempdir().unwrap();
        provide(cache, key, &target.path().join("data"), async || {
            std::fs::create_dir(made.path().join("member"))?;
            std::fs::write(made.path().join("member/db"), content)?;
            Ok(made.path().to_owned())
        })
        .await
        .unwrap();
        std::fs::read_to_string(target.path().join("data/member/db")).unwrap()
    }

    #[tokio::test]
    async fn an_entry_is_made_once_for_each_key() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(provided(cache.path(), "a", "first").await, "first");
        assert_eq!(provided(cache.path(), "a", "second").await, "first");
        assert_eq!(provided(cache.path(), "b", "third").await, "third");
    }

    #[tokio::test]
    async fn a_failed_preparation_leaves_no_entry() {
        let cache = tempfile::tempdir().unwrap();
        let target = cache.path().join("target");
        provide(cache.path(), "a", &target, async || anyhow::bail!("no")).await.unwrap_err();
        assert_eq!(provided(cache.path(), "a", "whole").await, "whole");
    }

    #[test]
    fn half_made_and_unused_entries_are_removed() {
        let cache = tempfile::tempdir().unwrap();
        for name in [".partial-x", "old", "young"] {
            std::fs::create_dir(cache.path().join(name)).unwrap();
        }
        let long_ago = SystemTime::now() - KEEP_FOR - Duration::from_mins(1);
        File::open(cache.path().join("old")).unwrap().set_modified(long_ago).unwrap();
        remove_old(cache.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["young"]);
    }
}
