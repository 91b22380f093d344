//! `conformance report`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::CliError;
use super::home::{report_directory, shown};
use super::selection::Selection;
use crate::exit::Exit;
use crate::report::conformance::{Catalogue, ConformanceReport, html, judge, markdown, yaml};
use crate::report::{Files, SavedReport};

/// Write the report that an implementation's maintainers publish.
///
/// From one or more runs of the same implementation it comes to a verdict on each requirement, and writes it as YAML
/// (conformance.yaml, in the shape of the Gateway API's `ConformanceReport`), as Markdown (conformance.md) and as one HTML
/// page (conformance.html).
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// report.json of runs, such as one on the embedded environment and one on kind; the last run's by default
    #[arg(value_name = "REPORT")]
    reports: Vec<PathBuf>,
    /// Where the report is written; beside the first run's by default
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The directory of the scenarios
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
}

impl Report {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let wrong = |error: &dyn std::fmt::Display| CliError::new(Exit::Usage, error);
        let mut paths = self.reports;
        if paths.is_empty() {
            paths.push(report_directory().join("report.json"));
        }
        let runs: Result<Vec<_>, _> = paths.iter().map(|path| SavedReport::read(path)).collect();
        let runs = runs.map_err(|error| wrong(&error))?;
        let selection = Selection::all(self.scenarios).open().await?;
        let requirements = selection.known_requirements()?;
        let scenarios = selection.entries()?;
        let catalogue = Catalogue { requirements: &requirements, scenarios: &scenarios };
        let report = judge(&runs, catalogue).map_err(|error| wrong(&error))?;
        let beside = || paths[0].parent().map_or_else(PathBuf::new, Path::to_owned);
        let files = write(&report, &self.output.unwrap_or_else(beside))?;
        anstream::println!("{}", report.summary);
        for reason in &report.partial {
            anstream::println!("partial: {reason}");
        }
        let files: Vec<String> = files.iter().map(|path| shown(path).display().to_string()).collect();
        anstream::println!("written: {}", files.join(", "));
        Ok(Exit::Ok)
    }
}

fn write(report: &ConformanceReport, directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let files = Files::new(directory)?;
    let texts = [("yaml", yaml(report)), ("md", markdown(report)), ("html", html(report))];
    let mut written = Vec::new();
    for (extension, text) in texts {
        let text =
            text.map_err(|error| CliError::new(Exit::Report, format!("the report cannot be written: {error}")))?;
        let path = directory.join(format!("conformance.{extension}"));
        files.replace(&path, &text)?;
        written.push(path);
    }
    Ok(written)
}
