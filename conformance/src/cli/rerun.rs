//! `conformance rerun`.

use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Args, Command, FromArgMatches as _};

use super::CliError;
use super::home::report_directory;
use super::run::Run;
use crate::exit::Exit;
use crate::report::{SavedReport, State};

/// Run again what failed last.
///
/// Runs the scenarios that failed, or came to no verdict, in the last run: in the same environment, with the same
/// implementation, whatever the environment variables of `conformance run` say now.
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
        let names = report.unsettled();
        if report.state == State::Running {
            let rest = match (report.scenarios.is_empty(), names.is_empty()) {
                (false, _) => "what it has told no verdict of is run, too",
                (true, false) => "of what else it has not run nothing is known: `conformance run` runs everything",
                (true, true) => return Err(unknown(&path)),
            };
            anstream::eprintln!("{} is of a run that was killed, or goes on: {rest}", path.display());
        }
        if names.is_empty() {
            anstream::println!("nothing failed in {}, and everything has a verdict", path.display());
            return Ok(Exit::Ok);
        }
        run(&names, report.arguments, self.options)?.perform().await
    }
}

fn unknown(path: &Path) -> CliError {
    let message = format!(
        "{} is of a run that was killed, or goes on, and does not say what it was to run; use `conformance run`",
        path.display()
    );
    CliError::new(Exit::Usage, message)
}

/// `conformance run` of the scenarios `names`, with the options of the last run and those of now.
fn run(names: &[String], last: Vec<String>, now: Vec<String>) -> Result<Run, CliError> {
    let filters = names.iter().flat_map(|name| ["--filter".to_owned(), format!("={name}")]);
    let words = ["run".to_owned()].into_iter().chain(filters).chain(last).chain(now);
    let matches = command().try_get_matches_from(words).and_then(|matches| Run::from_arg_matches(&matches));
    matches.map_err(|error| CliError::rendered(Exit::Usage, error.to_string().trim_end().to_owned()))
}

/// Without environment variables: a run has written down what it was told by them. Whether a cluster is used again is
/// nothing that it was told about what it judges.
fn command() -> Command {
    let command = Run::augment_args(Command::new("run")).args_override_self(true);
    command.mut_args(|argument| if argument.get_id() == "reuse" { argument } else { argument.env(Resettable::Reset) })
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

    #[test]
    fn what_a_run_was_told_is_told_again() {
        let told = "--scenarios mine --env kind --implementation my.yaml --percona-crds crds --s3 minio \
                    --operator-log debug --kubernetes 1.34 --assets a --etcd b --kube-apiserver c \
                    --kube-controller-manager d --postgresql e --postgresql-client f --pgbackrest g --minio h --kind i \
                    --helm j --percona double \
                    --percona-chart chart --node-image n --minio-image m --image-archive 1.tar --image-archive 2.tar \
                    --images k --kind-config l --offline --repeat 10 --timeout-multiplier 2";
        let told: Vec<String> = told.split_whitespace().map(str::to_owned).collect();
        let again = run(&["gate/a".to_owned()], told.clone(), Vec::new()).unwrap();
        assert_eq!(again.arguments(), told);
        assert!(run(&["gate/a".to_owned()], Vec::new(), Vec::new()).unwrap().arguments().is_empty());
    }

    #[test]
    fn no_variable_sends_a_run_elsewhere() {
        let command = command();
        let told: Vec<_> = command.get_arguments().filter(|argument| argument.get_env().is_some()).collect();
        assert_eq!(told.iter().map(|argument| argument.get_id().as_str()).collect::<Vec<_>>(), ["reuse"]);
    }

    fn run_error(names: &[String], now: Vec<String>) -> String {
        run(names, Vec::new(), now).unwrap_err().to_string()
    }
}
