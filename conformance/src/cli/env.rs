//! `conformance env`: an environment that stays between runs.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::CliError;
use super::images::Images;
use super::kind::absolute;
use super::options::EnvironmentOptions;
use super::signals;
use super::tools::Tools;
use crate::duration;
use crate::exit::Exit;
use crate::inert::inert;
use crate::supervisor::{self, Plan, Status};
use crate::tools::Display;

/// Idle time is counted in seconds: with none, an environment would end while it is handed over.
const SHORTEST_IDLE: Duration = Duration::from_secs(1);

/// Keep an environment between runs. Tests of `cargo nextest run` attach to it.
#[derive(Clone, Debug, Subcommand)]
pub enum Env {
    /// Bring an environment up, or find the one that fits
    Up(Up),
    /// Show the environment that runs
    Status(EnvironmentOptions),
    /// Take the environment down
    Down,
    /// Open a shell in which kubectl reaches the environment, or that of a paused run (--kubeconfig)
    Shell(EnvironmentOptions),
    /// Show the programs of the environment; find, fetch and build them with --prepare
    Tools(Tools),
    /// Make the container images of the kind environment, and show them
    Images(Images),
}

/// `env up`.
#[derive(Clone, Debug, Args)]
pub struct Up {
    /// It ends when nobody has used it for so long
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = idle)]
    idle: Duration,
    #[command(flatten)]
    environment: EnvironmentOptions,
}

fn idle(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(idle) if idle < SHORTEST_IDLE => Err(format!("`{text}` is less than a second")),
        parsed => parsed.map_err(|error| format!("`{text}` {error}")),
    }
}

impl Env {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let display = Display::stderr();
        match self {
            Self::Up(up) => {
                let interrupted = signals::watch()?;
                let status = supervisor::up(up.environment.plan()?, up.idle, &display, &interrupted).await;
                show(&status.map_err(|error| CliError::environment(&error))?);
                Ok(Exit::Ok)
            }
            Self::Status(options) => {
                let plan = options.plan();
                let Some(status) = status(plan.as_ref().ok()).await? else {
                    anstream::println!("no environment runs");
                    return Ok(Exit::Environment);
                };
                show(&status);
                if let Err(error) = plan {
                    anstream::println!("not compared with what would be started now: {}", inert(error.message()));
                }
                Ok(Exit::Ok)
            }
            Self::Down => {
                let ended = supervisor::down(&display).await.map_err(|error| failed(&error))?;
                anstream::println!("{}", if ended { "the environment has ended" } else { "no environment runs" });
                Ok(Exit::Ok)
            }
            Self::Shell(options) => {
                if let Some(kubeconfig) = options.kubeconfig() {
                    return Err(shell(&absolute(kubeconfig)?));
                }
                let Some(status) = status(None).await? else {
                    return Err(CliError::new(
                        Exit::Environment,
                        "no environment runs; start one by `conformance env up`",
                    ));
                };
                Err(shell(&status.kubeconfig))
            }
            Self::Tools(tools) => tools.perform(&display).await,
            Self::Images(images) => images.perform(&display).await,
        }
    }
}

/// Becomes a shell; comes back only when it cannot.
fn shell(kubeconfig: &Path) -> CliError {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let error = Command::new(&shell).env("KUBECONFIG", kubeconfig).exec();
    CliError::new(Exit::Environment, format!("{} cannot be started: {error}", shell.display()))
}

async fn status(plan: Option<&Plan>) -> Result<Option<Status>, CliError> {
    supervisor::status(plan).await.map_err(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> CliError {
    CliError::new(Exit::Environment, format!("{error:#}"))
}

fn show(status: &Status) {
    let description = &status.description;
    anstream::println!(
        "{} {} on Kubernetes {}, Percona {}",
        description.implementation,
        description.implementation_version,
        description.kubernetes,
        description.percona
    );
    anstream::println!("supervisor: pid {}, {} control plane(s)", status.usage.pid, status.usage.control_planes);
    anstream::println!("kubeconfig: {}", status.kubeconfig.display());
    match status.usage.scenarios.as_slice() {
        [] => anstream::println!("idle"),
        scenarios => anstream::println!("in use by {}", scenarios.join(", ")),
    }
    if !status.differences.is_empty() {
        anstream::println!("differs from what would be started now: {}", status.differences.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_time_that_would_be_none_is_refused() {
        assert_eq!(idle("500ms").unwrap_err(), "`500ms` is less than a second");
        assert_eq!(idle("1s").unwrap(), SHORTEST_IDLE);
        assert!(idle("soon").unwrap_err().starts_with("`soon` is no duration"));
    }
}
