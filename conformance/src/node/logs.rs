//! Where the output of containers is kept: `pods/<namespace>_<pod>_<uid>/<container>/<run>.log`, as the kubelet keeps it.
//!
//! The files outlive their pods, and any process that knows the directory can read them.

use std::io;
use std::path::{Path, PathBuf};

/// How much of its log the termination message of a container may be made of: the kubelet's limits.
const TAIL_LINES: usize = 80;
const TAIL_BYTES: usize = 2048;

/// The directory of a pod.
pub(super) fn pod_directory(root: &Path, namespace: &str, pod: &str, uid: &str) -> PathBuf {
    root.join("pods").join(format!("{namespace}_{pod}_{uid}"))
}

/// The logs of a container by name, oldest first: all its runs, also those in earlier pods of that name.
///
/// # Errors
/// A directory cannot be read. That there is none yet is no error.
pub fn files(root: &Path, namespace: &str, pod: &str, container: &str) -> io::Result<Vec<PathBuf>> {
    let prefix = format!("{namespace}_{pod}_");
    let mut pods = Vec::new();
    for directory in entries(&root.join("pods"))? {
        if directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
            // Nothing is made in it after the pod's start, so this is when the pod started.
            pods.push((directory.metadata()?.modified()?, directory.join(container)));
        }
    }
    pods.sort();
    let mut files = Vec::new();
    for (_, directory) in pods {
        let run = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".log")?.parse::<u32>().ok();
        let mut runs: Vec<_> = entries(&directory)?.into_iter().filter_map(|path| Some((run(&path)?, path))).collect();
        runs.sort();
        files.extend(runs.into_iter().map(|(_, path)| path));
    }
    Ok(files)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The end of a log, as `terminationMessagePolicy: FallbackToLogsOnError` shows it.
pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let text = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_runs_are_found_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let make = |uid: &str, run: u32| {
            let directory = pod_directory(root.path(), "a", "demo-0", uid).join("main");
            std::fs::create_dir_all(&directory).unwrap();
            let file = directory.join(format!("{run}.log"));
            std::fs::write(&file, "").unwrap();
            file
        };
        let later = std::time::SystemTime::now() + std::time::Duration::from_mins(1);
        let second = make("u1", 0);
        std::fs::File::open(pod_directory(root.path(), "a", "demo-0", "u1")).unwrap().set_modified(later).unwrap();
        let first = [make("u2", 0), make("u2", 9), make("u2", 10)];
        make("u3", 0).with_file_name("core").metadata().unwrap_err();
        std::fs::File::open(pod_directory(root.path(), "a", "demo-0", "u3"))
            .unwrap()
            .set_modified(later + std::time::Duration::from_secs(1))
            .unwrap();
        std::fs::rename(
            pod_directory(root.path(), "a", "demo-0", "u3"),
            pod_directory(root.path(), "a", "demo-00", "u3"),
        )
        .unwrap();

        let found = files(root.path(), "a", "demo-0", "main").unwrap();
        assert_eq!(found, [first.as_slice(), &[second]].concat());
        assert_eq!(files(root.path(), "a", "demo-0", "other").unwrap(), Vec::<PathBuf>::new());
        assert_eq!(files(Path::new("/nonexistent"), "a", "b", "c").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_bytes() {
        let lines: Vec<String> = (0..100).map(|line| line.to_string()).collect();
        let tailed = tail(&lines.join("\n"));
        assert_eq!((tailed.lines().next(), tailed.lines().last()), (Some("20"), Some("99")));
        assert_eq!(tail(&"é".repeat(2000)).len(), TAIL_BYTES);
        assert_eq!(tail("a\nb\n"), "a\nb");
    }
}
