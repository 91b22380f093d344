//! What runs have made outside of their own processes, written down before it is made.
//!
//! A cluster is made of containers of the Docker daemon: they outlive us, and a restart of the machine. So each run keeps an
//! entry in the user's state directory, and only what stands there is ever removed.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::fingerprint::Fingerprint;
use crate::private;
use crate::process::{self, Run};

/// What every name of ours begins with.
const PREFIX: &str = "dittofs-conformance";
/// What ends the name of an entry.
const SUFFIX: &str = "json";

/// The label of containers that are no nodes; its value is the id of the run.
pub const RUN_LABEL: &str = "com.dittofs.conformance.run";
/// The label that kind gives to nodes; its value is the name of the cluster.
pub const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";

/// What one run has made, or is about to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The run.
    pub run: String,
    /// Where its directory is: it says whether the run still lives.
    pub base: PathBuf,
    /// The name of its cluster.
    pub cluster: String,
    /// The image of its nodes.
    pub node_image: String,
    /// Whether kind's network was not there before.
    pub made_network: bool,
    /// Whether the cluster is to stay when the run has ended, and what it is.
    pub kept: Option<Fingerprint>,
}

impl Entry {
    /// The names of the containers that are made first.
    pub fn containers(&self) -> [String; 2] {
        [format!("{}-control-plane", self.cluster), minio_name(&self.run)]
    }

    /// Whether the run that made it may still live. Of one in a directory of another user nothing can be told: as under
    /// `sudo -E`, which reads this ledger.
    pub fn is_alive(&self) -> bool {
        process::list(&self.base).map_or(true, |runs| runs.iter().any(|run| run.id() == self.run && run.is_alive()))
    }
}

/// The entries of this user.
#[derive(Clone, Debug)]
pub struct Ledger {
    directory: PathBuf,
}

/// The name of a run's container of MinIO.
pub fn minio_name(run: &str) -> String {
    format!("{PREFIX}-{run}-minio")
}

/// The name of a run's cluster.
pub fn cluster_name(run: &Run) -> String {
    format!("{PREFIX}-{}", run.id())
}

impl Ledger {
    /// The ledger in `${XDG_STATE_HOME:-~/.local/state}/dittofs-conformance/kind`.
    ///
    /// # Errors
    /// Neither variable says where that is.
    pub fn of_user() -> anyhow::Result<Self> {
        let state = std::env::var_os("XDG_STATE_HOME").filter(|path| Path::new(path).is_absolute());
        let state = match state {
            Some(state) => PathBuf::from(state),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".local/state"),
        };
        Ok(Self { directory: state.join(PREFIX).join("kind") })
    }

    /// A ledger in another directory.
    #[cfg(test)]
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes an entry, in place of an earlier one of the same cluster.
    pub fn write(&self, entry: &Entry) -> anyhow::Result<()> {
        let path = self.path(&entry.cluster);
        let written = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            let mut file =
                tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o600)).tempfile_in(&self.directory)?;
            serde_json::to_writer_pretty(&mut file, entry)?;
            // It has to survive the machine: the cluster does.
            file.as_file_mut().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        written().with_context(|| format!("writing {}", path.display()))
    }

    /// The kubeconfig of a kept cluster, which lies beside its entry.
    pub fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.directory.join(format!("{cluster}.kubeconfig"))
    }

    /// Writes the kubeconfig of a cluster that is kept.
    pub fn write_kubeconfig(&self, cluster: &str, text: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.kubeconfig(cluster);
        private::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// All entries. One that cannot be read is told and left out: nothing is known about it.
    pub fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let listed = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.with_context(|| format!("listing {}", self.directory.display()))?,
        };
        let mut entries = Vec::new();
        for file in listed {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            match fs::read(&path).map_err(anyhow::Error::from).and_then(|text| Ok(serde_json::from_slice(&text)?)) {
                Ok(entry) => entries.push(entry),
                Err(error) => tracing::warn!("{} cannot be read: {error:#}", path.display()),
            }
        }
        entries.sort_by(|a: &Entry, b| a.cluster.cmp(&b.cluster));
        Ok(entries)
    }

    /// Removes an entry, and the directory when it was the last one.
    pub fn remove(&self, cluster: &str) -> anyhow::Result<()> {
        for path in [self.kubeconfig(cluster), self.path(cluster)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.with_context(|| format!("removing {}", path.display()))?,
            }
        }
        // They hold something else, or somebody writes into them.
        let _ = fs::remove_dir(&self.directory);
        let _ = self.directory.parent().map(fs::remove_dir);
        Ok(())
    }

    fn path(&self, cluster: &str) -> PathBuf {
        self.directory.join(format!("{cluster}.{SUFFIX}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(cluster: &str) -> Entry {
        Entry {
            run: "0a1b2c3d".to_owned(),
            base: "/nowhere".into(),
            cluster: cluster.to_owned(),
            node_image: String::new(),
            made_network: true,
            kept: None,
        }
    }

    #[test]
    fn an_entry_is_there_until_it_is_removed_and_then_nothing_is() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(directory.path().join("state/kind"));
        assert_eq!(ledger.entries().unwrap(), []);
        ledger.write(&entry("b")).unwrap();
        ledger.write(&entry("a")).unwrap();
        ledger.write_kubeconfig("a", b"kubeconfig").unwrap();
        assert_eq!(ledger.entries().unwrap(), [entry("a"), entry("b")]);
        ledger.remove("a").unwrap();
        assert_eq!(ledger.entries().unwrap(), [entry("b")]);
        ledger.remove("b").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_run_whose_directory_is_gone_is_dead() {
        assert!(!entry("a").is_alive());
    }

    #[test]
    fn a_damaged_entry_hides_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(directory.path().to_owned());
        ledger.write(&entry("a")).unwrap();
        fs::write(directory.path().join("broken.json"), "{").unwrap();
        assert_eq!(ledger.entries().unwrap(), [entry("a")]);
    }
}
