//! What an environment can do with and without, prepared at the same time.

use super::command::Workshop;
use super::error::ToolError;
use super::postgres::{self, Clients};
use super::tool::{Options, Tool};
use super::{minio, pgbackrest};

/// Which capabilities are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// PostgreSQL servers and client programs.
    pub postgresql: bool,
    /// pgBackRest.
    pub backups: bool,
    /// MinIO, in place of the object storage in our own process.
    pub minio: bool,
}

/// What was prepared. Where there is an error, it is the sentence why the capability is absent.
#[derive(Debug)]
pub struct Toolbox {
    /// PostgreSQL's directory of server programs.
    pub postgresql: Result<Tool, String>,
    /// PostgreSQL's client programs.
    pub clients: Result<Clients, String>,
    /// pgBackRest.
    pub pgbackrest: Result<Tool, String>,
    /// MinIO.
    pub minio: Result<Tool, String>,
}

/// Finds, fetches and builds what is wanted, all at the same time; `workshop.progress` tells what takes long.
///
/// # Errors
/// Something in the cache is damaged, or the user named a file that does not exist. A tool that cannot be had is no error:
/// the reason is in the [`Toolbox`].
pub async fn prepare(workshop: &Workshop, options: &Options, needs: Needs) -> Result<Toolbox, ToolError> {
    let (postgresql, clients, pgbackrest, minio) = tokio::try_join!(
        // Boxed: together these futures would take 20 KiB of their caller's stack.
        optional(needs.postgresql, Box::pin(postgres::server(workshop, options))),
        optional(needs.postgresql, Box::pin(postgres::clients(workshop, options))),
        optional(needs.backups, Box::pin(pgbackrest::prepare(workshop, options))),
        optional(needs.minio, Box::pin(minio::minio(workshop, options))),
    )?;
    Ok(Toolbox { postgresql, clients, pgbackrest, minio })
}

async fn optional<T>(
    needed: bool,
    tool: impl Future<Output = Result<T, ToolError>>,
) -> Result<Result<T, String>, ToolError> {
    if !needed {
        return Ok(Err("it was not asked for".to_owned()));
    }
    match tool.await {
        Ok(tool) => Ok(Ok(tool)),
        Err(error) if error.is_unavailable() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_tool_is_a_reason_and_a_damaged_one_is_an_error() {
        let missing = ToolError::Unavailable {
            what: "MinIO".to_owned(),
            reason: "there is no Go".to_owned(),
            remedy: "install Go".to_owned(),
        };
        let reason = optional::<()>(true, async { Err(missing) }).await.unwrap();
        assert_eq!(reason, Err("MinIO is not available: there is no Go; install Go".to_owned()));
        let wrong = async { Err(ToolError::Request("no".to_owned())) };
        assert!(optional::<()>(true, wrong).await.is_err());
    }
}
