//! Bringing a usable cluster up: the containers, what is in its nodes, and the operator under test.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kube::Client;

use super::cluster::{self, Cluster};
use super::docker::{Docker, NETWORK};
use super::fingerprint::Fingerprint;
use super::helm::{Chart, Helm};
use super::ledger::{CLUSTER_LABEL, Entry, Ledger, cluster_name};
use super::operator::Workload;
use super::parts::{existing, node_image};
use super::percona::Presence;
use super::settings::{PerconaKind, Settings};
use super::{limits, sweep};
use crate::chart::Staged;
use crate::implementation::{Implementation, Unusable};
use crate::process::default_base;
use crate::tools::{self, Progress, Workshop, versions};

/// A cluster that pods can be made in.
pub(super) struct Made {
    pub cluster: Cluster,
    pub client: Client,
    /// What of Percona a kept cluster holds already.
    pub percona: Presence,
}

/// What the user is told about Percona in the cluster.
pub(super) fn percona_name(settings: &Settings) -> String {
    match settings.percona {
        PerconaKind::Real => crate::percona::VERSION.to_owned(),
        PerconaKind::Double => format!("double of {}", crate::percona::VERSION),
    }
}

/// Makes the cluster of this run, or takes a kept one.
pub(super) async fn make(workshop: &Workshop, settings: &Settings, docker: &Docker) -> anyhow::Result<Made> {
    let spawner = &workshop.spawner;
    let run = spawner.run();
    let ledger = Ledger::of_user()?;
    let configuration = existing(&settings.configuration)?;
    let wanted = Fingerprint {
        node_image: node_image(settings)?,
        configuration: std::fs::read_to_string(&configuration)
            .with_context(|| format!("reading {}", configuration.display()))?,
        percona: percona_name(settings),
    };
    let kept = if settings.reuse { find_kept(docker, &ledger, &wanted, &workshop.progress).await? } else { None };
    let machine = docker.machine().await?;
    limits::check(&machine, &wanted.node_image)?;
    warn_untested(settings, &workshop.progress);

    let kind = tools::kind(workshop, &settings.tools).await?;
    let kubeconfig = run.directory().join("kubeconfig");
    let name = kept.as_ref().map_or_else(|| cluster_name(run), |kept| kept.cluster.clone());
    let cluster = Cluster { kind, spawner: spawner.clone(), name, kubeconfig };
    let entry = Entry {
        run: run.id().to_owned(),
        base: default_base(),
        cluster: cluster.name.clone(),
        node_image: wanted.node_image.clone(),
        made_network: kept.as_ref().is_some_and(|kept| kept.made_network) || !docker.has_network(NETWORK).await?,
        kept: settings.keep.then(|| wanted.clone()),
    };
    let reused = kept.is_some();
    let step = match kept {
        Some(_) => workshop.progress.begin(format!("taking the kept cluster {}", cluster.name), None),
        None => workshop.progress.begin(format!("creating the kind cluster {}", cluster.name), Some("half a minute")),
    };
    if reused {
        ledger.write(&entry)?;
        cluster.adopt().await?;
    } else {
        cluster.refuse_foreign(docker).await?;
        // Before anything is made.
        ledger.write(&entry)?;
        cluster.create(&configuration, &wanted.node_image).await?;
    }
    let client = Client::try_from(cluster.config().await?)?;
    Box::pin(cluster::ready(&client)).await?;
    if settings.keep {
        let text = std::fs::read(&cluster.kubeconfig).context("reading the cluster's kubeconfig")?;
        ledger.write_kubeconfig(&cluster.name, &text)?;
    }
    step.done();
    let percona = if reused { Presence::Installed } else { Presence::Absent };
    Ok(Made { cluster, client, percona })
}

