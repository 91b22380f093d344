//! `conformance clean`.

use clap::Args;

use super::CliError;
use crate::exit::Exit;
use crate::supervisor;

/// Remove what a killed run has left behind: processes, files, shared memory, clusters. What still runs properly stays.
#[derive(Clone, Debug, Args)]
pub struct Clean {
    /// Also remove the clusters that `run --keep` has left
    #[arg(long)]
    kept: bool,
}

impl Clean {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let cleaned = supervisor::clean(self.kept).await;
        let cleaned = cleaned.map_err(|error| CliError::new(Exit::Environment, format!("{error:#}")))?;
        anstream::println!("{cleaned}");
        Ok(if cleaned.is_incomplete() { Exit::Environment } else { Exit::Ok })
    }
}
