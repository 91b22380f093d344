//! The implementation file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::environment::{About, Declared, Tolerated};

/// How somebody's operator is built, installed and started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Implementation {
    /// Version of this format.
    pub api_version: ApiVersion,
    /// Always `Implementation`.
    pub kind: Kind,
    /// Its name, for reports.
    pub name: String,
    /// Its version, for reports.
    pub version: String,
    /// The company, group or person that maintains it, for reports.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub organization: String,
    /// The project or repository, for reports; the name without this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// Where more about it can be read, for reports.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// How its maintainers are reached, for reports: names on GitHub (`@name`), addresses or a page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
    /// In which of its modes this file runs it, for reports; `default` without this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Where its commands run, and what relative paths are relative to. Itself relative to this file.
    #[serde(default = "here")]
    pub directory: PathBuf,
    /// Commands that build it, each a program with its arguments. They run at every start: a build tool knows best
    /// whether there is anything to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<Vec<Template>>,
    /// What is installed before it starts: CRDs, roles, webhook configurations. Whatever would run it as a pod is left
    /// out: it runs as a process.
    pub manifests: Vec<ManifestSource>,
    /// Whose permissions it has. The manifests must contain it.
    pub service_account: ServiceAccountName,
    /// How it is started.
    pub start: Start,
    /// A URL that answers 200 once it works, such as `http://127.0.0.1:${healthPort}/readyz`.
    pub ready: Template,
    /// Its webhook. Without this, webhook configurations are left out, and scenarios that need one are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// How one of several processes of it is made to lead. Without this, scenarios about that are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_election: Option<LeaderElection>,
    /// The implementation file of the release before this one, relative to this file. Both releases are built then. Without
    /// this, the scenario about upgrades is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PathBuf>,
    /// The images in its pods.
    pub images: Images,
    /// How it is installed into a cluster of real nodes, for `--env kind`. Without this, it can be judged in the embedded
    /// environment only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<InCluster>,
    /// What it does not claim to do: scenarios that cover it are skipped with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsupported: Vec<Unsupported>,
    /// Conditions of a `DittoServer` that have other names than in the scenarios: our type or reason, and theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, String>,
    /// Whether the `PerconaPGCluster` stays when its `DittoServer` is deleted.
    #[serde(default)]
    pub keeps_cluster_on_delete: bool,
    /// What Percona needs of a `PerconaPGCluster` and the operator leaves out: the suite adds it, so that one defect does
    /// not hide all others.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tolerate: BTreeSet<Tolerated>,
}

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one.
    #[serde(rename = "conformance.dittofs.com/v1alpha1")]
    V1alpha1,
}

/// Kind of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// The only one.
    Implementation,
}

/// Where Kubernetes manifests come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ManifestSource {
    /// A YAML file, or a directory of them.
    File(PathBuf),
    /// A command that prints YAML.
    Command(Vec<Template>),
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ServiceAccountName {
    /// Its name as a user of the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// How the operator is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    /// The program with its arguments. A program with a slash is relative to the directory.
    #[schemars(length(min = 1))]
    pub command: Vec<Template>,
    /// Its environment, besides `PATH`, `HOME` and `TMPDIR`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Template>,
}

/// The operator's webhook server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// The port on which it always listens; without this, a free one is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// How the operator takes part in an election by a Lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaderElection {
    /// What is added to the command of `start`.
    #[schemars(length(min = 1))]
    pub arguments: Vec<Template>,
}

/// How an operator is installed into a cluster: by a chart, into the namespace of its service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InCluster {
    /// A directory, or whatever else Helm understands.
    pub chart: String,
    /// The chart's version, where it comes from a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Name of the release.
    pub release: String,
    /// The Deployment by which the operator runs.
    pub deployment: String,
    /// Values for the chart. Texts in it may hold `${operatorRepository}` and `${operatorTag}`, the image of the operator that
    /// was built here.
    #[serde(
        default,
        deserialize_with = "super::chart_values::read",
        skip_serializing_if = "serde_json::Map::is_empty"
    )]
    pub values: serde_json::Map<String, serde_json::Value>,
    /// The images, with tags, by which the operator's pods run DittoFS: the nodes are given the suite's own workload under
    /// these names.
    pub workload: Vec<String>,
}

/// Images by the role that they play.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// The images of DittoFS itself, without tag.
    pub workload: Vec<String>,
}

/// A requirement that the implementation does not meet, and does not claim to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unsupported {
    /// What scenarios call it under `covers`; with `/*` at its end, all below.
    pub requirement: String,
    /// Why not.
    pub reason: String,
}

fn here() -> PathBuf {
    PathBuf::from(".")
}

/// An implementation file cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the implementation file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It says something wrong. The report underlines it.
    #[error("{0}")]
    Content(String),
}

