//! Ctrl-C once: stop, collect, clean up, report. Twice: end at once.

use std::io::Write as _;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::CliError;
use crate::exit::Exit;

/// On a full disk, where `eprintln!` panics, a run must still end.
fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
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
        say(
            "ended at once: what the environment's processes do not remove themselves, `conformance clean` does, and in a \
             cluster that was there before, `conformance clean --namespaces`",
        );
        std::process::exit(i32::from(Exit::Interrupted as u8));
    });
    Ok(token)
}
