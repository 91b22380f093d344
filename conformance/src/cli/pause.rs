//! `--pause-on-failure`: a person looks at what has failed while everything is still there.

use std::fmt::Write as _;
use std::io::BufRead as _;

use tokio::sync::mpsc;

use crate::engine::Paused;
use crate::inert::inert;

/// Shows each pause and ends it when the person presses Enter, one after the other.
pub(super) fn listen() -> mpsc::Sender<Paused> {
    let (sender, mut pauses) = mpsc::channel::<Paused>(1);
    tokio::spawn(async move {
        // Standard input is read from the first pause on, and by nobody before.
        let mut lines = None;
        while let Some(paused) = pauses.recv().await {
            let lines = lines.get_or_insert_with(lines_of_standard_input);
            // What was typed before is no answer to this.
            while lines.try_recv().is_ok() {}
            anstream::eprint!("{}", text(&paused));
            if lines.recv().await.is_none() {
                anstream::eprintln!("standard input is closed: going on");
            }
            // The scenario may have been interrupted meanwhile.
            let _ = paused.resume.send(());
        }
    });
    sender
}

fn lines_of_standard_input() -> mpsc::Receiver<()> {
    let (sender, lines) = mpsc::channel(16);
    // Reading cannot be stopped; the thread ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || sender.blocking_send(()).is_err() {
                return;
            }
        }
    });
    lines
}

fn text(paused: &Paused) -> String {
    let mut text = format!("\npaused: {} did not pass, and everything is still there\n", paused.scenario);
    if let Some(reason) = paused.reason.as_deref().and_then(|reason| reason.lines().next()) {
        let _ = writeln!(text, "  why        {}", inert(reason));
    }
    let _ = writeln!(text, "  namespace  {}", paused.namespace);
    if let Some(kubeconfig) = &paused.kubeconfig {
        let _ = writeln!(text, "  look       conformance env shell --kubeconfig {}", kubeconfig.display());
        let _ = writeln!(text, "             kubectl -n {} get all", paused.namespace);
    }
    text + "  go on      Enter; Ctrl-C ends the run\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_says_how_to_look() {
        let (resume, _) = tokio::sync::oneshot::channel();
        insta::assert_snapshot!(text(&Paused {
            scenario: "gate/secret".to_owned(),
            reason: Some("StatefulSet demo exists\nand more".to_owned()),
            namespace: "gate-secret-1".to_owned(),
            kubeconfig: Some("/tmp/run/kubeconfig".into()),
            resume,
        }));
    }
}
