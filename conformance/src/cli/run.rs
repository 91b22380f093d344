//! `conformance run`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::home::report_directory;
use super::options::EnvironmentOptions;
use super::selection::Selection;
use super::signals;
use super::{CliError, pause};
use crate::engine::schedule::{Order, Pace, Progress, plan, run};
use crate::engine::{Job, Missing, Outcome, Settings, Verdict};
use crate::environment::Environment;
use crate::exit::Exit;
use crate::inert::inert;
use crate::report::{AllowedSkips, Console, Files, RunReport, State, exit};
use crate::say::say;
use crate::tools::Display;

/// Run scenarios.
///
/// Brings the environment up, runs the scenarios beside each other, prints one line for each, and takes the
/// environment down. Reports are complete after each result: report.json and junit.xml.
#[derive(Clone, Debug, Args)]
pub struct Run {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    options: RunOptions,
    #[command(flatten)]
    environment: EnvironmentOptions,
}

/// How scenarios are run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Running")]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line are independent of each other")]
struct RunOptions {
    /// Scenarios at a time on the shared control plane; with 1, one after the other
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Begin nothing new after the first failure
    #[arg(long)]
    fail_fast: bool,
    /// Run the scenarios in a random order
    #[arg(long)]
    shuffle: bool,
    /// The seed of the random order, to see the same one again
    #[arg(long, value_name = "N", requires = "shuffle")]
    seed: Option<u64>,
    /// Run each scenario so often
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Leave the namespaces of failed scenarios, and the environment, until Ctrl-C
    #[arg(long)]
    keep_failed: bool,
    /// When a scenario fails, say how to look at what is there, and wait for Enter
    #[arg(long)]
    pause_on_failure: bool,
    /// Also tell failures in this form; `github` by default where `GITHUB_ACTIONS` is true
    #[arg(long, value_enum, value_name = "FORM")]
    annotations: Option<Annotations>,
    /// Scale every deadline, for a slow machine
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = timeout_multiplier)]
    timeout_multiplier: f64,
    /// Where the reports go
    #[arg(long, value_name = "DIR")]
    report_dir: Option<PathBuf>,
    /// Fail when a scenario is skipped that is not in the list of allowed skips
    #[arg(long)]
    no_skips: bool,
    /// The list of allowed skips: `- {scenario: NAME, reason: WHY}`
    #[arg(long, value_name = "FILE", requires = "no_skips")]
    allowed_skips: Option<PathBuf>,
}

/// A form in which failures are told once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Annotations {
    /// GitHub shows them beside the lines of the scenarios
    Github,
    /// None
    None,
}

/// What `--timeout-multiplier` may be.
pub fn timeout_multiplier(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.1..=100.0).contains(&value) => Ok(value),
        _ => Err("expected a number between 0.1 and 100".to_owned()),
    }
}

impl Run {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let selected = self.selection.clone().open().await?;
        let scenarios = selected.scenarios()?;
        self.environment.check(&selected)?;
        let allowed = match (&self.options.allowed_skips, self.options.no_skips) {
            (Some(path), _) => Some(AllowedSkips::read(path)?),
            (None, true) => Some(AllowedSkips::default()),
            (None, false) => None,
        };
        let files = Files::new(&self.options.report_dir.clone().unwrap_or_else(report_directory))?;
        let _held = files.hold()?;
        let seed = self.options.shuffle.then(|| self.options.seed.unwrap_or_else(rand::random));
        let jobs = plan(&scenarios, &Order { repeat: self.options.repeat, shuffle: seed });
        let run = format!("{:08x}", rand::random::<u32>());
        let mut run = RunReport::new(run, self.environment.foreseen(), self.arguments(), &jobs);
        run.seed = seed;
        // What an earlier run has left never passes for the report of this one, however early this one is killed.
        files.write(&run)?;
        let files = files.without_bundles()?;
        let interrupted = signals::watch()?;

