//! What client and supervisor say to each other: JSON lines over a Unix socket.
//!
//! The client asks, the supervisor answers in the same order. A connection may hold one lease, which ends with it.

use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::failure::StartError;
use super::fingerprint::Fingerprint;
use crate::environment::{
    AuditLog, Capabilities, Container, Database, DatabaseRequest, Description, EnvironmentError, Fault, FaultId,
    LeaseRequest, OperatorState,
};
use crate::tools;

/// Version of this protocol. Both sides are the same binary almost always; after an update they may not be.
pub(super) const VERSION: u32 = 1;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Request {
    /// The first one on every connection.
    Hello {
        /// The client's [`VERSION`].
        version: u32,
    },
    /// Builds the operator again, once for each `run`, and says whether it is still the one that runs.
    Refresh {
        /// Names the test run that asks.
        run: String,
    },
    /// Waits for a site.
    Lease(LeaseRequest),
    /// Injects a fault (needs a lease, like all that follow up to `Operator`).
    Inject { namespace: String, fault: Fault },
    /// Clears a fault.
    Clear(FaultId),
    /// Makes a database.
    Database { namespace: String, request: DatabaseRequest },
    /// Reads a container's log.
    Logs(Container),
    /// Asks for the state of the operator under test.
    Operator,
    /// Asks who uses the environment.
    Usage,
    /// Ends the environment.
    Shutdown,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reply {
    Hello(Box<Hello>),
    Refreshed { changed: bool },
    Lease(Box<Granted>),
    Fault(FaultId),
    Database(Box<Database>),
    Logs(String),
    Operator(OperatorState),
    Usage(Usage),
    Done,
    Error(EnvironmentError),
}

/// Who answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hello {
    pub version: u32,
    pub description: Description,
    pub capabilities: Capabilities,
    pub fingerprint: Fingerprint,
}

/// A lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The hosts file of that control plane; none: what is in it is reached through its API server.
    pub hosts: Option<PathBuf>,
    /// `$env`.
    pub bindings: Value,
    /// Values in the bindings that are secret.
    pub secrets: Vec<String>,
    /// The audit log of that control plane, where there is one.
    pub audit_log: Option<AuditLog>,
}

/// Who uses the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Scenarios that hold a lease or wait for one.
    pub scenarios: Vec<String>,
    /// Control planes that run, the shared one included.
    pub control_planes: usize,
    /// Pid of the supervisor.
    pub pid: u32,
}

/// What the supervisor tells on standard output while it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Announcement {
    /// Something takes long.
    Progress(tools::Event),
    /// It can be used.
    Ready {
        /// Its socket.
        socket: PathBuf,
    },
    /// It could not start.
    Failed(StartError),
}

/// Writes one line.
pub(super) async fn send<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// Reads one line; `None` at the end of the stream.
pub(super) async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<T>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_one_line() {
        let request = Request::Inject {
            namespace: "a\nb".to_owned(),
            fault: Fault::HoldSecret { cluster: "demo".to_owned(), keys: vec!["uri".to_owned()] },
        };
        let mut wire = Vec::new();
        send(&mut wire, &request).await.unwrap();
        send(&mut wire, &Request::Operator).await.unwrap();
        assert_eq!(String::from_utf8(wire.clone()).unwrap().lines().count(), 2);
        let mut stream = wire.as_slice();
        assert_eq!(receive::<Request>(&mut stream).await.unwrap(), Some(request));
        assert_eq!(receive::<Request>(&mut stream).await.unwrap(), Some(Request::Operator));
        assert_eq!(receive::<Request>(&mut stream).await.unwrap(), None);
    }

    #[test]
    fn requests_are_named_as_documented() {
        let text = |request: &Request| serde_json::to_string(request).unwrap();
        assert_eq!(text(&Request::Hello { version: 1 }), r#"{"hello":{"version":1}}"#);
        assert_eq!(text(&Request::Shutdown), r#""shutdown""#);
    }
}
