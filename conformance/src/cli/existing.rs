//! Options of an existing cluster.

use std::path::{Path, PathBuf};

use clap::Args;

use super::options::ToolOptions;
use crate::existing::{Install, Options};

/// For `--env existing`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "existing")]
pub struct ExistingOptions {
    /// The kubeconfig; KUBECONFIG or ~/.kube/config by default. `env shell` takes it too
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in it; the current one by default
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Allow changes outside of the scenarios' namespaces: what `--install-operator` does
    #[arg(long)]
    allow_cluster_changes: bool,
    /// Install the operator by its chart, and remove it at the end
    #[arg(long, requires_all = ["allow_cluster_changes", "operator_image"])]
    install_operator: bool,
    /// The image of the operator that is installed
    #[arg(long, value_name = "REPOSITORY:TAG")]
    operator_image: Option<String>,
}

impl ExistingOptions {
    /// As the environment wants them.
    pub fn options(&self, implementation: PathBuf, log_level: &str, tools: &ToolOptions) -> Options {
        let image = self.operator_image.clone().filter(|_| self.install_operator && self.allow_cluster_changes);
        let install = image.map(|image| Install { image, log_level: log_level.to_owned(), tools: tools.options() });
        Options { kubeconfig: self.kubeconfig.clone(), context: self.context.clone(), implementation, install }
    }

    /// The kubeconfig that was named.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// The options that say which cluster and which operator are meant.
    pub fn arguments(&self) -> Vec<String> {
        let kubeconfig = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        let image = self.operator_image.clone();
        let named = [("--kubeconfig", kubeconfig), ("--context", self.context.clone()), ("--operator-image", image)];
        let named = named.into_iter().filter_map(|(option, value)| Some([option.to_owned(), value?]));
        let mut arguments: Vec<String> = named.flatten().collect();
        if self.install_operator {
            arguments.extend(["--allow-cluster-changes", "--install-operator"].map(str::to_owned));
        }
        arguments
    }
}
