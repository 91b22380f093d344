//! What the program says about itself, for those who look for a mistake in it.

use std::fs::OpenOptions;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

use crate::inert::Inert;

/// Where the log goes, and how much of it.
#[derive(Debug, clap::Args)]
pub struct LogOptions {
    /// What to log: a level (error, warn, info, debug, trace) or a filter such as `conformance=debug`
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "CONFORMANCE_LOG",
        hide_env_values = true,
        default_value = "warn"
    )]
    log: String,
    /// Append the log to this file instead of standard error
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

/// Starts logging.
pub fn init(options: &LogOptions) {
    // It tells as errors what its caller is told too, and handles: a log that is not there yet.
    let filter = EnvFilter::new(format!("kube_client::client::builder=off,{}", options.log));
    // What cannot be written is lost. It would be told on standard error, which panics where that cannot be written either.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(true).log_internal_errors(false);
    let file = options.log_file.as_ref().map(|path| OpenOptions::new().create(true).append(true).open(path));
    if let Some(Err(error)) = &file {
        anstream::eprintln!("warning: the log file cannot be opened: {error}");
    }
    // A second initialisation costs the log and nothing else.
    let _ = match file {
        Some(Ok(file)) => builder.with_ansi(false).with_writer(Mutex::new(file)).try_init(),
        _ if std::io::stderr().is_terminal() => builder.with_writer(std::io::stderr).try_init(),
        _ => builder.with_ansi(false).with_writer(|| Inert(std::io::stderr())).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::passes_on_a_full_disk;

    /// Not a test by itself: this very program, started by the next test with a standard error that is full.
    #[test]
    #[ignore = "the program that the next test starts"]
    fn a_program_that_logs() {
        init(&LogOptions { log: "error".to_owned(), log_file: None });
        tracing::error!("this is lost");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_no_panic() {
        passes_on_a_full_disk("cli::log::tests::a_program_that_logs");
    }
}
