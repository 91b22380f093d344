//! What `docker build` gets to see: the `Dockerfile` and stripped programs, nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::{Step, ToolError, Workshop};

/// How images are made of programs.
pub(super) const DOCKERFILE: &str = include_str!("../../../ci/Dockerfile");

/// A directory for `docker build`, removed when dropped.
pub(super) struct Context {
    directory: tempfile::TempDir,
}

impl Context {
    /// Strips `programs` into a new context, each under its own name.
    pub(super) async fn new(workshop: &Workshop, programs: &[&Path], step: &Step) -> Result<Self, ToolError> {
        let directory = workshop.scratch()?;
        let path = directory.path().join("Dockerfile");
        fs::write(&path, DOCKERFILE).map_err(ToolError::file("write", path))?;
        for program in programs {
            let Some(name) = program.file_name().filter(|_| program.is_file()) else {
                let program = program.display();
                return Err(ToolError::Request(format!(
                    "{program} is not there; build it by `cargo build --workspace`"
                )));
            };
            let strip = Workshop::launch("strip", "strip").arg("-o").arg(directory.path().join(name)).arg(*program);
            workshop.work(strip, step).await?.map_err(|reason| ToolError::Unavailable {
                what: format!("an image of {}", program.display()),
                reason,
                remedy: "install binutils".to_owned(),
            })?;
        }
        Ok(Self { directory })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A stripped program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
