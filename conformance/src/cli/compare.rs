//! `conformance compare`.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use super::selection::Selection;
use crate::exit::Exit;
use crate::report::{SavedReport, comparison};

/// Put reports side by side.
///
/// Prints a Markdown table: how each scenario ended in each report, `not tried` where a report does not have it, and the
/// reasons of what did not pass. Where an implementation declares to differ, `passed` says so, with the differences. A
/// report of scenarios that are gone, or that cover something else by now, is marked.
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// The reports: report.json of runs
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    /// The directory of the scenarios
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
}

impl Compare {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let reports: Result<Vec<_>, _> = self.reports.iter().map(|path| SavedReport::read(path)).collect();
        let reports = reports.map_err(|error| CliError::new(Exit::Usage, error))?;
        let scenarios = Selection::all(self.scenarios).open().await?.entries()?;
        anstream::print!("{}", comparison(&scenarios, &reports));
        Ok(Exit::Ok)
    }
}
