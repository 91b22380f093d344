//! A program that was found, and where the user wants it to be looked for.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::cache::Entry;
use super::command::Workshop;
use super::error::ToolError;
use super::versions;

/// A program (or, for PostgreSQL, a directory of programs) that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program; for PostgreSQL the directory with `initdb` and `postgres`.
    pub path: PathBuf,
    /// What it needs in its environment, such as `LD_LIBRARY_PATH`.
    pub env: BTreeMap<String, String>,
    /// Its version.
    pub version: String,
    /// How it got here, for people: `on this machine`, `built from …`.
    pub source: String,
    /// The directory that holds all of it, when it is ours to copy elsewhere; `None`: it is the machine's.
    pub root: Option<PathBuf>,
}

/// What the user says about tools. Everything is optional; paths that are given must exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Options {
    /// Kubernetes minor, such as `1.34`; `None` is the default of `versions.toml`.
    pub kubernetes: Option<String>,
    /// A directory as `setup-envtest` makes it (`KUBEBUILDER_ASSETS`); what it does not hold is looked for elsewhere.
    pub assets: Option<PathBuf>,
    /// etcd.
    pub etcd: Option<PathBuf>,
    /// kube-apiserver.
    pub kube_apiserver: Option<PathBuf>,
    /// kube-controller-manager.
    pub kube_controller_manager: Option<PathBuf>,
    /// A directory with `initdb` and `postgres` of PostgreSQL 16.
    pub postgresql: Option<PathBuf>,
    /// A directory with `psql` and `pg_isready`.
    pub postgresql_client: Option<PathBuf>,
    /// pgBackRest, 2.55 or newer.
    pub pgbackrest: Option<PathBuf>,
    /// MinIO.
    pub minio: Option<PathBuf>,
    /// kind.
    pub kind: Option<PathBuf>,
    /// Helm.
    pub helm: Option<PathBuf>,
}

impl Options {
    /// What the environment variables say that a command line would also heed: `KUBEBUILDER_ASSETS`. For tests.
    pub fn from_environment() -> Self {
        Self { assets: std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from), ..Self::default() }
    }
}

impl Tool {
    /// A program that a test only names.
    #[cfg(test)]
    pub(crate) fn named(program: &str) -> Self {
        Self {
            path: program.into(),
            env: BTreeMap::new(),
            version: "1.2.3".to_owned(),
            source: "a test".to_owned(),
            root: None,
        }
    }

    /// A program of the machine, or one that the user named: asks it for its version.
    ///
    /// `ask` are the arguments of the question, such as `--version`, separated by blanks.
    pub(super) async fn inspect(workshop: &Workshop, path: &Path, source: &str, ask: &str) -> Result<Self, ToolError> {
        Self::inspect_with(workshop, path, source, ask, &BTreeMap::new()).await
    }

    /// As [`Tool::inspect`], for a program that needs something in its environment.
    pub(super) async fn inspect_with(
        workshop: &Workshop,
        path: &Path,
        source: &str,
        ask: &str,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, ToolError> {
        // A path without a slash would be searched in the PATH.
        let path = std::path::absolute(path).map_err(ToolError::file("find", path))?;
        let launch = Workshop::launch(&path.display().to_string(), &path).envs(env).args(ask.split(' '));
        let output = workshop.output(launch).await?;
        let version = versions::parse(&output).map_or_else(|| "unknown".to_owned(), |version| version.to_string());
        Ok(Self { path, env: env.clone(), version, source: source.to_owned(), root: None })
    }

    /// The program of that name in the `PATH`. One that cannot tell its version is passed over, as if it were not there: a shim,
    /// say, whose version manager has none of it.
    pub(super) async fn found(workshop: &Workshop, program: &str, ask: &str) -> Result<Option<Self>, ToolError> {
        let Some(path) = on_path(program) else { return Ok(None) };
        match Self::inspect(workshop, &path, "on this machine", ask).await {
            Err(error @ ToolError::Unavailable { .. }) => {
                tracing::debug!(path = %path.display(), %error, "it does not work");
                Ok(None)
            }
            inspected => inspected.map(Some),
        }
    }

    /// A program in an entry of the cache.
    pub(super) fn cached(entry: &Entry, program: &str) -> Self {
        Self {
            path: entry.directory.join(program),
            env: BTreeMap::new(),
            version: entry.origin.version.trim_start_matches('v').to_owned(),
            source: entry.origin.source.clone(),
            root: Some(entry.directory.clone()),
        }
    }

    /// A program in the directory that this tool is.
    pub fn program(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Checks that what the user named is there, so that a typing error is not answered by something else.
pub(super) fn named<'a>(path: Option<&'a PathBuf>, what: &str) -> Result<Option<&'a Path>, ToolError> {
    match path {
        Some(path) if !path.exists() => {
            Err(ToolError::Request(format!("{what} is said to be at {}, but nothing is there", path.display())))
        }
        path => Ok(path.map(PathBuf::as_path)),
    }
}

/// The first file of that name in the `PATH` that can be executed.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_absolute() && is_program(path))
}

/// The first file of that name in `path`, in the form of `PATH`, that can be executed, for a process that works in `directory`.
pub(crate) fn program_in(path: &OsStr, directory: &Path, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|each| directory.join(each).join(program)).find(|file| is_program(file))
}

/// Whether it is a file that someone may execute.
pub(super) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Go's and Debian's name for this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Name of a cache entry for this platform.
pub(super) fn entry_name(what: &str, version: &str) -> String {
    format!("{what}-{version}-linux-{}", architecture())
}