/// The kept cluster that fits; `None`: there is none at all. One that somebody has deleted is forgotten.
///
/// # Errors
/// There are some, and none fits: says what differs.
async fn find_kept(
    docker: &Docker,
    ledger: &Ledger,
    wanted: &Fingerprint,
    progress: &Progress,
) -> anyhow::Result<Option<Entry>> {
    let mut differences = Vec::new();
    for entry in ledger.entries()? {
        let Some(kept) = &entry.kept else { continue };
        if entry.is_alive() {
            differences.push(format!("{}: run {} uses it", entry.cluster, entry.run));
            continue;
        }
        if docker.labelled(CLUSTER_LABEL, &entry.cluster).await?.is_empty() {
            progress.begin(format!("the kept cluster {} was deleted by somebody", entry.cluster), None).done();
            sweep::bury(docker, ledger, &entry, false).await?;
            continue;
        }
        match kept.differences(wanted).as_slice() {
            [] if !docker.runs(CLUSTER_LABEL, &entry.cluster).await? => {
                let [node, _] = entry.containers();
                differences.push(format!("{}: its node does not run (`docker start {node}` starts it)", entry.cluster));
            }
            [] => return Ok(Some(entry)),
            others => differences.push(format!("{}: {}", entry.cluster, others.join("; "))),
        }
    }
    if differences.is_empty() {
        return Ok(None);
    }
    bail!(
        "no kept cluster fits: {}; leave --reuse out to make another one, or remove it by `conformance clean --kept`",
        differences.join(" | ")
    )
}

fn warn_untested(settings: &Settings, progress: &Progress) {
    let known = &versions().kubernetes;
    let minor = settings.tools.kubernetes.as_deref().unwrap_or(&known.default).trim_start_matches('v');
    let tested = known.nodes.get(minor).is_none_or(|node| node.percona_tested);
    if settings.percona == PerconaKind::Real && settings.node_image.is_none() && !tested {
        let version = crate::percona::VERSION;
        progress
            .begin(format!("warning: Percona {version} was not tested on Kubernetes {minor} by its makers"), None)
            .done();
    }
}

/// Loads all images into the nodes, one after the other: the nodes unpack on one disk.
pub(super) async fn load(workshop: &Workshop, cluster: &Cluster, archives: &[PathBuf]) -> anyhow::Result<()> {
    let step = workshop.progress.begin("loading images into the nodes", None);
    for archive in archives {
        step.note(archive.display().to_string());
        cluster.load(&existing(archive)?).await?;
    }
    step.done();
    Ok(())
}

/// Installs the operator under test by its chart, and waits until it works.
pub(crate) async fn operator(
    workshop: &Workshop,
    helm: Helm,
    client: &Client,
    implementation: &Implementation,
    (repository, tag): (&str, &str),
    log_level: &str,
) -> anyhow::Result<(Workload, bool)> {
    let Some(cluster) = &implementation.cluster else { bail!("the implementation file has no `cluster` section") };
    let step = workshop.progress.begin(format!("installing {}", implementation.name), None);
    let directory = implementation.directory.join(&cluster.chart);
    // Helm refuses a directory whose dependencies were not downloaded.
    let staged =
        if directory.is_dir() { Some(Staged::new(&directory, workshop.spawner.run().directory())?) } else { None };
    let chart = if let Some(staged) = &staged {
        Chart::directory(staged.path())
    } else {
        Chart { chart: cluster.chart.clone(), repository: None, version: cluster.version.clone() }
    };
    let values = implementation.chart_values(log_level, repository, tag)?;
    let namespace = &implementation.service_account.namespace;
    helm.install(&cluster.release, namespace, &chart, &values, true)
        .await
        .with_context(|| format!("installing {}", implementation.name))
        .map_err(Unusable::blame)?;
    let workload = Workload { client: client.clone(), namespace: namespace.clone(), name: cluster.deployment.clone() };
    workload.ready().await.map_err(Unusable::blame)?;
    let webhook = workload.has_webhook().await?;
    if webhook {
        workload.webhook_reached().await?;
    }
    step.done();
    Ok((workload, webhook))
}
