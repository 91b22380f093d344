//! A program that is one file and comes from one Go module.

use std::path::{Path, PathBuf};

use super::cache::Origin;
use super::command::Workshop;
use super::download::Download;
use super::error::ToolError;
use super::go::Build;
use super::tool::{Tool, entry_name, named};
use super::versions::parse;

/// Where to find it, and how to get it.
pub(super) struct Program {
    /// What messages call it.
    pub title: &'static str,
    /// Its file, and its entry in the cache.
    pub name: &'static str,
    /// The version that is fetched or built.
    pub version: &'static str,
    /// The oldest version on the machine that will do; `None`: any.
    pub minimum: Option<&'static str>,
    /// The arguments that make it tell its version, separated by blanks.
    pub ask: &'static str,
    /// The official download, when there is one.
    pub download: Option<Download<'static>>,
    /// The module that it is built from.
    pub module: &'static str,
    /// Its package.
    pub package: &'static str,
    /// Values for variables: `package.variable=value`.
    pub variables: Vec<String>,
    /// How long a build takes, for people.
    pub takes: &'static str,
}

impl Program {
    /// The program, if it is here already: where the user names it, on the machine, in the cache.
    pub(super) async fn find(&self, workshop: &Workshop, user: Option<&PathBuf>) -> Result<Option<Tool>, ToolError> {
        if let Some(path) = named(user, self.title)? {
            let tool = Tool::inspect(workshop, path, "named by the user", self.ask).await?;
            if !self.is_new_enough(&tool.version) {
                let (path, minimum) = (path.display(), self.minimum.unwrap_or_default());
                let message =
                    format!("{path} is version {}; {} {minimum} or newer is needed", tool.version, self.title);
                return Err(ToolError::Request(message));
            }
            return Ok(Some(tool));
        }
        if let Some(tool) = Tool::found(workshop, self.name, self.ask).await? {
            if self.is_new_enough(&tool.version) {
                return Ok(Some(tool));
            }
            tracing::debug!(path = %tool.path.display(), version = tool.version, "too old");
        }
        let entry = workshop.cache.find(&entry_name(self.name, self.version))?;
        Ok(entry.map(|entry| Tool::cached(&entry, self.name)))
    }

    /// The program, fetched or built when it is not here.
    pub(super) async fn prepare(&self, workshop: &Workshop, user: Option<&PathBuf>) -> Result<Tool, ToolError> {
        if let Some(tool) = self.find(workshop, user).await? {
            return Ok(tool);
        }
        let make = |directory: PathBuf| async move { self.make(workshop, &directory).await };
        let entry = workshop.cache.obtain(&entry_name(self.name, self.version), &workshop.progress, make).await?;
        Ok(Tool::cached(&entry, self.name))
    }

    async fn make(&self, workshop: &Workshop, directory: &Path) -> Result<Origin, ToolError> {
        let origin = |source| Origin { source, version: self.version.to_owned() };
        if let Some(download) = &self.download
            && download.fetch(workshop, directory).await?
        {
            return Ok(origin(format!("downloaded from {}", download.url)));
        }
        let step = workshop.progress.begin(format!("building {} {}", self.title, self.version), Some(self.takes));
        let build = Build {
            name: self.title,
            module: self.module,
            version: self.version,
            main: None,
            package: self.package,
            replace: None,
            variables: self.variables.clone(),
        };
        build.run(workshop, &step, &directory.join(self.name)).await?;
        step.done();
        Ok(origin(format!("built from {}", self.module)))
    }

    fn is_new_enough(&self, version: &str) -> bool {
        self.minimum.is_none_or(|minimum| parse(version) >= parse(minimum))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::process::{Run, Spawner};
    use crate::tools::{Cache, Progress};

    fn program(minimum: Option<&'static str>) -> Program {
        Program {
            title: "Tool",
            name: "a-tool-that-nobody-has",
            version: "v1.0.0",
            minimum,
            ask: "--version",
            download: None,
            module: "example.com/tool",
            package: "example.com/tool",
            variables: Vec::new(),
            takes: "a second",
        }
    }

    #[test]
    fn an_old_version_will_not_do() {
        let kind = program(Some("0.33"));
        for (version, enough) in [("0.33.0", true), ("1.0.0", true), ("0.29.0", false), ("unknown", false)] {
            assert_eq!(kind.is_new_enough(version), enough, "{version}");
        }
        assert!(program(None).is_new_enough("unknown"));
    }

    /// A workshop where every command ends with 1.
    fn workshop(directory: &Path) -> Workshop {
        let run = Arc::new(Run::create(directory).unwrap());
        Workshop {
            cache: Cache::open(directory.join("cache")).unwrap(),
            spawner: Spawner::new(run, Some("/bin/false".into())).unwrap(),
            progress: Progress::silent(),
        }
    }

    #[tokio::test]
    async fn what_does_not_work_is_passed_over_unless_the_user_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let workshop = workshop(directory.path());
        let shim = Program { name: "false", ..program(None) };
        assert_eq!(shim.find(&workshop, None).await.unwrap(), None);
        assert!(shim.find(&workshop, Some(&"/bin/false".into())).await.unwrap_err().is_unavailable());
    }

    #[tokio::test]
    async fn what_nobody_has_is_not_found_and_what_the_user_names_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let workshop = workshop(directory.path());
        assert_eq!(program(None).find(&workshop, None).await.unwrap(), None);
        let error = program(None).find(&workshop, Some(&"/nowhere/tool".into())).await.unwrap_err();
        assert_eq!(error.to_string(), "Tool is said to be at /nowhere/tool, but nothing is there");
    }
}
