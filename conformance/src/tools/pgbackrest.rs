//! pgBackRest, new enough for PostgreSQL 16.

use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::cache::Origin;
use super::command::Workshop;
use super::error::ToolError;
use super::tool::{Options, Tool, entry_name, named};
use super::versions::{parse, versions};

const PROGRAM: &str = "pgbackrest";

/// Where the Debian package has it.
const PACKAGED: &str = "usr/bin/pgbackrest";

fn entry() -> String {
    entry_name(PROGRAM, &versions().pgbackrest.debian)
}

/// pgBackRest, if it is here already.
pub(super) async fn find(workshop: &Workshop, options: &Options) -> Result<Option<Tool>, ToolError> {
    if let Some(path) = named(options.pgbackrest.as_ref(), "pgBackRest")? {
        let tool = Tool::inspect(workshop, path, "named by the user", "version").await?;
        if !is_new_enough(&tool.version) {
            return Err(ToolError::Request(format!("{} is version {}; {}", path.display(), tool.version, wanted())));
        }
        return Ok(Some(tool));
    }
    if let Some(tool) = Tool::found(workshop, PROGRAM, "version").await? {
        if is_new_enough(&tool.version) {
            return Ok(Some(tool));
        }
        tracing::debug!(path = %tool.path.display(), version = tool.version, "too old: {}", wanted());
    }
    Ok(workshop.cache.find(&entry())?.map(|entry| Tool::cached(&entry, PACKAGED)))
}

/// pgBackRest: the machine's when it is new enough, else from a Debian release that has one.
pub(super) async fn prepare(workshop: &Workshop, options: &Options) -> Result<Tool, ToolError> {
    if let Some(tool) = find(workshop, options).await? {
        return Ok(tool);
    }
    let release = &versions().pgbackrest.debian;
    let make = |directory: PathBuf| async move {
        let step = workshop.progress.begin(format!("fetching pgBackRest from Debian {release}"), None);
        let unpacked = unpack(workshop, release, &directory, &step).await;
        let tool = unpacked.map_err(|error| match error {
            ToolError::Unavailable { reason, .. } => unavailable(&reason),
            other => other,
        })?;
        step.done();
        Ok(Origin { source: format!("unpacked from Debian {release}"), version: tool.version })
    };
    let entry = workshop.cache.obtain(&entry(), &workshop.progress, make).await?;
    Ok(Tool::cached(&entry, PACKAGED))
}

async fn unpack(
    workshop: &Workshop,
    release: &str,
    directory: &Path,
    step: &super::progress::Step,
) -> Result<Tool, ToolError> {
    Apt::open(workshop, Some(release), step).await?.unpack(&[PROGRAM], directory, step).await?;
    // It uses the machine's libraries; whether they will do is known when it has run.
    let tool = Tool::inspect(workshop, &directory.join(PACKAGED), "", "version").await?;
    if is_new_enough(&tool.version) { Ok(tool) } else { Err(unavailable(&format!("{release} has {}", tool.version))) }
}

fn unavailable(reason: &str) -> ToolError {
    ToolError::Unavailable { what: "pgBackRest".to_owned(), reason: reason.to_owned(), remedy: wanted() }
}

fn wanted() -> String {
    format!("install pgBackRest {} or newer", versions().pgbackrest.minimum)
}

fn is_new_enough(version: &str) -> bool {
    parse(version) >= parse(&versions().pgbackrest.minimum)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2.55.0", true)]
    #[case("2.58.0", true)]
    #[case("3.0.0", true)]
    #[case("2.45.0", false)]
    #[case("unknown", false)]
    fn only_a_version_that_knows_postgresql_16_will_do(#[case] version: &str, #[case] enough: bool) {
        assert_eq!(is_new_enough(version), enough);
    }
}
