//! The client's side of a connection.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::process::LOG;
use super::protocol::{Hello, Reply, Request, VERSION, receive, send};
use crate::environment::EnvironmentError;

/// A connection to a supervisor. It is closed, and a lease with it given back, when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    questions: mpsc::Sender<(Request, oneshot::Sender<Reply>)>,
    socket: PathBuf,
}

impl Connection {
    /// Connects and says hello.
    pub async fn open(socket: &Path) -> anyhow::Result<(Self, Hello)> {
        let stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("connecting to the supervisor at {}", socket.display()))?;
        let (questions, queue) = mpsc::channel(1);
        // A task of its own: a question whose asker has lost interest is still asked and answered to the end.
        tokio::spawn(converse(stream, queue));
        let connection = Self { questions, socket: socket.to_owned() };
        match connection.ask(Request::Hello { version: VERSION }).await? {
            Reply::Hello(hello) => Ok((connection, *hello)),
            Reply::Error(error) => Err(error.into()),
            other => bail!("the supervisor answered {other:?} to hello"),
        }
    }

    /// Asks and waits for the answer.
    pub async fn ask(&self, request: Request) -> Result<Reply, EnvironmentError> {
        let gone = || EnvironmentError::Broken(ended(&self.socket));
        let (reply, answer) = oneshot::channel();
        self.questions.send((request, reply)).await.map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())? {
            Reply::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }
}

/// What to say of a supervisor that answers no more. One that ended in order has taken its directory along.
fn ended(socket: &Path) -> String {
    let log = socket.with_file_name(LOG);
    if log.exists() {
        let log = log.display();
        return format!("the supervisor has ended; its last words are in {log}, until `conformance clean` removes it");
    }
    "the supervisor has ended, and all that it had started".to_owned()
}

async fn converse(stream: UnixStream, mut queue: mpsc::Receiver<(Request, oneshot::Sender<Reply>)>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Some((request, answer)) = queue.recv().await {
        if send(&mut writer, &request).await.is_err() {
            return;
        }
        let mut answer = answer;
        let reply = tokio::select! {
            reply = receive(&mut reader) => reply,
            // Nobody waits for a lease any more: giving up the connection gives it back.
            () = answer.closed(), if matches!(request, Request::Lease(_)) => return,
        };
        let Ok(Some(reply)) = reply else { return };
        // Whoever asked may be gone.
        let _ = answer.send(reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_supervisor_that_was_killed_is_named() {
        let run = tempfile::tempdir().unwrap();
        let socket = run.path().join("supervisor.sock");
        assert_eq!(ended(&socket), "the supervisor has ended, and all that it had started");
        std::fs::write(run.path().join(LOG), "").unwrap();
        assert!(ended(&socket).contains(&run.path().join(LOG).display().to_string()), "{}", ended(&socket));
    }
}
