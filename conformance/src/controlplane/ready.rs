//! Waiting for a component, and saying why it did not come up.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;

use crate::process::Process;

/// How long between two attempts to reach a server that does not listen yet: nothing announces that it does.
const ATTEMPT_EVERY: Duration = Duration::from_millis(25);

/// The last `lines` lines of a log, redacted. Reads at most 64 KiB from its end.
pub fn tail(path: &Path, lines: usize) -> io::Result<String> {
    const REACH: u64 = 64 * 1024;
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(REACH)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(crate::redact::redact(&all[all.len().saturating_sub(lines)..].join("\n")))
}

/// Tries `attempt` until it succeeds, the process ends or `deadline` has passed.
///
/// # Errors
/// Names the process, what the last attempt said, and the end of `log`.
pub async fn ready<T, F>(
    process: &Process,
    log: &Path,
    deadline: Duration,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut last = None;
    let attempts = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(ATTEMPT_EVERY).await;
        }
    };
    let reason = tokio::select! {
        biased;
        status = process.wait() => format!("it ended with {status}"),
        outcome = tokio::time::timeout(deadline, attempts) => match outcome {
            Ok(value) => return Ok(value),
            Err(_) => match last {
                Some(error) => format!("it was not ready within {} s: {error:#}", deadline.as_secs()),
                None => format!("it gave no answer within {} s", deadline.as_secs()),
            },
        },
    };
    Err(failure(process.name(), log, &reason))
}

/// An error about a component with the end of its log.
pub(super) fn failure(name: &str, log: &Path, reason: &str) -> anyhow::Error {
    const LINES: usize = 15;
    match tail(log, LINES) {
        Ok(lines) if !lines.is_empty() => anyhow!("{name}: {reason}; the end of {}:\n{lines}", log.display()),
        Ok(_) => anyhow!("{name}: {reason}; it wrote nothing to {}", log.display()),
        Err(error) => anyhow!("{name}: {reason}; its log {} cannot be read: {error}", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_without_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        crate::redact::register("hunter2-hunter2");
        std::fs::write(&path, "one\ntwo\npassword hunter2-hunter2\n").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), "two\npassword <redacted>");
    }
}
