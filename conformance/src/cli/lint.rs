//! `conformance lint`.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use super::options::{coloured, terminal_width};
use super::selection::Selection;
use crate::exit::Exit;
use crate::scenario::diagnostic::render;

/// Check scenario files without running anything.
///
/// Without names, requirements.yaml is checked as well: every requirement has a scenario, every scenario covers
/// requirements, and a known defect makes a scenario of each core requirement fail.
#[derive(Clone, Debug, Args)]
pub struct Lint {
    #[command(flatten)]
    selection: Selection,
    /// Implementation files that are checked as well: what they declare must be something that there is
    #[arg(long, value_name = "FILE")]
    implementation: Vec<PathBuf>,
    /// One line for each mistake, in the form in which compilers write them
    #[arg(long)]
    short: bool,
}

impl Lint {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let selection = self.selection.open().await?;
        let entries = selection.entries()?;
        let checked = entries.len();
        let mut problems = selection.catalogue_problems(&entries)?;
        for path in &self.implementation {
            problems.extend(selection.declared_problems(path)?);
        }
        problems.extend(entries.into_iter().filter_map(|entry| entry.scenario.err()).flatten());
        if problems.is_empty() {
            anstream::println!("{checked} scenarios, no mistakes");
            return Ok(Exit::Ok);
        }
        if self.short {
            for problem in &problems {
                anstream::println!("{}", problem.line());
            }
            return Ok(Exit::Usage);
        }
        Err(CliError::rendered(Exit::Usage, render(&problems, terminal_width(), coloured())))
    }
}
