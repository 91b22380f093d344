//! The scenarios as tests of `cargo test` and `cargo nextest run`: one test for each file, named `area::scenario`.
//!
//! Entry layer. Listing reads files and starts nothing. A test attaches to the kept environment that fits, or starts it
//! under a lock; nextest runs every test in a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use tokio_util::sync::CancellationToken;

use crate::cli::{CliError, EnvironmentOptions, report_directory, sources, timeout_multiplier};
use crate::engine::evidence::render;
use crate::engine::{Job, Missing, Outcome, Settings, Verdict, run};
use crate::environment::Capabilities;
use crate::exit::Exit;
use crate::inert::inert;
use crate::report::Files;
use crate::scenario::{self, Entry, Filter, Scenario, load};
use crate::supervisor::{Plan, connect_or_start};
use crate::tools::Display;

/// How long the environment stays after the last test, for the next run.
const IDLE: Duration = Duration::from_mins(2);

/// Scales every deadline; the command line has `--timeout-multiplier` for it.
const TIMEOUT_MULTIPLIER: &str = "CONFORMANCE_TIMEOUT_MULTIPLIER";

/// Lists or runs the scenarios, as the arguments say. `program` is the `conformance` binary.
pub fn main(program: PathBuf) -> ExitCode {
    let arguments = Arguments::from_args();
    let directory = sources().unwrap_or_default().join("scenarios");
    let entries = match load(&directory, &Filter::default()) {
        Ok(entries) => entries,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::Usage.into();
        }
    };
    let plan = EnvironmentOptions::from_environment().and_then(|options| options.plan());
    let (plan, multiplier) = match plan.and_then(|plan| Ok((plan.run_by(program), multiplier()?))) {
        Ok(told) => told,
        Err(error) => {
            eprintln!("{error}");
            return error.exit().into();
        }
    };
    let capabilities = plan.foreseen();
    let listing = arguments.list;
    let trials = entries.into_iter().map(|entry| trial(entry, &plan, &capabilities, multiplier, listing)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What [`TIMEOUT_MULTIPLIER`] says.
fn multiplier() -> Result<f64, CliError> {
    let Some(told) = std::env::var_os(TIMEOUT_MULTIPLIER) else { return Ok(1.0) };
    multiplier_of(&told.to_string_lossy())
}

fn multiplier_of(told: &str) -> Result<f64, CliError> {
    timeout_multiplier(told)
        .map_err(|problem| CliError::new(Exit::Usage, format!("{TIMEOUT_MULTIPLIER} is {told:?}: {problem}")))
}

fn trial(entry: Entry, plan: &Plan, capabilities: &Capabilities, multiplier: f64, listing: bool) -> Trial {
    let name = entry.name.replace('/', "::");
    let scenario = match entry.scenario {
        Ok(scenario) => Arc::new(scenario),
        Err(problems) => {
            let text = scenario::diagnostic::render(&problems, 100, false);
            return Trial::test(name, move || Err(Failed::from(text)));
        }
    };
    let whole = scenario.about_the_run().then_some("it is about a whole run, which `conformance run` makes");
    let reason = capabilities.lacking(&scenario.needs).or_else(|| capabilities.declines(&scenario.covers)).or(whole);
    if let (Some(reason), true) = (reason, listing) {
        // The format of the list has no place for a reason, and standard output belongs to it.
        eprintln!("{name} is ignored: {}", inert(reason));
    }
    let ignored = reason.is_some();
    let plan = plan.clone();
    Trial::test(name, move || test(&scenario, entry.path, plan, multiplier)).with_ignored_flag(ignored)
}

fn test(scenario: &Arc<Scenario>, file: PathBuf, plan: Plan, timeout_multiplier: f64) -> Result<(), Failed> {
    // Whoever may have installed a provider before us has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async {
        let environment = connect_or_start(plan, IDLE, &Display::stderr(), &CancellationToken::new()).await?;
        let job = Job { scenario: scenario.clone(), file, repetition: 1, aside: false };
        let settings = Settings {
            run: format!("{:08x}", rand::random::<u32>()),
            timeout_multiplier,
            keep_failed: false,
            permissions: Arc::default(),
            missing: Missing::default(),
            interrupted: CancellationToken::new(),
            pause: None,
        };
        anyhow::Ok(run(&environment, &job, &settings).await)
    });
    runtime.shutdown_background();
    let mut outcome = outcome.map_err(|error| inert(&format!("the environment cannot be used: {error:#}")))?;
    Files::new(&report_directory())?.bundle(&mut outcome)?;
    judge(&outcome)
}

/// A skip is no pass: what was not foreseen at listing fails with its reason.
fn judge(outcome: &Outcome) -> Result<(), Failed> {
    for warning in &outcome.warnings {
        eprintln!("warning: {}", inert(warning));
    }
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let mut evidence: Vec<String> = outcome.failures.iter().map(render).collect();
    evidence.extend(outcome.written.iter().map(|bundle| format!("logs and objects: {}", bundle.display())));
    let evidence = evidence.join("\n");
    let why = match outcome.verdict {
        Verdict::Passed => return Ok(()),
        Verdict::Failed => evidence,
        Verdict::Error => format!("error, and no verdict: {reason}\n{evidence}"),
        Verdict::Skipped => format!("cannot run here: {reason}"),
        Verdict::Interrupted => format!("interrupted {reason}"),
    };
    // nextest prints it, on GitHub too.
    Err(inert(&why).into())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("3", Some(3.0))]
    #[case("0.5", Some(0.5))]
    #[case("abc", None)]
    #[case("-1", None)]
    #[case("NaN", None)]
    #[case("", None)]
    fn the_multiplier_is_what_the_command_line_takes(#[case] told: &str, #[case] expected: Option<f64>) {
        match (multiplier_of(told), expected) {
            (Ok(multiplier), Some(expected)) => assert_eq!(multiplier.to_bits(), expected.to_bits()),
            (Err(error), None) => {
                let message = format!("{TIMEOUT_MULTIPLIER} is {told:?}: expected a number between 0.1 and 100");
                assert_eq!((error.message(), error.exit()), (message.as_str(), Exit::Usage));
            }
            (found, _) => panic!("{found:?}"),
        }
    }
}
