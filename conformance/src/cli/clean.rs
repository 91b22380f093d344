//! `conformance clean`.

use clap::Args;

use super::CliError;
use crate::exit::Exit;
use crate::supervisor;

/// Remove what a killed run has left behind: processes, files, shared memory. What still runs properly stays.
#[derive(Clone, Debug, Args)]
pub struct Clean {}

impl Clean {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let swept =
            supervisor::clean().await.map_err(|error| CliError::new(Exit::Environment, format!("{error:#}")))?;
        anstream::println!("{swept}");
        Ok(if swept.left.is_empty() { Exit::Ok } else { Exit::Environment })
    }
}
