//! `conformance env tools`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::options::ToolOptions;
use super::run::ended;
use super::{CliError, signals};
use crate::exit::Exit;
use crate::inert::inert;
use crate::process::{Run, Spawner, default_base, sweep};
use crate::tools::{self, Cache, ControlPlane, Display, Needs, Workshop, listing, prepare};

/// How long killed processes may take to end.
const CHILDLESS_WITHIN: Duration = Duration::from_secs(5);

/// Show the programs of the environment and where they are.
#[derive(Clone, Debug, Args)]
pub struct Tools {
    /// Also fetch or build what is not there yet
    #[arg(long)]
    prepare: bool,
    #[command(flatten)]
    tools: ToolOptions,
}

impl Tools {
    /// Performs the verb.
    pub async fn perform(self, display: &Display) -> Result<Exit, CliError> {
        in_workshop(display, async |workshop| self.list(workshop).await).await
    }

    async fn list(&self, workshop: &Workshop) -> Result<Exit, CliError> {
        let failed = |error: anyhow::Error| CliError::environment(&error);
        let options = self.tools.options();
        let mut missing = Vec::new();
        if self.prepare {
            let needs = Needs { postgresql: true, backups: true, minio: true };
            let toolbox = prepare(workshop, &options, needs).await.map_err(|error| failed(error.into()))?;
            ControlPlane::prepare(workshop, &options).await.map_err(|error| failed(error.into()))?;
            for tool in [tools::kind(workshop, &options).await, tools::helm(workshop, &options).await] {
                match tool {
                    Err(error) if error.is_unavailable() => missing.push(error.to_string()),
                    tool => drop(tool.map_err(|error| failed(error.into()))?),
                }
            }
            missing.extend(toolbox.postgresql.err());
            missing.extend(toolbox.clients.err());
            missing.extend(toolbox.pgbackrest.err());
            missing.extend(toolbox.minio.err());
        }
        for tool in listing(workshop, &options).await {
            anstream::println!("{tool}");
        }
        for reason in &missing {
            anstream::println!("{}", inert(reason));
        }
        Ok(if missing.is_empty() { Exit::Ok } else { Exit::MissingTool })
    }
}

/// Does `work` in a workshop of its own, and removes what it leaves; so at an interruption, in the middle of it.
pub(super) async fn in_workshop(
    display: &Display,
    work: impl AsyncFnOnce(&Workshop) -> Result<Exit, CliError>,
) -> Result<Exit, CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::new(Exit::Environment, error);
    let interrupted = signals::watch()?;
    // As every command that starts something: what killed runs have left goes first.
    let swept = tokio::task::spawn_blocking(|| sweep(&default_base())).await;
    swept.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let run = Arc::new(Run::create(&default_base()).map_err(|error| failed(&error))?);
    let workshop = Workshop {
        cache: Cache::default_root().and_then(Cache::open).map_err(|error| CliError::environment(&error.into()))?,
        spawner: Spawner::new(Arc::clone(&run), None).map_err(|error| CliError::environment(&error.into()))?,
        progress: display.progress(),
    };
    let outcome = interrupted.run_until_cancelled(Box::pin(work(&workshop))).await.unwrap_or(Ok(Exit::Interrupted));
    // What was in the middle of its work was killed when its handle was dropped.
    if tokio::time::timeout(CHILDLESS_WITHIN, run.childless()).await.is_err() {
        tracing::warn!("some processes do not end within {} s after SIGKILL", CHILDLESS_WITHIN.as_secs());
    }
    ended(outcome, run.remove().map_err(|error| failed(&error)))
}
