//! The shared memory that a killed PostgreSQL leaves behind.
//!
//! It keeps one small segment of System V shared memory per data directory, whose key and id are in `postmaster.pid`. A
//! server that ends by itself removes it; after a SIGKILL it stays until the machine is restarted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What became of the segments that were found.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Ids of those that were removed.
    pub(super) removed: Vec<u32>,
    /// Those that could not be removed, each as a sentence with what to do.
    pub(super) left: Vec<String>,
}

/// Removes the segments of all data directories below `directory` whose servers were killed.
pub(super) fn remove(directory: &Path) -> Removed {
    let mut result = Removed::default();
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    for file in files_named(directory, "postmaster.pid") {
        let Some(segment) = fs::read_to_string(file).ok().as_deref().and_then(segment_of) else { continue };
        if !is_unused(&table, segment) {
            continue;
        }
        let id = segment.id.to_string();
        match Command::new("ipcrm").args(["-m", &id]).output() {
            Ok(output) if output.status.success() => result.removed.push(segment.id),
            Ok(_) | Err(_) => result.left.push(format!("shared memory of a killed PostgreSQL; run `ipcrm -m {id}`")),
        }
    }
    result
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    key: u32,
    id: u32,
}

/// Line 7 of `postmaster.pid` holds key and id of the segment (`src/include/utils/pidfile.h`). The key is a signed number
/// of 32 bits that is printed as an unsigned one of 64.
fn segment_of(pid_file: &str) -> Option<Segment> {
    let mut words = pid_file.lines().nth(6)?.split_ascii_whitespace();
    let key: u64 = words.next()?.parse().ok()?;
    Some(Segment { key: u32::try_from(key & u64::from(u32::MAX)).ok()?, id: words.next()?.parse().ok()? })
}

/// Whether the kernel's table has that very segment, with nobody attached. Its columns begin with key and shmid, the
/// seventh is nattch; keys are printed signed.
fn is_unused(table: &str, segment: Segment) -> bool {
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [key, id, _, _, _, _, attached, ..] = columns.as_slice() else { return false };
        key.parse::<i32>().map(i32::cast_unsigned) == Ok(segment.key)
            && id.parse() == Ok(segment.id)
            && *attached == "0"
    })
}

fn files_named(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory {
                open.push(entry.path());
            } else if entry.file_name() == name {
                found.push(entry.path());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
   3344882          5   600                    56 20001 20002      0 65534 65534 65534 65534 1795507248 1795507249 1795507247                  4096                     0
-1094795586          6   600                    56 20003 20004      6 65534 65534 65534 65534 1795507248          0 1795507247                  4096                     0
";

    #[test]
    fn the_segment_stands_in_line_7_of_the_pid_file() {
        let file = "20001\n/data\n1795507247\n5432\n/run\n127.0.0.2\n  3344882         5\nready   \n";
        assert_eq!(segment_of(file), Some(Segment { key: 3_344_882, id: 5 }));
        let negative = file.replace("3344882", "18446744072614756030");
        assert_eq!(segment_of(&negative), Some(Segment { key: (-1_094_795_586_i32).cast_unsigned(), id: 5 }));
        assert_eq!(segment_of("20001\n/data\n"), None);
    }

    #[test]
    fn only_a_segment_without_users_is_unused() {
        assert!(is_unused(TABLE, Segment { key: 3_344_882, id: 5 }));
        assert!(!is_unused(TABLE, Segment { key: 1, id: 5 }), "the id belongs to someone else now");
        assert!(!is_unused(TABLE, Segment { key: (-1_094_795_586_i32).cast_unsigned(), id: 6 }), "in use");
    }
}
