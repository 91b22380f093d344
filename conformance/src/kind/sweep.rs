//! Removing what runs have made: at their end, whatever that end was, and later what dead ones have left.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::docker::{Docker, NETWORK};
use super::ledger::{CLUSTER_LABEL, Entry, Ledger, RUN_LABEL};
use crate::images::TEMPORARY;
use crate::process::{self, Run};

/// How long all containers of a run may take to go.
pub const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How often the daemon is asked whether it still makes one; nothing tells before it is made.
const ASK: Duration = Duration::from_millis(100);
/// How long a daemon may take to answer at all, where it may well be that there is none. A busy one needs some 100 ms.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// How long the images that are left may take to go. With the answer, less than the end of a supervisor leaves for it.
const REMOVED_WITHIN: Duration = Duration::from_secs(6);

/// What was removed, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Names of clusters that were removed.
    pub clusters: Vec<String>,
    /// Names of clusters that stay, because somebody wants to use them again.
    pub kept: Vec<String>,
    /// How many images were removed that an interrupted build had left.
    pub images: usize,
    /// What is still there, each as a sentence with what to do.
    pub left: Vec<String>,
}

impl Swept {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        if !self.clusters.is_empty() {
            lines.push(format!("removed {} kind cluster(s) ({})", self.clusters.len(), self.clusters.join(", ")));
        }
        if self.images > 0 {
            lines.push(format!("removed {} unfinished image(s)", self.images));
        }
        lines.extend(
            self.kept.iter().map(|name| format!("kept: cluster {name}; `conformance clean --kept` removes it")),
        );
        lines.extend(self.left.iter().map(|left| format!("left: {left}")));
        formatter.write_str(&lines.join("\n"))
    }
}

/// Removes what this run has made; a cluster that it keeps stays.
pub async fn clean_up(run: &Run) -> anyhow::Result<()> {
    let ledger = Ledger::of_user()?;
    for entry in ledger.entries()?.iter().filter(|entry| entry.run == run.id()) {
        bury(&Docker::connect().await?, &ledger, entry, entry.kept.is_some()).await?;
    }
    // Half an image, when this run was interrupted while it made one.
    sweep_images(&process::default_base(), Some(run.id())).await.map(drop)
}

/// Removes the images that an interrupted build has left in Docker: built, and not yet saved. Returns how many. None without a
/// daemon, and none while a run lives in `base`, except for `own`: it may be about to save one.
///
/// # Errors
/// The daemon does not remove them, or not in time.
pub async fn sweep_images(base: &Path, own: Option<&str>) -> anyhow::Result<usize> {
    let lives = |run: &process::Found| Some(run.id()) != own && run.is_alive();
    if process::list(base)?.iter().any(lives) {
        return Ok(0);
    }
    let Ok(Ok(docker)) = tokio::time::timeout(ANSWERED_WITHIN, Docker::connect()).await else { return Ok(0) };
    let (label, value) = TEMPORARY.split_once('=').unwrap_or_default();
    let removed = tokio::time::timeout(REMOVED_WITHIN, docker.remove_images(label, value)).await;
    removed.with_context(|| format!("unfinished images are still there after {} s", REMOVED_WITHIN.as_secs()))?
}

/// Removes what dead runs have left, and with `kept` also the clusters that were kept.
pub async fn sweep(kept: bool) -> anyhow::Result<Swept> {
    sweep_ledger(&Ledger::of_user()?, kept).await
}

async fn sweep_ledger(ledger: &Ledger, kept: bool) -> anyhow::Result<Swept> {
    let mut swept = Swept::default();
    let dead: Vec<Entry> = ledger.entries()?.into_iter().filter(|entry| !entry.is_alive()).collect();
    if dead.is_empty() {
        return Ok(swept);
    }
    let docker = match Docker::connect().await {
        Ok(docker) => docker,
        Err(error) => {
            let names: Vec<&str> = dead.iter().map(|entry| entry.cluster.as_str()).collect();
            swept.left.push(format!("kind cluster(s) {}: {error:#}", names.join(", ")));
            return Ok(swept);
        }
    };
    for entry in dead {
        let stays = entry.kept.is_some() && !kept;
        match bury(&docker, ledger, &entry, stays).await {
            Ok(()) if stays => swept.kept.push(entry.cluster),
            Ok(()) => swept.clusters.push(entry.cluster),
            Err(error) => swept.left.push(format!("kind cluster {}: {error:#}", entry.cluster)),
        }
    }
    Ok(swept)
}

/// Removes what an entry stands for, and at last the entry itself; of one that `stays`, everything but the cluster.
///
/// By the daemon's API: it does what `kind delete cluster` does, to half a cluster too, and touches no kubeconfig.
pub(super) async fn bury(docker: &Docker, ledger: &Ledger, entry: &Entry, stays: bool) -> anyhow::Result<()> {
    let [node, minio] = entry.containers();
    let names = if stays { vec![minio] } else { vec![node, minio] };
    let removal = async {
        loop {
            let mut containers = docker.labelled(RUN_LABEL, &entry.run).await?;
            if !stays {
                containers.extend(docker.labelled(CLUSTER_LABEL, &entry.cluster).await?);
            }
            futures::future::try_join_all(containers.iter().map(|container| docker.remove(container))).await?;
            let taken = names.iter().map(|name| docker.is_taken(name, &entry.node_image));
            if !futures::future::try_join_all(taken).await?.contains(&true) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(ASK).await;
        }
    };
    tokio::time::timeout(GONE_WITHIN, removal).await.with_context(|| {
        format!("containers of {} are still there after {} s", entry.cluster, GONE_WITHIN.as_secs())
    })??;
    if stays {
        return Ok(());
    }
    if entry.made_network {
        docker.remove_unused_network(NETWORK).await?;
    }
    ledger.remove(&entry.cluster).with_context(|| format!("forgetting {}", entry.cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_was_removed_and_what_stays() {
        let swept = Swept {
            clusters: vec!["dittofs-conformance-1".to_owned()],
            kept: vec!["dittofs-conformance-2".to_owned()],
            images: 1,
            left: vec!["kind cluster dittofs-conformance-3: there is no Docker daemon".to_owned()],
        };
        insta::assert_snapshot!(swept, @r"
        removed 1 kind cluster(s) (dittofs-conformance-1)
        removed 1 unfinished image(s)
        kept: cluster dittofs-conformance-2; `conformance clean --kept` removes it
        left: kind cluster dittofs-conformance-3: there is no Docker daemon
        ");
        assert!(Swept::default().is_empty());
    }

    #[tokio::test]
    async fn without_an_entry_docker_is_not_even_asked() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(directory.path().join("state"));
        assert_eq!(sweep_ledger(&ledger, true).await.unwrap(), Swept::default());
    }
}
