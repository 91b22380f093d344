//! Images that a registry would have, made of Debian packages and Go modules.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::archive::{self, Config};
use super::debian::{self, Packages};
use super::docker::Docker;
use super::names;
use super::prepare::{Archive, FILE};
use crate::tools::{self, Entry, Origin, Step, ToolError, Workshop, versions};

/// Counts changes in how these images are made that no other source shows.
const REVISION: &[u8] = b"1";

/// What our programs are linked with.
const BASE: Packages<'static> = Packages { with_dependencies: &["libc6", "libgcc-s1"], alone: &["base-files"] };

/// The image that programs are built upon: a name in Docker, loaded when it is not there.
pub(super) async fn base(docker: &Docker<'_>) -> Result<String, ToolError> {
    let workshop = docker.workshop;
    let tag = names::tag([REVISION, BASE.recipe().as_bytes()]);
    let name = format!("{}:{tag}", names::BASE);
    let title = "making the base image of Debian packages";
    let entry = obtain(workshop, &format!("image-base-{tag}"), title, async |directory, step| {
        let root = workshop.scratch()?;
        BASE.unpack(workshop, root.path(), step).await?;
        write(root.path(), &Config::default(), &name, &directory)
    })
    .await?;
    load(docker, &name, &entry.directory.join(FILE)).await?;
    Ok(name)
}

/// What init containers wait for a database with: `sh`, `psql` and `pg_isready`. Clients of another major version than the
/// name says: they talk to all of them.
pub(super) async fn postgres(workshop: &Workshop) -> Result<Archive, ToolError> {
    let major = versions().images.postgresql_client;
    let client = format!("postgresql-client-{major}");
    let packages = Packages {
        with_dependencies: &["libpq5", "libreadline8t64", "liblz4-1"],
        alone: &["base-files", "busybox-static", &client],
    };
    let tag = names::tag([REVISION, packages.recipe().as_bytes()]);
    let title = "making an image of PostgreSQL's clients";
    let entry = obtain(workshop, &format!("image-postgres-{tag}"), title, async |directory, step| {
        let root = workshop.scratch()?;
        packages.unpack(workshop, root.path(), step).await?;
        commands(workshop, root.path(), major).await?;
        let config = Config { command: vec!["/bin/sh".to_owned()], ..Config::default() };
        write(root.path(), &config, names::POSTGRES, &directory)
    })
    .await?;
    Ok(Archive { names: vec![names::POSTGRES.to_owned()], path: entry.directory.join(FILE) })
}

/// Puts the clients and busybox's commands into the `PATH`. Debian's own `psql` is a Perl program that looks for clusters.
async fn commands(workshop: &Workshop, root: &Path, major: u32) -> Result<(), ToolError> {
    let failed = || ToolError::file("write to", root);
    let busybox = root.join("usr/bin/busybox");
    let list = workshop.output(Workshop::launch("busybox", &busybox).arg("--list")).await?;
    for command in list.split_whitespace().filter(|command| *command != "busybox") {
        debian::link(root, command, "busybox").map_err(failed())?;
    }
    for client in ["psql", "pg_isready"] {
        debian::link(root, client, &format!("../lib/postgresql/{major}/bin/{client}")).map_err(failed())?;
    }
    Ok(())
}

/// MinIO and nothing else.
pub(super) async fn minio(workshop: &Workshop, options: &tools::Options) -> Result<Archive, ToolError> {
    let tool = tools::minio(workshop, options).await?;
    let tag = names::tag([REVISION, tools::digest(&tool.path)?.as_bytes()]);
    let name = format!("{}:{tag}", names::MINIO);
    let entry = obtain(workshop, &format!("image-minio-{tag}"), "making an image of MinIO", async |directory, _| {
        let root = workshop.scratch()?;
        minio_root(root.path(), &tool.path).map_err(ToolError::file("write to", root.path()))?;
        let config = Config { entrypoint: vec!["/usr/bin/minio".to_owned()], ..Config::default() };
        write(root.path(), &config, &name, &directory)
    })
    .await?;
    Ok(Archive { names: vec![name], path: entry.directory.join(FILE) })
}

fn minio_root(root: &Path, program: &Path) -> io::Result<()> {
    fs::create_dir_all(root.join("usr/bin"))?;
    fs::copy(program, root.join("usr/bin/minio"))?;
    for directory in ["tmp", "data"] {
        fs::create_dir(root.join(directory))?;
        fs::set_permissions(root.join(directory), Permissions::from_mode(0o1777))?;
    }
    Ok(())
}

/// The cache entry `name`; `make` writes the archive into its directory when there is none.
async fn obtain(
    workshop: &Workshop,
    name: &str,
    title: &str,
    make: impl AsyncFnOnce(PathBuf, &Step) -> Result<(), ToolError>,
) -> Result<Entry, ToolError> {
    let release = &versions().images.debian;
    workshop
        .cache
        .obtain(name, &workshop.progress, |directory| async move {
            let step = workshop.progress.begin(title, None);
            make(directory, &step).await?;
            step.done();
            Ok(Origin { source: "made here".to_owned(), version: release.clone() })
        })
        .await
}

/// Writes the archive of an entry.
fn write(root: &Path, config: &Config, name: &str, directory: &Path) -> Result<(), ToolError> {
    let output = directory.join(FILE);
    let written = archive::write(root, config, &[name.to_owned()], &output);
    written.map_err(ToolError::file("write", output))
}

/// Loads the archive `path` when Docker has no image `name`.
pub(super) async fn load(docker: &Docker<'_>, name: &str, path: &Path) -> Result<(), ToolError> {
    if !docker.has(name).await? {
        let step = docker.workshop.progress.begin(format!("loading {name} into Docker"), None);
        docker.load(path, &step).await?;
        step.done();
    }
    Ok(())
}
