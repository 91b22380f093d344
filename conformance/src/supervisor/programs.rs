//! The programs of databases, where the user that servers run as can reach them.

use crate::postgres::Installation;
use crate::process::Account;
use crate::tools::{self, Tool, Workshop};

/// What servers on this machine are made of. An error is the reason why something cannot be had.
pub struct DatabasePrograms {
    /// PostgreSQL.
    pub postgresql: Result<Installation, String>,
    /// pgBackRest.
    pub pgbackrest: Result<Tool, String>,
}

impl DatabasePrograms {
    /// Makes ready what was found: as root, copies that `nobody` may execute are put into the run's directory.
    ///
    /// # Errors
    /// A copy, or the template of a database, cannot be made.
    pub async fn prepare(
        workshop: &Workshop,
        postgresql: Result<Tool, String>,
        pgbackrest: Result<Tool, String>,
    ) -> anyhow::Result<Self> {
        let spawner = &workshop.spawner;
        let run = spawner.run().directory();
        let reachable = |tool: Tool| match Account::nobody_if_root() {
            Some(_) => tools::accessible(&tool, &run.join("tools")),
            None => Ok(tool),
        };
        let postgresql = match postgresql {
            Ok(tool) => {
                let template = workshop.cache.root().join("template").join(&tool.version);
                Ok(Installation::prepare(reachable(tool)?.path, template, run, spawner).await?)
            }
            Err(reason) => Err(reason),
        };
        let pgbackrest = pgbackrest.map(reachable).map_or_else(|reason| Ok(Err(reason)), |tool| tool.map(Ok))?;
        Ok(Self { postgresql, pgbackrest })
    }
}
