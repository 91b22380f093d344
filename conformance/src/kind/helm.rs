//! Helm, by its command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::private;
use crate::process::{Launch, Spawner};
use crate::tools::Tool;

/// How long a command may take: the slowest downloads a chart.
const WITHIN: Duration = Duration::from_mins(3);

/// What Helm needs of our environment: the network, and where its caches are.
const INHERITED: [&str; 9] = [
    "PATH",
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

/// Where a chart is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chart {
    /// A directory, an archive, an `oci://` reference, or a name in `repository`.
    #[allow(clippy::struct_field_names, reason = "Helm's own word for it")]
    pub chart: String,
    /// The repository's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The chart's version; none: whatever is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Chart {
    /// A chart in a directory.
    pub fn directory(path: &Path) -> Self {
        Self { chart: path.display().to_string(), repository: None, version: None }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![self.chart.clone()];
        let options = [("--repo", &self.repository), ("--version", &self.version)];
        for (option, value) in options {
            arguments.extend(value.iter().flat_map(|value| [option.to_owned(), value.clone()]));
        }
        arguments
    }
}

/// Helm for one cluster.
#[derive(Clone, Debug)]
pub struct Helm {
    /// The program.
    pub tool: Tool,
    /// Starts it.
    pub spawner: Spawner,
    /// The cluster's kubeconfig.
    pub kubeconfig: PathBuf,
}

impl Helm {
    async fn run(&self, arguments: Vec<String>) -> anyhow::Result<String> {
        let shown = arguments.join(" ");
        let launch =
            Launch::new("helm", &self.tool.path).args(arguments).inherit(INHERITED).env("KUBECONFIG", &self.kubeconfig);
        let completed = self.spawner.complete(&launch, WITHIN).await?;
        if completed.status.success() {
            return Ok(completed.stdout);
        }
        bail!("`helm {shown}` ended with {}:\n{}", completed.status, completed.stderr.trim_end())
    }

    /// Installs a chart, or brings a release to it. Does not wait for what it applies: the caller sees more than Helm.
    pub async fn install(
        &self,
        release: &str,
        namespace: &str,
        chart: &Chart,
        values: &Value,
        crds: bool,
    ) -> anyhow::Result<()> {
        // Read by Helm as YAML. On the command line, a tag of digits would become a number.
        let file = self.spawner.run().directory().join(format!("{release}.values.json"));
        private::write(&file, values.to_string()).with_context(|| format!("writing {}", file.display()))?;
        let mut arguments = words(&["upgrade", "--install", release, "--namespace", namespace, "--create-namespace"]);
        arguments.extend(chart.arguments());
        arguments.extend(["--values".to_owned(), file.display().to_string()]);
        if !crds {
            arguments.push("--skip-crds".to_owned());
        }
        self.run(arguments).await.map(drop)
    }

    /// Whether a release is there, however its installation has ended.
    pub async fn is_installed(&self, release: &str, namespace: &str) -> anyhow::Result<bool> {
        match self.run(words(&["status", release, "--namespace", namespace])).await {
            Ok(_) => Ok(true),
            Err(error) if error.to_string().contains("not found") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a release with all that it has applied, but for its CRDs.
    pub async fn uninstall(&self, release: &str, namespace: &str) -> anyhow::Result<()> {
        let uninstall = ["uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait"];
        self.run(words(&uninstall)).await.map(drop)
    }

    /// The CRDs of a chart, as YAML.
    pub async fn crds(&self, chart: &Chart) -> anyhow::Result<String> {
        let mut arguments = words(&["show", "crds"]);
        arguments.extend(chart.arguments());
        self.run(arguments).await
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::*;
    use crate::process::Run;

    /// A file's path is in the list of processes; what is in it, such as a password, is not for everybody.
    #[tokio::test]
    async fn nobody_else_may_read_the_values_of_a_chart() {
        let directory = tempfile::tempdir().unwrap();
        let run = Arc::new(Run::create(directory.path()).unwrap());
        let tool = Tool::named("helm");
        // Helm ends with 1, whatever it is asked.
        let spawner = Spawner::new(Arc::clone(&run), Some("/bin/false".into())).unwrap();
        let helm = Helm { tool, spawner, kubeconfig: "kubeconfig".into() };
        let (chart, values) = (Chart::directory(Path::new("chart")), serde_json::json!({ "password": "x" }));
        helm.install("theirs", "system", &chart, &values, true).await.unwrap_err();
        let written = run.directory().join("theirs.values.json");
        assert_eq!(std::fs::metadata(written).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_chart_is_named_as_helm_wants_it() {
        let local = Chart::directory(Path::new("operator/chart"));
        assert_eq!(local.arguments(), ["operator/chart"]);
        let (repository, version) = (Some("https://x".to_owned()), Some("2.8.2".to_owned()));
        let remote = Chart { chart: "pg-operator".to_owned(), repository, version };
        assert_eq!(remote.arguments(), ["pg-operator", "--repo", "https://x", "--version", "2.8.2"]);
    }
}
