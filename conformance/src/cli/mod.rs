//! The command line: each verb a file, nothing but reading arguments, starting what is asked for and telling how it went.
//!
//! Entry layer.

mod bench;
mod clean;
mod compare;
mod env;
mod error;
mod existing;
mod help;
mod home;
mod images;
mod kind;
mod lint;
mod list;
mod log;
mod options;
mod pause;
mod report;
mod rerun;
mod run;
mod schema;
mod selection;
mod signals;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use include_dir::Dir;

use crate::exit::Exit;
use crate::say::say;

pub use error::CliError;
pub use home::{report_directory, sources};
pub use options::EnvironmentOptions;
pub use run::timeout_multiplier;

/// Judges operators for `DittoServer`s on the Percona Operator for PostgreSQL.
///
/// Brings up a Kubernetes control plane, PostgreSQL and object storage on this machine, starts the operator under test
/// against them, and runs the scenarios. Without Docker and without root.
#[derive(Debug, Parser)]
#[command(name = "conformance", version, disable_help_subcommand = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    log: log::LogOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run scenarios
    Run(run::Run),
    /// Run again what failed last
    Rerun(rerun::Rerun),
    /// List the scenarios and what they claim
    List(list::List),
    /// Check scenario files without running anything
    Lint(lint::Lint),
    /// Print a JSON schema
    Schema(schema::Schema),
    /// Keep an environment between runs
    #[command(subcommand)]
    Env(env::Env),
    /// Remove what a killed run has left behind
    Clean(clean::Clean),
    /// Write the report that an implementation's maintainers publish
    Report(report::Report),
    /// Put reports side by side
    Compare(compare::Compare),
    /// Measure the embedded environment
    Bench(bench::Bench),
    /// Explain a command, or the exit codes
    Help(help::Help),
}

/// Runs the program, which carries `scenarios`.
pub fn main(scenarios: &'static Dir<'static>) -> ExitCode {
    home::carry(scenarios);
    // clap ends the process itself for `--help` (0) and for a wrong command line (2, our `Usage`).
    let cli = Cli::parse();
    log::init(&cli.log);
    // Whoever may have installed a provider before us has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            return tell(&CliError::new(Exit::Environment, format!("the runtime cannot be started: {error}")));
        }
    };
    let outcome = runtime.block_on(perform(cli.verb));
    // What still runs in the background has nothing to say any more.
    runtime.shutdown_background();
    outcome.map_or_else(|error| tell(&error), ExitCode::from)
}

async fn perform(verb: Verb) -> Result<Exit, CliError> {
    match verb {
        Verb::Run(run) => run.perform().await,
        Verb::Rerun(rerun) => rerun.perform().await,
        Verb::List(list) => list.perform().await,
        Verb::Lint(lint) => lint.perform().await,
        Verb::Schema(schema) => schema.perform(),
        Verb::Env(env) => env.perform().await,
        Verb::Clean(clean) => clean.perform().await,
        Verb::Report(report) => report.perform().await,
        Verb::Compare(compare) => compare.perform().await,
        Verb::Bench(bench) => bench.perform().await,
        Verb::Help(help) => help.perform(),
    }
}

fn tell(error: &CliError) -> ExitCode {
    say(&error.to_string());
    error.exit().into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[rstest]
    #[case(&[])]
    #[case(&["run"])]
    #[case(&["list"])]
    #[case(&["lint"])]
    #[case(&["schema"])]
    #[case(&["env"])]
    #[case(&["env", "up"])]
    #[case(&["clean"])]
    #[case(&["bench"])]
    #[case(&["compare"])]
    #[case(&["report"])]
    #[case(&["rerun"])]
    fn help_is_as_it_was(#[case] path: &[&str]) {
        let mut command = Cli::command().term_width(100);
        // Where a default hangs on the machine, the text does not.
        command.build();
        let mut named = &mut command;
        for name in path {
            named = named.find_subcommand_mut(name).unwrap();
        }
        let name = if path.is_empty() { "conformance".to_owned() } else { path.join("_") };
        insta::assert_snapshot!(format!("help_{name}"), named.render_long_help().to_string());
    }
}
