//! MinIO, for `--s3 minio`.

use std::path::PathBuf;

use super::cache::Origin;
use super::command::Workshop;
use super::error::ToolError;
use super::go::Build;
use super::tool::{Options, Tool, entry_name, named, on_path};
use super::versions::versions;

const PROGRAM: &str = "minio";
const MODULE: &str = "github.com/minio/minio";

/// MinIO, if it is here already.
pub(super) async fn find(workshop: &Workshop, options: &Options) -> Result<Option<Tool>, ToolError> {
    if let Some(path) = named(options.minio.as_ref(), "MinIO")? {
        return Tool::inspect(workshop, path, "named by the user", "--version").await.map(Some);
    }
    if let Some(path) = on_path(PROGRAM) {
        return Tool::inspect(workshop, &path, "on this machine", "--version").await.map(Some);
    }
    let entry = workshop.cache.find(&entry_name(PROGRAM, &versions().minio.version))?;
    Ok(entry.map(|entry| Tool::cached(&entry, PROGRAM)))
}

/// MinIO.
pub(super) async fn prepare(workshop: &Workshop, options: &Options) -> Result<Tool, ToolError> {
    if let Some(tool) = find(workshop, options).await? {
        return Ok(tool);
    }
    let version = &versions().minio.version;
    let make = |directory: PathBuf| async move {
        let step = workshop.progress.begin(format!("building MinIO {version}"), Some("about 6 minutes the first time"));
        let build = Build {
            name: "MinIO",
            module: MODULE,
            version,
            main: None,
            package: MODULE,
            replace: None,
            variables: Vec::new(),
        };
        build.run(workshop, &step, &directory.join(PROGRAM)).await?;
        step.done();
        Ok(Origin { source: format!("built from {MODULE}"), version: version.clone() })
    };
    let entry = workshop.cache.obtain(&entry_name(PROGRAM, version), &workshop.progress, make).await?;
    Ok(Tool::cached(&entry, PROGRAM))
}
