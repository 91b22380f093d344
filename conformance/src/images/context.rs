//! What `docker build` gets to see: the `Dockerfile` and stripped programs, nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::{Step, ToolError, Workshop};

/// How images are made of programs.
pub(super) const DOCKERFILE: &str = include_str!("../../../ci/Dockerfile");

/// What the `Dockerfile` of a program is called in a context.
pub(super) fn file(program: &str) -> String {
    format!("{program}.Dockerfile")
}

/// The `Dockerfile` with one stage only: Docker's classic builder makes every stage before the target too, and leaves them as
/// images without a name.
fn stage(name: &str) -> String {
    let mut kept = true;
    let lines = DOCKERFILE.lines().filter(|line| {
        if line.starts_with("FROM ") {
            kept = line.ends_with(&format!(" AS {name}"));
        }
        kept
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// A directory for `docker build`, removed when dropped.
pub(super) struct Context {
    directory: tempfile::TempDir,
}

impl Context {
    /// Strips `programs` into a new context, each under the name of its stage, whatever its own is.
    pub(super) async fn new(workshop: &Workshop, programs: &[(&str, &Path)], step: &Step) -> Result<Self, ToolError> {
        let directory = workshop.scratch()?;
        for (name, program) in programs {
            if !program.is_file() {
                let program = program.display();
                return Err(ToolError::Request(format!("{program} is not there, of which an image is to be made")));
            }
            let path = directory.path().join(file(name));
            fs::write(&path, stage(name)).map_err(ToolError::file("write", path))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_has_one_stage_for_each_program() {
        for (program, other) in [("dittofs-operator", "dittofs-probe"), ("dittofs-probe", "dittofs-operator")] {
            let text = stage(program);
            assert_eq!(text.lines().filter(|line| line.starts_with("FROM ")).count(), 1);
            assert!(text.contains("ARG BASE=") && text.contains(&format!("COPY {program} ")), "{text}");
            assert!(!text.contains(&format!("COPY {other} ")), "{text}");
        }
    }
}
