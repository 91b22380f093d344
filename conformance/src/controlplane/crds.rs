//! `CustomResourceDefinition`s, from files.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::conditions::{is_crd_established, is_deleted};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};
use sha2::{Digest as _, Sha256};

/// How long the API server may take from accepting a CRD to serving it. Percona's largest takes about two seconds.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// How long the objects of a deleted CRD may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// CRDs as YAML text, never parsed by us: the real ones of Percona are 3.7 MB, and the API server reads YAML itself.
#[derive(Clone, Debug, Default)]
pub struct CustomResources {
    /// Where each document is from, and its text.
    documents: Vec<(String, String)>,
}

impl CustomResources {
    /// Adds every document of a YAML text. `origin` is what messages call it.
    #[must_use]
    pub fn text(mut self, origin: &str, text: &str) -> Self {
        let mut document = String::new();
        for line in text.lines().chain(["---"]) {
            if line.trim_end() != "---" {
                document.push_str(line);
                document.push('\n');
                continue;
            }
            let complete = std::mem::take(&mut document);
            if complete.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')) {
                self.documents.push((origin.to_owned(), complete));
            }
        }
        self
    }

    /// Adds a YAML file, or every `*.yaml` file of a directory, in the order of their names.
    pub fn path(mut self, path: &Path) -> io::Result<Self> {
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            files = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
            files.sort();
        }
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            self = self.text(&file.display().to_string(), &text);
        }
        Ok(self)
    }

    /// Changes whenever the text of one of them does.
    pub(super) fn digest(&self, digest: &mut Sha256) {
        for (_, document) in &self.documents {
            digest.update((document.len() as u64).to_le_bytes());
            digest.update(document);
        }
    }

    /// Creates those that are not there, in order, and waits until all are served.
    ///
    /// # Errors
    /// One of them is refused, or is not established in time.
    pub async fn install(&self, client: &Client) -> anyhow::Result<()> {
        let mut names = Vec::new();
        for (origin, document) in &self.documents {
            let request = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
                .header(http::header::CONTENT_TYPE, "application/yaml")
                .body(document.clone().into_bytes())?;
            names.push(match client.request::<CustomResourceDefinition>(request).await {
                Ok(created) => created.name_any(),
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    status.details.map(|details| details.name).unwrap_or_default()
                }
                Err(error) => return Err(error).with_context(|| format!("installing a CRD of {origin}")),
            });
        }
        wait_until_established(client, &names).await
    }

    /// Applies all of them server-side, also over others' changes, and waits until they are served.
    ///
    /// # Errors
    /// One of them is refused, or is not established in time.
    pub async fn apply(&self, client: &Client) -> anyhow::Result<()> {
        let mut names = Vec::new();
        for (origin, document) in &self.documents {
            let what = || format!("applying a CRD of {origin}");
            let name = name(document).with_context(what)?;
            let uri = format!(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=dittofs-conformance&force=true"
            );
            let request = http::Request::patch(uri)
                .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
                .body(document.clone().into_bytes())?;
            client.request::<CustomResourceDefinition>(request).await.with_context(what)?;
            names.push(name);
        }
        wait_until_established(client, &names).await
    }
}

/// The name of the object in a YAML document.
fn name(document: &str) -> anyhow::Result<String> {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        name: String,
    }
    Ok(serde_yaml::from_str::<Object>(document)?.metadata.name)
}

/// Deletes the CRDs of `group` with all their objects, and waits until they are gone.
///
/// # Errors
/// The objects of one of them are not gone in time: somebody's finalizer holds them.
pub async fn remove(client: &Client, group: &str) -> anyhow::Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds.list_metadata(&ListParams::default()).await?.items {
        let name = crd.name_any();
        if name.split_once('.').is_none_or(|(_, of)| of != group) {
            continue;
        }
        crds.delete(&name, &DeleteParams::default()).await?;
        let uid = crd.uid().unwrap_or_default();
        let gone = await_condition(crds.clone(), &name, is_deleted(&uid));
        match tokio::time::timeout(GONE_WITHIN, gone).await {
            Ok(outcome) => drop(outcome.with_context(|| format!("watching CRD {name}"))?),
            Err(_) => bail!(
                "CRD {name} is not gone after {} s: its objects have finalizers that nobody removes",
                GONE_WITHIN.as_secs()
            ),
        }
    }
    Ok(())
}

/// Waits until the API server serves these CRDs.
pub async fn wait_until_established(client: &Client, names: &[String]) -> anyhow::Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in names {
        let established = await_condition(crds.clone(), name, is_crd_established());
        match tokio::time::timeout(ESTABLISHED_WITHIN, established).await {
            Ok(outcome) => drop(outcome.with_context(|| format!("watching CRD {name}"))?),
            Err(_) => bail!("CRD {name} is not established after {} s", ESTABLISHED_WITHIN.as_secs()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_and_empty_ones_dropped() {
        let crds = CustomResources::default().text("a.yaml", "# comment\n---\nkind: A\n---\nkind: B\n---\n");
        let texts: Vec<&str> = crds.documents.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["kind: A\n", "kind: B\n"]);
    }

    #[test]
    fn the_name_is_that_of_the_object() {
        let document = "metadata:\n  name: clusters.example.com\nspec:\n  names: { plural: x }\n";
        assert_eq!(name(document).unwrap(), "clusters.example.com");
    }

    #[test]
    fn only_yaml_files_of_a_directory_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yaml", "README.md"] {
            std::fs::write(directory.path().join(name), format!("name: {name}")).unwrap();
        }
        let crds = CustomResources::default().path(directory.path()).unwrap();
        let texts: Vec<&str> = crds.documents.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["name: a.yaml\n", "name: b.yaml\n"]);
    }
}
