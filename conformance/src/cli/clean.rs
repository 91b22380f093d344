//! `conformance clean`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::CliError;
use crate::engine::remove_namespaces;
use crate::exit::Exit;
use crate::supervisor::StartError;
use crate::{existing, supervisor};

/// How long the namespaces of a cluster may take to go: its pods get their grace.
const NAMESPACES_WITHIN: Duration = Duration::from_mins(5);

/// Remove what a killed run has left behind: processes, files, shared memory, clusters, images. What still runs properly stays.
#[derive(Clone, Debug, Args)]
pub struct Clean {
    /// Also remove the clusters that `run --keep` has left
    #[arg(long)]
    kept: bool,
    /// Also remove the namespaces that runs with `--env existing` have left in their cluster, and those of runs that go on
    #[arg(long)]
    namespaces: bool,
    /// The kubeconfig of that cluster; KUBECONFIG or ~/.kube/config by default
    #[arg(long, value_name = "FILE", requires = "namespaces")]
    kubeconfig: Option<PathBuf>,
    /// The context in it; the current one by default
    #[arg(long, value_name = "NAME", requires = "namespaces")]
    context: Option<String>,
}

impl Clean {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let cleaned = supervisor::clean(self.kept).await;
        let cleaned = cleaned.map_err(|error| failed(format!("{error:#}")))?;
        anstream::println!("{cleaned}");
        let emptied = !self.namespaces || self.namespaces().await?;
        Ok(if cleaned.is_incomplete() || !emptied { Exit::Environment } else { Exit::Ok })
    }

    /// Whether nothing is left of them.
    async fn namespaces(&self) -> Result<bool, CliError> {
        let connected = existing::client(self.kubeconfig.as_deref(), self.context.as_deref()).await;
        let (cluster, client) = connected.map_err(|error| {
            let error = StartError::of(&error);
            CliError::new(error.exit, error)
        })?;
        let removed = remove_namespaces(&client, NAMESPACES_WITHIN).await;
        let (removed, left) = removed.map_err(|error| failed(format!("{cluster} cannot be used: {error}")))?;
        anstream::println!("removed {} namespace(s) of {cluster}", removed.len());
        for line in removed.iter().chain(&left) {
            anstream::println!("  {line}");
        }
        Ok(left.is_empty())
    }
}

fn failed(message: String) -> CliError {
    CliError::new(Exit::Environment, message)
}
