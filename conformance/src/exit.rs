//! Exit codes: what a script may rely on.
//!
//! Base layer.

use std::fmt;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// Why the program ends as it does. `conformance help exit-codes` prints this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Exit {
    /// Everything that was asked for was done, and no scenario failed.
    Ok = 0,
    /// At least one scenario failed: the implementation under test is not as claimed.
    Failed = 1,
    /// The command line or a scenario file is wrong; nothing was started.
    Usage = 2,
    /// The environment failed: nothing is said about the implementation under test.
    Environment = 3,
    /// The filter selects no scenario.
    NothingSelected = 4,
    /// A program that is needed cannot be found, fetched or built.
    MissingTool = 5,
    /// `--no-skips`: a scenario was skipped that is not in the list of allowed skips, or a skip that is in it was not needed.
    Skipped = 6,
    /// A report cannot be written.
    Report = 7,
    /// A file in the cache, or a download, is not what its digest says.
    Digest = 8,
    /// The disk is full.
    DiskFull = 9,
    /// A port that the environment needs is in use.
    PortInUse = 10,
    /// The implementation under test cannot be built, installed or started.
    Implementation = 11,
    /// Interrupted (SIGINT, SIGTERM or SIGHUP).
    Interrupted = 130,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::Environment,
        Self::NothingSelected,
        Self::MissingTool,
        Self::Skipped,
        Self::Report,
        Self::Digest,
        Self::DiskFull,
        Self::PortInUse,
        Self::Implementation,
        Self::Interrupted,
    ];

    /// What it means, in one line.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "everything that was asked for was done, and no scenario failed",
            Self::Failed => "a scenario failed: the implementation under test is not as claimed",
            Self::Usage => "the command line or a scenario file is wrong; nothing was started",
            Self::Environment => "the environment failed: nothing is said about the implementation under test",
            Self::NothingSelected => "the filter selects no scenario",
            Self::MissingTool => "a program that is needed cannot be found, fetched or built",
            Self::Skipped => {
                "with --no-skips: a skip is not in the list of allowed skips, or one in that list was not needed"
            }
            Self::Report => "a report cannot be written",
            Self::Digest => "a file in the cache, or a download, is not what its digest says",
            Self::DiskFull => "the disk is full",
            Self::PortInUse => "a port that the environment needs is in use",
            Self::Implementation => "the implementation under test cannot be built, installed or started",
            Self::Interrupted => "interrupted (SIGINT, SIGTERM or SIGHUP)",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}  {}", *self as u8, self.meaning())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_complete_and_in_order() {
        let numbers: Vec<u8> = Exit::ALL.into_iter().map(|exit| exit as u8).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 130]);
    }
}
