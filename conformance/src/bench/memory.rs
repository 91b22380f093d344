//! How much memory a tree of processes needs, looked at while it runs.
//!
//! What counts is the proportional set size (`Pss` of `/proc/PID/smaps_rollup`, proc(5)): pages that PostgreSQL's backends
//! share count once. Files in tmpfs that nobody maps are not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::process::procfs;

/// How often is looked. Reading costs the machine about a millisecond for each process.
const PERIOD: Duration = Duration::from_millis(250);

/// The moment in which most memory was needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Of all processes together, in bytes.
    pub bytes: u64,
    /// How many processes there were.
    pub processes: usize,
    /// In that moment by name of the program, in bytes.
    pub programs: BTreeMap<String, u64>,
}

/// Looks at this process and all its descendants until it is asked for the result.
#[derive(Debug)]
pub struct Sampler {
    stop: CancellationToken,
    task: JoinHandle<Memory>,
}

impl Sampler {
    /// Begins.
    pub fn start() -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut peak = Memory::default();
            let mut period = tokio::time::interval(PERIOD);
            period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // Also once when it is stopped, so that a short time is looked at too.
            let mut on = true;
            while on {
                on = stopped.run_until_cancelled(period.tick()).await.is_some();
                let now = tokio::task::spawn_blocking(now).await.unwrap_or_default();
                if now.bytes > peak.bytes {
                    peak = now;
                }
            }
            peak
        });
        Self { stop, task }
    }

    /// Ends, and tells the peak.
    pub async fn peak(self) -> Memory {
        self.stop.cancel();
        self.task.await.unwrap_or_default()
    }
}

/// What is needed now.
fn now() -> Memory {
    let parents: Vec<(u32, u32)> = procfs::pids().filter_map(|pid| Some((pid, procfs::parent(pid)?))).collect();
    let mut memory = Memory::default();
    for pid in tree(std::process::id(), &parents) {
        // It may be gone by now.
        let Some((name, bytes)) = procfs::name(pid).zip(procfs::proportional_set_size(pid)) else { continue };
        memory.bytes += bytes;
        memory.processes += 1;
        *memory.programs.entry(name).or_default() += bytes;
    }
    memory
}

/// `root` and its descendants.
fn tree(root: u32, parents: &[(u32, u32)]) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        found.extend(
            parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_holds_all_descendants_and_nobody_else() {
        assert_eq!(tree(3, &[(3, 1), (5, 4), (4, 3), (6, 1), (7, 6)]), [3, 4, 5].into());
    }

    #[tokio::test]
    async fn this_process_needs_memory() {
        let sampler = Sampler::start();
        let mut child = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
        let with_child = tokio::task::spawn_blocking(now).await.unwrap();
        assert!(with_child.programs.contains_key("sleep"), "{with_child:?}");
        assert!(with_child.processes >= 2 && with_child.bytes > 100_000, "{with_child:?}");
        child.kill().await.unwrap();
        assert!(sampler.peak().await.bytes > 100_000);
    }
}
