//! Removing what runs have made: at their end, whatever that end was, and later what dead ones have left.

use std::fmt;
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

/// What was removed, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Names of clusters that were removed.
    pub clusters: Vec<String>,
    /// Names of clusters that stay, because somebody wants to use them again.
    pub kept: Vec<String>,
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
    // Half an image, when this run was interrupted while it made one. Without a daemon there is none.
    if is_alone(run.id())
        && let Ok(docker) = Docker::connect().await
    {
        let (label, value) = TEMPORARY.split_once('=').unwrap_or_default();
        docker.remove_images(label, value).await?;
    }
    Ok(())
}

/// Whether no other run of this user lives, whose half image it could be.
fn is_alone(run: &str) -> bool {
    let runs = process::list(&process::default_base());
    runs.is_ok_and(|runs| !runs.iter().any(|other| other.id() != run && other.is_alive()))
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
            left: vec!["kind cluster dittofs-conformance-3: there is no Docker daemon".to_owned()],
        };
        insta::assert_snapshot!(swept, @r"
        removed 1 kind cluster(s) (dittofs-conformance-1)
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
