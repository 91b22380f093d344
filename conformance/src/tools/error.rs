//! Why a tool cannot be had.

use std::io;
use std::path::PathBuf;

use crate::process::SpawnError;

/// A tool cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is nowhere to be found, and cannot be fetched or built here. The capability that needs it is absent.
    #[error("{what} is not available: {reason}; {remedy}")]
    Unavailable {
        /// The tool.
        what: String,
        /// What was tried, and how it ended.
        reason: String,
        /// What a person can do.
        remedy: String,
    },
    /// A file in the cache is not what was put there. Never healed silently: someone should know.
    #[error(
        "the cache entry {} is damaged: {file} {found}, but its manifest says {expected}; remove the entry with `rm -r {}`, it will be made again",
        entry.display(), entry.display()
    )]
    Damaged {
        /// Directory of the entry.
        entry: PathBuf,
        /// The file, relative to it.
        file: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A download is not what its digest says.
    #[error("{url} has the digest {found}, but versions.toml says {expected}; nothing of it was kept")]
    Digest {
        /// What was downloaded.
        url: String,
        /// Its digest.
        found: String,
        /// The digest that it should have.
        expected: String,
    },
    /// A file or directory of the cache cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A command that finds, fetches or builds could not be run to its end.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The user asked for something that does not exist.
    #[error("{0}")]
    Request(String),
}

impl ToolError {
    /// Whether only the tool is missing: its capability is absent, and all others go on.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
