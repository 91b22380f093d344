//! What the program says about itself, for those who look for a mistake in it.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(true);
    let file = options.log_file.as_ref().map(|path| OpenOptions::new().create(true).append(true).open(path));
    // A second initialisation, and a file that cannot be opened, cost the log and nothing else.
    let _ = match file {
        Some(Ok(file)) => builder.with_ansi(false).with_writer(Mutex::new(file)).try_init(),
        Some(Err(error)) => {
            anstream::eprintln!("warning: the log file cannot be opened: {error}");
            builder.with_writer(std::io::stderr).try_init()
        }
        None => builder.with_writer(std::io::stderr).try_init(),
    };
}
