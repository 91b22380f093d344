//! Removing what dead runs have left: processes, directories, shared memory.
//!
//! A live run is never touched. What is killed is identified first: by the run's marker in its environment, by a working
//! directory inside of the run's, or by pid and start time in the run's state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::RUN_VARIABLE;
use super::procfs::{self, Identity};
use super::run::{self, Found, RunError};
use super::shared_memory;

/// How long killed processes have to disappear. The kernel needs milliseconds, unless one hangs in a dead file system.
pub const DISAPPEAR: Duration = Duration::from_secs(10);

/// Killed processes may have started others meanwhile: so often is looked again.
const ROUNDS: usize = 5;

/// What a sweep has removed, and what it could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Ids of the dead runs that were removed.
    pub runs: Vec<String>,
    /// Processes that were killed, each with its command.
    pub processes: Vec<(u32, String)>,
    /// Segments of System V shared memory that were removed.
    pub shared_memory: Vec<u32>,
    /// What is still there, each as a sentence with what to do.
    pub left: Vec<String>,
}

impl Swept {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return formatter.write_str("nothing to clean up");
        }
        write!(formatter, "removed {} dead run(s)", self.runs.len())?;
        if !self.runs.is_empty() {
            write!(formatter, " ({})", self.runs.join(", "))?;
        }
        write!(formatter, ", {} process(es)", self.processes.len())?;
        if !self.shared_memory.is_empty() {
            write!(formatter, ", {} segment(s) of shared memory", self.shared_memory.len())?;
        }
        self.left.iter().try_for_each(|left| write!(formatter, "\nleft: {left}"))
    }
}

/// Removes every dead run under `base` (see [`super::default_base`]) and all that belongs to it.
///
/// Blocks: for ten seconds at most, when a killed process does not end, and while another process sweeps.
///
/// # Errors
/// The directory cannot be used at all. What merely could not be removed is in [`Swept::left`].
pub fn sweep(base: &Path) -> Result<Swept, RunError> {
    let mut swept = Swept::default();
    if !base.exists() {
        return Ok(swept);
    }
    let _lock = run::lock(base)?;
    let dead: Vec<Found> = run::list(base)?.into_iter().filter(|run| !run.is_alive()).collect();
    if dead.is_empty() {
        return Ok(swept);
    }
    bury(&dead, &mut swept);
    Ok(swept)
}

/// Ends what still belongs to runs whose supervisor has ended, or is about to, and removes their directories.
pub(super) fn bury(dead: &[Found], swept: &mut Swept) {
    kill_all(dead, swept);
    for run in dead {
        let memory = shared_memory::remove(&run.directory);
        swept.shared_memory.extend(memory.removed);
        swept.left.extend(memory.left);
        match run::remove_tree(&run.directory) {
            Ok(()) => swept.runs.push(run.id().to_owned()),
            Err(error) => swept.left.push(format!("{}: {error}; remove it by hand", run.directory.display())),
        }
    }
}

fn kill_all(dead: &[Found], swept: &mut Swept) {
    let deadline = Instant::now() + DISAPPEAR;
    for _ in 0..ROUNDS {
        let victims = victims(dead);
        if victims.is_empty() {
            return;
        }
        for victim in &victims {
            match pidfd_send_signal(&victim.handle, Signal::KILL) {
                Ok(()) => swept.processes.push((victim.pid, victim.command.clone())),
                Err(error) => tracing::debug!(pid = victim.pid, %error, "cannot kill"),
            }
        }
        for Victim { pid, command, handle } in victims {
            if !gone(&handle, deadline) {
                swept
                    .left
                    .push(format!("process {pid} ({command}) does not end after SIGKILL; see `ps -o stat {pid}`"));
            }
        }
    }
}

/// A process that belongs to a dead run. The handle names it for good: its pid may be used again, the handle not.
struct Victim {
    pid: u32,
    command: String,
    handle: OwnedFd,
}

fn victims(dead: &[Found]) -> Vec<Victim> {
    let spared = ancestry(std::process::id());
    let ids: BTreeSet<&str> = dead.iter().map(Found::id).collect();
    let recorded: BTreeMap<u32, Identity> = dead
        .iter()
        .filter_map(|run| run.state.as_ref())
        .flat_map(|state| &state.children)
        .map(|child| (child.identity.pid, child.identity))
        .collect();
    let belongs = |pid: u32| {
        procfs::variable(pid, RUN_VARIABLE).is_some_and(|id| ids.contains(id.as_str()))
            || recorded.get(&pid).is_some_and(Identity::is_alive)
            // Someone who looks around in the directory from a terminal is not ours.
            || (!procfs::has_terminal(pid)
                && procfs::working_directory(pid)
                    .is_some_and(|directory| dead.iter().any(|run| directory.starts_with(&run.directory))))
    };
    procfs::pids()
        .filter(|pid| !spared.contains(pid))
        .filter_map(|pid| {
            let handle = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::NONBLOCK).ok()?;
            // Asked after the handle is open: the answers are about the process that the handle names.
            (Identity::of(pid).is_some() && belongs(pid)).then(|| Victim { pid, command: command(pid), handle })
        })
        .collect()
}

/// A process and all its parents: whoever cleans up from a shell of the dead run keeps the shell.
fn ancestry(pid: u32) -> BTreeSet<u32> {
    std::iter::successors(Some(pid), |pid| procfs::parent(*pid).filter(|parent| *parent > 1)).collect()
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Waits until the process has ended (its pidfd becomes readable then); `false` when the deadline came first.
fn gone(handle: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap_or_default();
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::debug!(%error, "cannot wait for a process to end");
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_was_removed_and_what_is_left() {
        assert_eq!(Swept::default().to_string(), "nothing to clean up");
        let swept = Swept {
            runs: vec!["0a1b2c3d".to_owned()],
            processes: vec![(7, "etcd".to_owned()), (8, "postgres".to_owned())],
            shared_memory: vec![5],
            left: vec!["/tmp/x: denied; remove it by hand".to_owned()],
        };
        insta::assert_snapshot!(swept, @r"
        removed 1 dead run(s) (0a1b2c3d), 2 process(es), 1 segment(s) of shared memory
        left: /tmp/x: denied; remove it by hand
        ");
    }
}
