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

use crate::cli::{EnvironmentOptions, report_directory, sources};
use crate::engine::evidence::render;
use crate::engine::{Job, Missing, Outcome, Settings, Verdict, run};
use crate::environment::Capabilities;
use crate::report::Files;
use crate::scenario::{self, Entry, Filter, Scenario, load};
use crate::supervisor::{Plan, connect_or_start};
use crate::tools::Display;

/// How long the environment stays after the last test, for the next run.
const IDLE: Duration = Duration::from_mins(2);

/// Scales every deadline; the command line has `--timeout-multiplier` for it.
const MULTIPLIER: &str = "CONFORMANCE_TIMEOUT_MULTIPLIER";

/// Lists or runs the scenarios, as the arguments say. `program` is the `conformance` binary.
pub fn main(program: PathBuf) -> ExitCode {
    let arguments = Arguments::from_args();
    let directory = sources().unwrap_or_default().join("scenarios");
    let entries = match load(&directory, &Filter::default()) {
        Ok(entries) => entries,
        Err(error) => {
            eprintln!("error: {error}");
            return crate::exit::Exit::Usage.into();
        }
    };
    let plan = EnvironmentOptions::from_environment().and_then(|options| options.plan());
    let plan = match plan {
        Ok(plan) => plan.run_by(program),
        Err(error) => {
            eprintln!("{error}");
            return error.exit().into();
        }
    };
    let capabilities = plan.foreseen();
    let trials = entries.into_iter().map(|entry| trial(entry, &plan, &capabilities, arguments.list)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(entry: Entry, plan: &Plan, capabilities: &Capabilities, listing: bool) -> Trial {
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
        eprintln!("{name} is ignored: {reason}");
    }
    let ignored = reason.is_some();
    let plan = plan.clone();
    Trial::test(name, move || test(&scenario, entry.path, plan)).with_ignored_flag(ignored)
}

fn test(scenario: &Arc<Scenario>, file: PathBuf, plan: Plan) -> Result<(), Failed> {
    // Whoever may have installed a provider before us has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async {
        let environment = connect_or_start(plan, IDLE, &Display::stderr(), &CancellationToken::new()).await?;
        let job = Job { scenario: scenario.clone(), file, repetition: 1, aside: false };
        let multiplier = std::env::var(MULTIPLIER).ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
        let settings = Settings {
            run: format!("{:08x}", rand::random::<u32>()),
            timeout_multiplier: multiplier,
            keep_failed: false,
            permissions: Arc::default(),
            missing: Missing::default(),
            interrupted: CancellationToken::new(),
            pause: None,
        };
        anyhow::Ok(run(&environment, &job, &settings).await)
    });
    runtime.shutdown_background();
    let mut outcome = outcome.map_err(|error| format!("the environment cannot be used: {error:#}"))?;
    Files::new(&report_directory())?.bundle(&mut outcome)?;
    judge(&outcome)
}

/// A skip is no pass: what was not foreseen at listing fails with its reason.
fn judge(outcome: &Outcome) -> Result<(), Failed> {
    for warning in &outcome.warnings {
        eprintln!("warning: {warning}");
    }
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let mut evidence: Vec<String> = outcome.failures.iter().map(render).collect();
    evidence.extend(outcome.written.iter().map(|bundle| format!("logs and objects: {}", bundle.display())));
    match outcome.verdict {
        Verdict::Passed => Ok(()),
        Verdict::Failed => Err(evidence.join("\n").into()),
        Verdict::Error => Err(format!("error, and no verdict: {reason}\n{}", evidence.join("\n")).into()),
        Verdict::Skipped => Err(format!("cannot run here: {reason}").into()),
        Verdict::Interrupted => Err(format!("interrupted {reason}").into()),
    }
}
