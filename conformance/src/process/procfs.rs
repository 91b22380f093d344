//! What `/proc` says about processes. Every answer may be out of date by the time it is read, so callers that act on one
//! hold a pidfd first.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

impl Identity {
    /// Looks up who `pid` is now; `None` when it is gone or only waits to be reaped.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start_time: start_time(&stat)? })
    }

    /// This very process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// Whether that process still runs (and has not been replaced by another one with its pid).
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// Start time in a line of `/proc/PID/stat`; `None` for a zombie. The command name in it may hold blanks and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// All pids of the machine that can be seen.
pub fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Value of `variable` in the environment that `pid` was started with. `None` when it has none or may not be read.
pub(super) fn variable(pid: u32, variable: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    value_of(&environment, variable)
}

fn value_of(environment: &[u8], variable: &str) -> Option<String> {
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// Working directory of `pid`. PostgreSQL writes over the memory that holds the environment of its backends, but they
/// all work in the data directory.
pub(super) fn working_directory(pid: u32) -> Option<PathBuf> {
    let link = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    // The kernel adds this to the name of a directory that has been removed.
    match link.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => Some(PathBuf::from(std::ffi::OsStr::from_bytes(path))),
        None => Some(link),
    }
}

/// Parent of `pid`.
pub fn parent(pid: u32) -> Option<u32> {
    number(pid, 4)?.try_into().ok()
}

/// Name of the program that `pid` runs, cut after 15 bytes by the kernel.
pub fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// Memory of `pid` in bytes, shared pages divided by the number of those who share them. `None` when it is gone, or is
/// another user's.
pub fn proportional_set_size(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kibibytes = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?;
    Some(kibibytes.parse::<u64>().ok()? * 1024)
}

/// Whether `pid` has a controlling terminal. None of our children has: they are in sessions of their own.
pub(super) fn has_terminal(pid: u32) -> bool {
    number(pid, 7).is_some_and(|terminal| terminal != 0)
}

/// A numeric field of `/proc/PID/stat`, counted as in proc(5): from 1, the state being the third.
fn number(pid: u32, field: usize) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(field - 3)?.parse().ok()
}

/// Changes at every start of the machine, so that start times of an earlier one are not compared with those of now.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const FIELDS: &str = "1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 12345 678";

    #[rstest]
    #[case::plain("S", "(sleep)", Some(4711))]
    #[case::blanks_and_parentheses("R", "(a) b (c))", Some(4711))]
    #[case::zombie("Z", "(sleep)", None)]
    fn start_time_is_field_22(#[case] state: &str, #[case] name: &str, #[case] expected: Option<u64>) {
        assert_eq!(start_time(&format!("42 {name} {state} {FIELDS}")), expected);
    }

    #[test]
    fn this_process_is_alive_and_a_namesake_is_not() {
        let own = Identity::own();
        assert!(own.is_alive());
        assert!(!Identity { start_time: own.start_time + 1, ..own }.is_alive());
    }

    #[test]
    fn a_variable_is_matched_by_its_whole_name() {
        let environment = b"XRUN=no\0RUN=3f\0RUNNER=no\0";
        assert_eq!(value_of(environment, "RUN").as_deref(), Some("3f"));
        assert_eq!(value_of(environment, "RU"), None);
    }
}
