//! What is installed into the API server before the operator starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::file::{Implementation, ManifestSource};
use super::setup::{command, shown};
use super::template::Values;
use crate::controlplane::wait_until_established;
use crate::process::Spawner;

/// How long a command may take to print manifests.
const PRINTED_WITHIN: Duration = Duration::from_mins(1);

/// Field manager of what we install.
const MANAGER: &str = "dittofs-conformance";

/// The manifests of an implementation, sorted by when they are to be installed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Manifests {
    /// First: everything else may need them.
    crds: Vec<DynamicObject>,
    /// Then, in the order of the files, except that namespaces go before what is in them.
    objects: Vec<DynamicObject>,
    /// At last, when the operator serves its webhook: the API server would call it in vain before.
    webhooks: Vec<DynamicObject>,
}

impl Manifests {
    /// Reads the files and runs the commands of `implementation`.
    pub async fn gather(implementation: &Implementation, values: &Values, spawner: &Spawner) -> anyhow::Result<Self> {
        let mut manifests = Self::default();
        for source in &implementation.manifests {
            match source {
                ManifestSource::File(path) => manifests.read(&implementation.directory.join(path))?,
                ManifestSource::Command(words) => {
                    let launch = command(implementation, words, values)?;
                    let completed = spawner.complete(&launch, PRINTED_WITHIN).await?;
                    if !completed.status.success() {
                        bail!(
                            "{} ended with {}: {}",
                            shown(words, values),
                            completed.status,
                            completed.stderr.trim_end()
                        );
                    }
                    manifests.add(&shown(words, values), &completed.stdout)?;
                }
            }
        }
        manifests.objects.sort_by_key(|object| kind(object) != "Namespace");
        Ok(manifests)
    }

    fn read(&mut self, path: &Path) -> anyhow::Result<()> {
        let reading = || format!("reading the manifests {}", path.display());
        if !path.is_dir() {
            return self.add(&path.display().to_string(), &std::fs::read_to_string(path).with_context(reading)?);
        }
        let mut files = std::fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
            .with_context(reading)?;
        let kinds = ["yaml", "yml", "json"];
        let is_manifest =
            |file: &Path| kinds.iter().any(|kind| file.extension().is_some_and(|extension| extension == *kind));
        files.retain(|file| is_manifest(file) && !file.is_dir());
        if files.is_empty() {
            bail!(
                "{} holds no manifest: no .yaml, .yml or .json, and what is below it is not looked at",
                path.display()
            );
        }
        files.sort();
        files.iter().try_for_each(|file| self.read(file))
    }

    fn add(&mut self, origin: &str, text: &str) -> anyhow::Result<()> {
        let documents: Vec<Value> = serde_yaml::from_multiple(text).with_context(|| format!("reading {origin}"))?;
        for document in documents {
            let items = match document.get("items") {
                Some(Value::Array(items)) => items.clone(),
                _ if document.is_null() => continue,
                _ => vec![document],
            };
            for item in items {
                let object: DynamicObject =
                    serde_json::from_value(item).with_context(|| format!("{origin} holds no Kubernetes object"))?;
                if kind(&object).is_empty() || object.metadata.name.is_none() {
                    bail!("{origin} holds an object without kind or name");
                }
                match kind(&object) {
                    "CustomResourceDefinition" => self.crds.push(object),
                    "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => self.webhooks.push(object),
                    // What would run the operator as a pod: here it is a process.
                    "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "CronJob" | "Pod" => {}
                    _ => self.objects.push(object),
                }
            }
        }
        Ok(())
    }

    /// Whether there is a webhook to register.
    pub fn has_webhooks(&self) -> bool {
        !self.webhooks.is_empty()
    }

    /// Installs all but the webhooks. What is in no namespace but must be goes into `namespace`.
    pub async fn install(&self, client: &Client, namespace: &str) -> anyhow::Result<()> {
        apply(client, namespace, &self.crds).await?;
        let names: Vec<String> = self.crds.iter().map(ResourceExt::name_any).collect();
        wait_until_established(client, &names).await?;
        apply(client, namespace, &self.objects).await
    }

    /// Takes the webhooks away. Those that are not there are let be.
    pub async fn unregister_webhooks(&self, client: &Client) -> anyhow::Result<()> {
        for object in &self.webhooks {
            let (name, kind) = (object.name_any(), kind(object));
            let parameters = DeleteParams::default();
            let deleted = if kind.starts_with("Validating") {
                Api::<ValidatingWebhookConfiguration>::all(client.clone()).delete(&name, &parameters).await.map(drop)
            } else {
                Api::<MutatingWebhookConfiguration>::all(client.clone()).delete(&name, &parameters).await.map(drop)
            };
            match deleted {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                other => other.with_context(|| format!("deleting {kind} {name}"))?,
            }
        }
        Ok(())
    }