        let display = Display::stderr();
        let environment = match self.environment.start(&display, &interrupted).await {
            Err(_) if interrupted.is_cancelled() => {
                let outcomes =
                    jobs.iter().map(|job| Outcome::not_begun(job, "the run was interrupted before it began"));
                return ended(Ok(Exit::Interrupted), unstarted(run, outcomes, State::Interrupted, &files));
            }
            Err(error) => {
                let why = error.message().to_owned();
                let outcome = |job| Outcome { verdict: Verdict::Error, ..Outcome::not_begun(job, &why) };
                return ended(Err(error), unstarted(run, jobs.iter().map(outcome), State::Complete, &files));
            }
            Ok(environment) => environment,
        };
        run.begin(&*environment);
        let settings = Settings {
            run: run.run.clone(),
            pause: self.options.pause_on_failure.then(pause::listen),
            timeout_multiplier: self.options.timeout_multiplier,
            keep_failed: self.options.keep_failed,
            permissions: Arc::default(),
            missing: Missing::default(),
            interrupted: interrupted.clone(),
        };
        let pace = Pace {
            parallel: usize::from(self.options.parallel),
            fail_fast: self.options.fail_fast,
            partial: !selected.is_everything(),
        };
        let judged = self.judge(environment.clone(), jobs, run, &files, &settings, pace).await;
        if let (Ok(run), true) = (&judged, self.options.keep_failed)
            && run.counts.failed + run.counts.error > 0
            && !interrupted.is_cancelled()
        {
            say("the environment is kept until Ctrl-C");
            interrupted.cancelled().await;
        }
        // The environment ends also when the report could not be written, and before anything is said that may be lost.
        let closed = environment.close().await;
        ended(judged.map(|run| verdict(&run, allowed.as_ref())), closed)
    }

    /// The options that choose what is judged, where, and how often; the scenarios are named beside them.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = [self.selection.arguments(), self.environment.arguments()].concat();
        if self.options.repeat > 1 {
            arguments.extend(["--repeat".to_owned(), self.options.repeat.to_string()]);
        }
        let multiplier = self.options.timeout_multiplier;
        if multiplier.to_bits() != 1f64.to_bits() {
            arguments.extend(["--timeout-multiplier".to_owned(), multiplier.to_string()]);
        }
        arguments
    }

    /// Whether failures are told to GitHub.
    fn annotates(&self) -> bool {
        let on_github = || std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true");
        self.options.annotations.map_or_else(on_github, |form| form == Annotations::Github)
    }

    async fn judge(
        &self,
        environment: Arc<dyn Environment>,
        jobs: Vec<Job>,
        mut report: RunReport,
        files: &Files,
        settings: &Settings,
        pace: Pace,
    ) -> Result<RunReport, CliError> {
        let begin = Instant::now();
        let mut console = Console::stdout();
        console.begin(&report, usize::from(self.options.parallel));
        files.write(&report)?;
        let mut unwritten = None;
        let annotates = self.annotates();
        run(environment, jobs, pace, settings, |progress| match progress {
            Progress::Began(job) => tracing::info!(scenario = job.scenario.name, "began"),
            Progress::Ended(mut outcome) => {
                if let Err(error) = files.bundle(&mut outcome) {
                    unwritten.get_or_insert(error);
                }
                console.ended(&outcome);
                if annotates {
                    console.annotate(&outcome);
                }
                report.add(*outcome);
                if let Err(error) = files.write(&report) {
                    // A full disk must not end the scenarios that run: they clean up after themselves.
                    unwritten.get_or_insert(error);
                }
            }
        })
        .await;
        report.state = if settings.interrupted.is_cancelled() { State::Interrupted } else { State::Complete };
        files.write(&report)?;
        console.summary(&report, begin.elapsed().as_secs_f64());
        console.line(&format!("reports: {}, {}", files.json().display(), files.junit().display()));
        match unwritten {
            Some(error) => Err(error.into()),
            None => Ok(report),
        }
    }
}

/// Reports that no scenario could begin.
fn unstarted(
    mut run: RunReport,
    outcomes: impl Iterator<Item = Outcome>,
    state: State,
    files: &Files,
) -> Result<(), CliError> {
    outcomes.for_each(|outcome| run.add(outcome));
    run.state = state;
    Ok(files.write(&run)?)
}

/// How the program ends after what is left to do: its environment ends, or a report is written. What of that does not go well
/// hides nothing that is worse.
pub(super) fn ended(
    verdict: Result<Exit, CliError>,
    closed: Result<(), impl Into<CliError>>,
) -> Result<Exit, CliError> {
    match (verdict, closed.map_err(Into::<CliError>::into)) {
        (Ok(Exit::Ok), Err(error)) => Err(error),
        (verdict, Err(error)) => {
            say(&error.to_string());
            verdict
        }
        (verdict, Ok(())) => verdict,
    }
}

/// How the program ends, with a word about each skip that was not expected.
fn verdict(run: &RunReport, allowed: Option<&AllowedSkips>) -> Exit {
    let exit = exit(&run.counts, run.state == State::Interrupted);
    let problems = allowed.map(|allowed| allowed.problems(&run.outcomes)).unwrap_or_default();
    for problem in &problems {
        say(&format!("--no-skips: {}", inert(problem)));
    }
    if exit == Exit::Ok && !problems.is_empty() { Exit::Skipped } else { exit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::EnvironmentError;

    #[test]
    fn an_environment_that_does_not_end_well_hides_no_verdict() {
        let broken = || Err(EnvironmentError::Broken("it did not end".to_owned()));
        let exit =
            |verdict, closed: Result<(), EnvironmentError>| ended(verdict, closed).unwrap_or_else(|error| error.exit());
        assert_eq!(exit(Ok(Exit::Failed), broken()), Exit::Failed);
        assert_eq!(exit(Ok(Exit::Skipped), broken()), Exit::Skipped);
        assert_eq!(exit(Ok(Exit::Ok), broken()), Exit::Environment);
        assert_eq!(exit(Err(CliError::new(Exit::Report, "no space")), broken()), Exit::Report);
        assert_eq!(exit(Ok(Exit::Failed), Ok(())), Exit::Failed);
    }

    #[test]
    fn a_report_that_cannot_be_written_hides_no_reason() {
        let unwritten = || Err::<(), _>(CliError::new(Exit::Report, "no space"));
        let why = CliError::new(Exit::MissingTool, "no etcd");
        let told = ended(Err(why), unwritten()).unwrap_err();
        assert_eq!((told.exit(), told.message()), (Exit::MissingTool, "no etcd"));
        assert_eq!(ended(Ok(Exit::Interrupted), unwritten()).unwrap(), Exit::Interrupted);
    }
}