impl Implementation {
    /// Reads a file. What it says of directories and files becomes absolute.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let implementation = Self::load_alone(path)?;
        implementation.load_previous()?;
        Ok(implementation)
    }

    /// The release before this one, if its file names it. What came before that is not asked.
    pub fn load_previous(&self) -> Result<Option<Self>, LoadError> {
        let previous = self.previous.as_deref().map(Self::load_alone).transpose()?;
        Ok(previous.map(|previous| Self { previous: None, ..previous }))
    }

    fn load_alone(path: &Path) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let mut implementation = Self::parse(&path.display().to_string(), &text)?;
        let parent = std::path::absolute(path).map_err(failed)?;
        let parent = parent.parent().unwrap_or(Path::new("/"));
        let directory = parent.join(&implementation.directory);
        implementation.previous = implementation.previous.map(|previous| parent.join(previous));
        implementation.directory =
            std::fs::canonicalize(&directory).map_err(|source| LoadError::Read { path: directory, source })?;
        Ok(implementation)
    }

    /// Who makes it.
    pub fn about(&self) -> About {
        About {
            organization: self.organization.clone(),
            project: self.project.clone(),
            url: self.url.clone(),
            contact: self.contact.clone(),
            mode: self.mode.clone(),
        }
    }

    /// Where it declares to differ.
    pub fn declared(&self) -> Declared {
        let unsupported = self.unsupported.iter();
        Declared {
            unsupported: unsupported.map(|entry| (entry.requirement.clone(), entry.reason.clone())).collect(),
            conditions: self.conditions.clone(),
            keeps_cluster_on_delete: self.keeps_cluster_on_delete,
            tolerate: self.tolerate.clone(),
        }
    }

    /// Reads the text of a file that messages call `name`.
    pub fn parse(name: &str, text: &str) -> Result<Self, LoadError> {
        let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
        serde_yaml::from_str_with_options(text, options).map_err(|error| {
            let report = serde_yaml::miette::to_miette_report(&error, text, name);
            let mut rendered = String::new();
            let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
            match handler.render_report(&mut rendered, report.as_ref()) {
                Ok(()) => LoadError::Content(rendered.trim_end().to_owned()),
                Err(_) => LoadError::Content(error.to_string()),
            }
        })
    }
}

/// The JSON schema of the file, for editors.
pub fn schema() -> Schema {
    schemars::schema_for!(Implementation)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Implementation
name: somebodys-operator
version: 1.2.3
manifests:
  - file: config/crd
  - command: [bin/operator, manifests]
serviceAccount: { namespace: system, name: operator }
start:
  command: [bin/operator, '--health=127.0.0.1:${healthPort}']
  env: { KUBECONFIG: '${kubeconfig}' }
ready: http://127.0.0.1:${healthPort}/readyz
webhook: { port: 9443 }
leaderElection: { arguments: [--leader-elect] }
previous: last.yaml
images: { workload: [ghcr.io/somebody/dittofs] }
unsupported:
  - { requirement: backup/*, reason: it makes no backups }
conditions: { DatabaseReady: PostgresReady }
keepsClusterOnDelete: true
tolerate: [missing-images, missing-proxy]
";

    const CHART: &str = "\
cluster:
  chart: chart
  release: release
  deployment: deployment
  workload: [example.com/dittofs:1]
  values:
    image:
      tag: v${nope}
keepsClusterOnDelete";

    #[test]
    fn a_good_file_is_read_back_as_it_was_written() {
        let read = Implementation::parse("good.yaml", GOOD).unwrap();
        assert_eq!(read.webhook, Some(Webhook { port: Some(9443) }));
        let written = serde_yaml::to_string(&read).unwrap();
        assert_eq!(Implementation::parse("again.yaml", &written).unwrap(), read);
    }

    #[rstest::rstest]
    #[case::unknown_field("webhook: { port: 9443 }", "webhok: { port: 9443 }")]
    #[case::wrong_type("port: 9443", "port: high")]
    #[case::unknown_placeholder("${healthPort}/readyz", "${helthPort}/readyz")]
    #[case::missing_field("version: 1.2.3\n", "")]
    #[case::duplicate_key("version: 1.2.3\n", "version: 1.2.3\nversion: 1.2.4\n")]
    #[case::unknown_tolerance("missing-proxy", "missing-proxies")]
    #[case::unknown_source("- file: config/crd", "- url: https://example.com")]
    #[case::unknown_placeholder_of_a_chart("keepsClusterOnDelete", CHART)]
    fn a_bad_file_is_refused_with_its_place(#[case] good: &str, #[case] bad: &str) {
        assert!(GOOD.contains(good));
        let error = Implementation::parse("bad.yaml", &GOOD.replace(good, bad)).unwrap_err();
        let name = std::thread::current().name().unwrap().rsplit("::").next().unwrap().to_owned();
        insta::assert_snapshot!(name, error);
    }

    #[test]
    fn the_previous_release_is_found_beside_the_file_and_asked_for_none_before() {
        let directory = tempfile::tempdir().unwrap();
        let (this, last) = (directory.path().join("this.yaml"), directory.path().join("last.yaml"));
        std::fs::write(&this, GOOD).unwrap();
        let error = Implementation::load(&this).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read the implementation file {}: ", last.display())), "{error}");
        // It names itself.
        std::fs::write(&last, GOOD.replace("1.2.3", "1.2.2")).unwrap();
        let previous = Implementation::load(&this).unwrap().load_previous().unwrap().unwrap();
        assert_eq!((previous.version.as_str(), previous.previous), ("1.2.2", None));
    }

    #[test]
    fn every_file_of_the_repository_is_good() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../implementations");
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let is_yaml = path.extension().is_some_and(|extension| extension == "yaml");
            // Not loaded: the directory that a file names need not be on this machine.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if is_yaml && let Err(error) = Implementation::parse(&path.display().to_string(), &text) {
                panic!("{error}");
            }
        }
    }
}