    /// Registers the webhooks as served on 127.0.0.1:`port` with a certificate that `authority` (PEM) signed.
    pub async fn register_webhooks(&self, client: &Client, port: u16, authority: &str) -> anyhow::Result<()> {
        let objects: Vec<DynamicObject> =
            self.webhooks.iter().map(|object| at_loopback(object.clone(), port, authority)).collect();
        apply(client, "", &objects).await
    }
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

async fn apply(client: &Client, namespace: &str, objects: &[DynamicObject]) -> anyhow::Result<()> {
    let mut known: BTreeMap<String, (ApiResource, Scope)> = BTreeMap::new();
    for object in objects {
        let types = object.types.clone().unwrap_or_default();
        let name = object.name_any();
        let what = || format!("installing {} {name}", types.kind);
        let key = format!("{} {}", types.api_version, types.kind);
        if !known.contains_key(&key) {
            let (resource, capabilities) = pinned_kind(client, &gvk(&types)?).await.with_context(what)?;
            known.insert(key.clone(), (resource, capabilities.scope));
        }
        let (resource, scope) = &known[&key];
        let api: Api<DynamicObject> = match scope {
            Scope::Cluster => Api::all_with(client.clone(), resource),
            Scope::Namespaced => {
                let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
                Api::namespaced_with(client.clone(), &namespace, resource)
            }
        };
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await.with_context(what)?;
    }
    Ok(())
}

fn gvk(types: &TypeMeta) -> anyhow::Result<GroupVersionKind> {
    GroupVersionKind::try_from(types).with_context(|| format!("{:?} is no apiVersion", types.api_version))
}

/// Points every webhook of a configuration to 127.0.0.1:`port`; its path stays.
fn at_loopback(mut object: DynamicObject, port: u16, authority: &str) -> DynamicObject {
    use base64::Engine as _;
    let bundle = base64::engine::general_purpose::STANDARD.encode(authority);
    for webhook in object.data["webhooks"].as_array_mut().into_iter().flatten() {
        let client = &webhook["clientConfig"];
        let path = match (client["service"]["path"].as_str(), client["url"].as_str()) {
            (Some(path), _) => path.to_owned(),
            (None, Some(url)) => url.parse::<http::Uri>().map_or_else(|_| "/".to_owned(), |url| url.path().to_owned()),
            (None, None) => "/".to_owned(),
        };
        webhook["clientConfig"] = json!({ "url": format!("https://127.0.0.1:{port}{path}"), "caBundle": bundle });
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# nothing here
---
kind: Namespace
apiVersion: v1
metadata: { name: system }
---
apiVersion: v1
kind: List
items:
  - { apiVersion: apps/v1, kind: Deployment, metadata: { name: operator } }
  - { apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: { name: a.b } }
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: { name: v }
webhooks:
  - name: one
    clientConfig: { service: { name: operator, namespace: system, path: /validate-one } }
  - name: two
    clientConfig: { url: 'https://elsewhere:9443/two' }
";

    fn manifests() -> Manifests {
        let mut manifests = Manifests::default();
        manifests.add("test", TEXT).unwrap();
        manifests
    }

    fn names(objects: &[DynamicObject]) -> Vec<String> {
        objects.iter().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn manifests_are_sorted_and_what_runs_the_operator_is_left_out() {
        let manifests = manifests();
        assert_eq!(names(&manifests.crds), ["a.b"]);
        assert_eq!(names(&manifests.objects), ["system"]);
        assert_eq!(names(&manifests.webhooks), ["v"]);
    }

    #[test]
    fn webhooks_are_served_on_loopback_under_their_paths() {
        let object = at_loopback(manifests().webhooks.remove(0), 9443, "ca");
        let clients: Vec<&Value> =
            object.data["webhooks"].as_array().unwrap().iter().map(|webhook| &webhook["clientConfig"]).collect();
        assert_eq!(
            clients,
            [
                &json!({ "url": "https://127.0.0.1:9443/validate-one", "caBundle": "Y2E=" }),
                &json!({ "url": "https://127.0.0.1:9443/two", "caBundle": "Y2E=" }),
            ]
        );
    }

    #[test]
    fn a_directory_gives_what_is_in_it_and_never_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        std::fs::create_dir(directory.path().join("below")).unwrap();
        write("below/a.yaml", "{kind: Role, apiVersion: v1, metadata: {name: below}}");
        write("README.md", "text");
        let error = Manifests::default().read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("holds no manifest") && error.contains(".yml"), "{error}");
        write("a.yaml", "{kind: Role, apiVersion: v1, metadata: {name: a}}");
        write("b.yml", "{kind: Role, apiVersion: v1, metadata: {name: b}}");
        write("c.json", "{\n\t\"kind\": \"Role\",\n\t\"apiVersion\": \"v1\",\n\t\"metadata\": {\"name\": \"c\"}\n}\n");
        let mut manifests = Manifests::default();
        manifests.read(directory.path()).unwrap();
        assert_eq!(names(&manifests.objects), ["a", "b", "c"]);
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_its_origin() {
        let error = Manifests::default().add("deploy.yaml", "just: words").unwrap_err();
        assert_eq!(error.to_string(), "deploy.yaml holds an object without kind or name");
    }
}
