//! The supervisor's side of a connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::host::{Host, Lease};
use super::protocol::{Hello, Reply, Request, Usage, VERSION, receive, send};
use crate::environment::{EnvironmentError, Isolation, LeaseRequest};
use crate::implementation::Unusable;

/// What all connections share.
pub(super) struct Service {
    host: Arc<dyn Host>,
    hello: Hello,
    /// Scenarios that hold a lease or wait for one, by the number of their connection.
    users: watch::Sender<BTreeMap<u64, String>>,
    connections: AtomicU64,
    /// Test runs for which the operator was built again, and whether it had changed then.
    refreshed: tokio::sync::Mutex<BTreeMap<String, bool>>,
    shutdown: CancellationToken,
}

impl Service {
    /// `shutdown` is cancelled when a client asks for the end.
    pub fn new(host: Arc<dyn Host>, hello: Hello, shutdown: CancellationToken) -> Self {
        Self {
            host,
            hello,
            users: watch::Sender::default(),
            connections: AtomicU64::new(0),
            refreshed: tokio::sync::Mutex::default(),
            shutdown,
        }
    }

    /// Tells when nobody uses the environment.
    pub fn users(&self) -> watch::Receiver<BTreeMap<u64, String>> {
        self.users.subscribe()
    }

    /// Serves one connection until it is closed, and then undoes what was done through it.
    pub async fn serve(self: Arc<Self>, stream: UnixStream) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let mut lease: Option<Box<dyn Lease>> = None;
        let mut greeted = false;
        // An error is a client that went away, or one that does not speak this protocol: either way it is over.
        while let Ok(Some(request)) = receive::<Request>(&mut reader).await {
            let reply = match request {
                Request::Hello { version } => {
                    greeted = version == VERSION;
                    if greeted { Reply::Hello(Box::new(self.hello.clone())) } else { other_version(version) }
                }
                _ if !greeted => refuse("the first request must be hello"),
                Request::Lease(_) if lease.is_some() => refuse("a connection holds one lease at most"),
                Request::Lease(request) => {
                    match self.lease(number, &request, &mut reader).await {
                        Some(Ok(taken)) => Reply::Lease(Box::new(lease.insert(taken).granted())),
                        Some(Err(error)) => Reply::Error(Unusable::or_broken(error)),
                        // The client has gone while it waited.
                        None => break,
                    }
                }
                other => {
                    let broken = lease.as_ref().map(|lease| lease.broken());
                    tokio::select! {
                        biased;
                        reply = refused(broken) => reply,
                        reply = self.answer(other, lease.as_mut()) => reply,
                    }
                }
            };
            if send(&mut writer, &reply).await.is_err() {
                break;
            }
        }
        if let Some(lease) = lease {
            lease.end().await;
        }
        self.users.send_if_modified(|users| users.remove(&number).is_some());
    }

    async fn answer(&self, request: Request, lease: Option<&mut Box<dyn Lease>>) -> Reply {
        match (request, lease) {
            (Request::Inject { namespace, fault }, Some(lease)) => {
                lease.inject(namespace, fault).await.map_or_else(Reply::Error, Reply::Fault)
            }
            (Request::Clear(id), Some(lease)) => lease.clear(&id).await.map_or_else(Reply::Error, |()| Reply::Done),
            (Request::Database { namespace, request }, Some(lease)) => lease
                .database(&namespace, &request)
                .await
                .map_or_else(Reply::Error, |database| Reply::Database(Box::new(database))),
            (Request::Logs(container), Some(lease)) => {
                lease.logs(&container).await.map_or_else(Reply::Error, Reply::Logs)
            }
            (Request::Operator, Some(lease)) => lease.operator().await.map_or_else(Reply::Error, Reply::Operator),
            (Request::Refresh { run }, _) => match self.refresh(run).await {
                Ok(changed) => Reply::Refreshed { changed },
                Err(error) => refuse(&format!("{error:#}")),
            },
            (Request::Usage, _) => Reply::Usage(Usage {
                scenarios: self.users.borrow().values().cloned().collect(),
                control_planes: self.host.control_planes(),
                pid: std::process::id(),
            }),
            (Request::Shutdown, _) => {
                self.shutdown.cancel();
                Reply::Done
            }
            (Request::Hello { .. } | Request::Lease(_), _) => refuse("unexpected request"),
            (_, None) => refuse("this request needs a lease"),
        }
    }

    /// Waits for leave and for the control plane; `None` when the client went away meanwhile.
    async fn lease(
        &self,
        number: u64,
        request: &LeaseRequest,
        reader: &mut BufReader<OwnedReadHalf>,
    ) -> Option<anyhow::Result<Box<dyn Lease>>> {
        self.users.send_modify(|users| drop(users.insert(number, request.scenario.clone())));
        let isolation = self.host.isolation(request);
        let leave = async {
            match isolation {
                Isolation::Operator if request.aside => self.host.lanes().enter_aside().await,
                isolation => self.host.lanes().enter(isolation).await,
            }
        };
        let permit = tokio::select! {
            biased;
            error = self.host.broken(), if request.isolation != Isolation::Cluster => return Some(Err(error)),
            permit = leave => permit,
            () = closed(reader) => return None,
        };
        Some(self.host.lease(number, request, permit).await)
    }

    /// Builds the operator again, once for each test run; whether it has changed since it was started.
    async fn refresh(&self, run: String) -> anyhow::Result<bool> {
        let mut refreshed = self.refreshed.lock().await;
        if let Some(changed) = refreshed.get(&run) {
            return Ok(*changed);
        }
        let changed = self.host.refresh().await?;
        refreshed.insert(run, changed);
        Ok(changed)
    }

    /// Waits until what scenarios share has broken down.
    pub async fn broken(&self) -> anyhow::Error {
        self.host.broken().await
    }

    /// Ends everything.
    pub async fn end(&self) {
        self.host.end().await;
    }
}

/// The answer when a control plane has broken down.
async fn refused(broken: Option<BoxFuture<'static, anyhow::Error>>) -> Reply {
    match broken {
        Some(broken) => refuse(&format!("{:#}", broken.await)),
        None => std::future::pending().await,
    }
}

/// Returns when the client has closed the connection. What it sends meanwhile stays unread.
async fn closed(reader: &mut BufReader<OwnedReadHalf>) {
    match reader.fill_buf().await {
        Ok([]) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

fn refuse(message: &str) -> Reply {
    Reply::Error(EnvironmentError::Broken(message.to_owned()))
}

fn other_version(version: u32) -> Reply {
    refuse(&format!(
        "the running environment speaks version {VERSION} and this program version {version}; end it with \
         `conformance env down`"
    ))
}
