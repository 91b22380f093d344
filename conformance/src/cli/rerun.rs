//! `conformance rerun`.

use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches as _};

use super::CliError;
use super::home::report_directory;
use super::run::Run;
use crate::exit::Exit;
use crate::report::SavedReport;

/// Run again what failed last.
///
/// Runs the scenarios that failed, or came to no verdict, in the last run: in the same environment, with the same
/// implementation.
#[derive(Clone, Debug, Args)]
pub struct Rerun {
    /// report.json of the run; the last run's by default
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Options of `conformance run`; they win over those of that run
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Rerun {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let path = self.report.unwrap_or_else(|| report_directory().join("report.json"));
        let report = SavedReport::read(&path).map_err(|error| CliError::new(Exit::Usage, error))?;
        let names = report.failed();
        if names.is_empty() {
            anstream::println!("nothing failed in {}", path.display());
            return Ok(Exit::Ok);
        }
        run(&names, report.arguments, self.options)?.perform().await
    }
}

/// `conformance run` of the scenarios `names`, with the options of the last run and those of now.
fn run(names: &[String], last: Vec<String>, now: Vec<String>) -> Result<Run, CliError> {
    let filters = names.iter().flat_map(|name| ["--filter".to_owned(), format!("={name}")]);
    let words = ["run".to_owned()].into_iter().chain(filters).chain(last).chain(now);
    let command = Run::augment_args(Command::new("run")).args_override_self(true);
    let matches = command.try_get_matches_from(words).and_then(|matches| Run::from_arg_matches(&matches));
    matches.map_err(|error| CliError::rendered(Exit::Usage, error.to_string().trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_now_win_over_those_of_the_last_run() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let names = ["gate/a".to_owned(), "gate/b".to_owned()];
        let last = words("--implementation last.yaml --kubernetes 1.37");
        let run = run(&names, last, words("--kubernetes 1.31 --parallel 1")).unwrap();
        let said = format!("{run:?}");
        for part in [r#"filter: ["=gate/a", "=gate/b"]"#, r#"Some("last.yaml")"#, r#"Some("1.31")"#, "parallel: 1"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(run_error(&names, words("--paralel 1")).contains("--paralel"));
    }

    fn run_error(names: &[String], now: Vec<String>) -> String {
        run(names, Vec::new(), now).unwrap_err().to_string()
    }
}
