//! Ctrl-C once: stop, collect, clean up, report. Twice: end at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::CliError;
use crate::existing::left_behind;
use crate::exit::Exit;
use crate::say::say;

/// What is left when the program ends at once, and how to remove it. `installed`: the commands that remove the operator from a
/// cluster that was there before.
fn at_once(installed: &[String]) -> String {
    let ended = "ended at once: what the environment's processes do not remove themselves, `conformance clean` does, \
                 and namespaces of scenarios in a cluster that was there before, `conformance clean --namespaces`";
    if installed.is_empty() {
        return ended.to_owned();
    }
    let commands = installed.join("\n  ");
    format!("{ended}\nthe operator that was installed there may still be there, and is removed by\n  {commands}")
}

/// A token that the first SIGINT, SIGTERM or SIGHUP (a terminal that was closed) cancels. The second one ends the process.
pub fn watch() -> Result<CancellationToken, CliError> {
    let listen = |kind| {
        signal(kind).map_err(|error| CliError::new(Exit::Environment, format!("signals cannot be received: {error}")))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hangup = listen(SignalKind::hangup())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        };
        next().await;
        cancelled.cancel();
        say("interrupted: cleaning up (once more: end at once)");
        next().await;
        say(&at_once(&left_behind()));
        std::process::exit(i32::from(Exit::Interrupted as u8));
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_at_once_is_told_what_removes_the_rest() {
        let installed = ["helm uninstall theirs --namespace system".to_owned(), "kubectl delete crd x".to_owned()];
        insta::assert_snapshot!([at_once(&[]), at_once(&installed)].join("\n---\n"), @r"
        ended at once: what the environment's processes do not remove themselves, `conformance clean` does, and namespaces of scenarios in a cluster that was there before, `conformance clean --namespaces`
        ---
        ended at once: what the environment's processes do not remove themselves, `conformance clean` does, and namespaces of scenarios in a cluster that was there before, `conformance clean --namespaces`
        the operator that was installed there may still be there, and is removed by
          helm uninstall theirs --namespace system
          kubectl delete crd x
        ");
    }
}
