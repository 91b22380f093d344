//! The client's side of a connection.

use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Hello, Reply, Request, VERSION, receive, send};
use crate::environment::EnvironmentError;

/// A connection to a supervisor. It is closed, and a lease with it given back, when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    questions: mpsc::Sender<(Request, oneshot::Sender<Reply>)>,
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
        let connection = Self { questions };
        match connection.ask(Request::Hello { version: VERSION }).await? {
            Reply::Hello(hello) => Ok((connection, *hello)),
            Reply::Error(error) => Err(error.into()),
            other => bail!("the supervisor answered {other:?} to hello"),
        }
    }

    /// Asks and waits for the answer.
    pub async fn ask(&self, request: Request) -> Result<Reply, EnvironmentError> {
        let gone = || EnvironmentError::Broken("the supervisor has ended; run `conformance clean`".to_owned());
        let (reply, answer) = oneshot::channel();
        self.questions.send((request, reply)).await.map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())? {
            Reply::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }
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
