//! Volumes: every claim is bound at once, to a directory of its own.
//!
//! The directory is what a volume needs to exist; a process cannot see it at the absolute path of a `volumeMount`.

use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::FIELD_MANAGER;

/// Binds claims for as long as it is polled.
pub(super) async fn bind_claims(client: Client, root: PathBuf) {
    let claims = Api::<PersistentVolumeClaim>::all(client.clone());
    let mut events = watcher(claims, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let (claim, result) = match event {
            Ok(watcher::Event::Apply(claim) | watcher::Event::InitApply(claim)) if is_unbound(&claim) => {
                let result = bind(&client, &root, &claim).await;
                (claim, result)
            }
            Ok(watcher::Event::Delete(claim)) => {
                let result = release(&client, &root, &claim).await;
                (claim, result)
            }
            Ok(_) => continue,
            Err(error) => {
                tracing::debug!(%error, "watching claims");
                continue;
            }
        };
        if let Err(error) = result {
            let namespace = claim.namespace().unwrap_or_default();
            tracing::warn!(claim = claim.name_any(), namespace, "cannot bind or release: {error:#}");
        }
    }
}

fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    claim.metadata.deletion_timestamp.is_none() && phase != Some("Bound")
}

/// The volume of a claim is called as Kubernetes' own provisioners call it.
fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

fn directory(root: &Path, claim: &PersistentVolumeClaim) -> PathBuf {
    root.join("volumes").join(volume_name(claim))
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Does what a provisioner and the volume binder of kube-controller-manager, which does not run here, would do.
async fn bind(client: &Client, root: &Path, claim: &PersistentVolumeClaim) -> anyhow::Result<()> {
    let directory = directory(root, claim);
    tokio::fs::create_dir_all(&directory).await?;

    let volumes = Api::<PersistentVolume>::all(client.clone());
    let name = volume_name(claim);
    let volume: PersistentVolume = serde_json::from_value(volume(claim, &directory))?;
    match volumes.create(&PostParams::default(), &volume).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => (),
        result => drop(result?),
    }
    let parameters = parameters();
    let bound = json!({"status": {"phase": "Bound"}});
    volumes.patch_status(&name, &parameters, &Patch::Merge(bound)).await?;

    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
    let named = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": name},
    });
    claims.patch(&claim.name_any(), &parameters, &Patch::Merge(named)).await?;
    let spec = claim.spec.as_ref();
    let bound = json!({"status": {
        "phase": "Bound",
        "accessModes": spec.and_then(|spec| spec.access_modes.as_ref()),
        "capacity": capacity(claim),
    }});
    claims.patch_status(&claim.name_any(), &parameters, &Patch::Merge(bound)).await?;
    Ok(())
}

fn capacity(claim: &PersistentVolumeClaim) -> Value {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    json!({"storage": requests.and_then(|requests| requests.get("storage"))})
}

fn volume(claim: &PersistentVolumeClaim, directory: &Path) -> Value {
    let spec = claim.spec.clone().unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim)},
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": capacity(claim),
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.metadata.namespace,
                "name": claim.metadata.name,
                "uid": claim.metadata.uid,
            },
            "hostPath": {"path": directory},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec.storage_class_name.unwrap_or_default(),
            "volumeMode": spec.volume_mode,
        },
    })
}

/// The claim is gone: so are its volume and what was on it.
async fn release(client: &Client, root: &Path, claim: &PersistentVolumeClaim) -> anyhow::Result<()> {
    let volumes = Api::<PersistentVolume>::all(client.clone());
    // A volume that is bound is protected from deletion.
    let released = json!({"status": {"phase": "Released"}});
    let name = volume_name(claim);
    let parameters = parameters();
    let result = async {
        volumes.patch_status(&name, &parameters, &Patch::Merge(released)).await?;
        volumes.delete(&name, &DeleteParams::default()).await
    };
    match result.await {
        Err(kube::Error::Api(status)) if status.is_not_found() => (),
        result => drop(result?),
    }
    match tokio::fs::remove_dir_all(directory(root, claim)).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
