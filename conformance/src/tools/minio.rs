//! MinIO, for `--s3 minio`.

use super::command::Workshop;
use super::error::ToolError;
use super::program::Program;
use super::tool::{Options, Tool};
use super::versions::versions;

const MODULE: &str = "github.com/minio/minio";

fn program() -> Program {
    Program {
        title: "MinIO",
        name: "minio",
        version: &versions().minio.version,
        minimum: None,
        ask: "--version",
        download: None,
        module: MODULE,
        package: MODULE,
        variables: Vec::new(),
        takes: "about 6 minutes the first time",
    }
}

/// MinIO, if it is here already.
pub(super) async fn find(workshop: &Workshop, options: &Options) -> Result<Option<Tool>, ToolError> {
    program().find(workshop, options.minio.as_ref()).await
}

/// MinIO.
pub async fn minio(workshop: &Workshop, options: &Options) -> Result<Tool, ToolError> {
    program().prepare(workshop, options.minio.as_ref()).await
}
