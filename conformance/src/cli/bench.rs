//! `conformance bench`.

use clap::Args;

use super::CliError;
use super::options::EnvironmentOptions;
use crate::exit::Exit;

/// Measure how long things take, and how much memory.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    environment: EnvironmentOptions,
}

impl Bench {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let _ = self.environment;
        Ok(Exit::Ok)
    }
}
