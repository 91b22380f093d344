//! `conformance report`.

use std::collections::BTreeSet;
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
    /// The directory of the scenarios; the one that the runs were told by default
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
        let scenarios = match self.scenarios {
            Some(directory) => Some(directory),
            None => scenarios_of(&runs)?,
        };
        let selection = Selection::all(scenarios).open().await?;
        let requirements = selection.known_requirements()?;
        let scenarios = selection.right("no report was written")?;
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

/// The directory of the scenarios that the runs were told, where they were told one.
fn scenarios_of(runs: &[SavedReport]) -> Result<Option<PathBuf>, CliError> {
    let wrong = |message: String| Err(CliError::new(Exit::Usage, message));
    let told = |run: &SavedReport| {
        let mut words = run.arguments.iter().skip_while(|word| *word != "--scenarios");
        words.nth(1).cloned()
    };
    let told: BTreeSet<String> = runs.iter().filter_map(told).collect();
    match told.iter().map(PathBuf::from).collect::<Vec<_>>().as_slice() {
        [] => Ok(None),
        [directory] if directory.is_dir() => Ok(Some(directory.clone())),
        [directory] => wrong(format!(
            "the scenarios of the run were those in {}, and there is no such directory here; name theirs by --scenarios",
            directory.display()
        )),
        _ => wrong(format!(
            "the runs are of scenarios in different directories: {}; name the one to judge by with --scenarios",
            Vec::from_iter(told).join(", ")
        )),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> SavedReport {
        let description = serde_json::json!({
            "environment": "embedded", "kubernetes": "v1.34.4", "percona": "double", "implementation": "bundled",
            "implementationVersion": "0.1.0",
        });
        let run = serde_json::json!({
            "run": "r1", "state": "complete", "environment": description, "arguments": arguments, "planned": 0,
            "started": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z", "outcomes": [],
        });
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn runs_are_judged_by_the_scenarios_that_they_were_told() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path().to_str().unwrap();
        assert_eq!(scenarios_of(&[run(&[])]).unwrap(), None);
        let told = scenarios_of(&[run(&["--env", "kind"]), run(&["--scenarios", there])]).unwrap();
        assert_eq!(told.as_deref(), Some(directory.path()));
        let error = scenarios_of(&[run(&["--scenarios", "/nowhere/s"])]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/s") && error.contains("--scenarios"), "{error}");
        let error = scenarios_of(&[run(&["--scenarios", "a"]), run(&["--scenarios", "b"])]).unwrap_err().to_string();
        assert!(error.contains("different directories: a, b"), "{error}");
    }
}
