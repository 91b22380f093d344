//! The supervisor's side of a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lanes::Lanes;
use super::lease::Lease;
use super::protocol::{Granted, Hello, Reply, Request, Usage, VERSION, receive, send};
use super::settings::FileStamp;
use super::shared::Shared;
use super::stack::Stack;
use crate::controlplane::Components;
use crate::environment::{EnvironmentError, Isolation, LeaseRequest};

/// What all connections share.
pub(super) struct Service {
    shared: Arc<Shared>,
    stack: Arc<Stack>,
    lanes: Lanes,
    hello: Hello,
    /// Scenarios that hold a lease or wait for one, by the number of their connection.
    users: watch::Sender<BTreeMap<u64, String>>,
    connections: AtomicU64,
    /// Test runs for which the operator was built again, and the version that runs.
    refreshed: tokio::sync::Mutex<BTreeSet<String>>,
    program: Option<FileStamp>,
    /// Control planes of scenarios' own, to be ended with everything else.
    own: Mutex<BTreeMap<u64, Arc<Stack>>>,
    shutdown: CancellationToken,
}

impl Service {
    /// `shutdown` is cancelled when a client asks for the end.
    pub fn new(shared: Arc<Shared>, stack: Arc<Stack>, hello: Hello, shutdown: CancellationToken) -> Self {
        Self {
            lanes: Lanes::new(shared.settings.own_control_planes),
            program: FileStamp::of(&shared.prepared.program()).ok(),
            shared,
            stack,
            hello,
            users: watch::Sender::default(),
            connections: AtomicU64::new(0),
            refreshed: tokio::sync::Mutex::default(),
            own: Mutex::default(),
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
        let mut lease = None;
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
                        Some(Ok((granted, taken))) => {
                            lease = Some(taken);
                            Reply::Lease(Box::new(granted))
                        }
                        Some(Err(error)) => refuse(&format!("{error:#}")),
                        // The client has gone while it waited.
                        None => break,
                    }
                }
                other => {
                    let components = lease.as_ref().map(|lease: &Lease| lease.stack().plane().components());
                    tokio::select! {
                        biased;
                        reply = broken(components) => reply,
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
        lock(&self.own).remove(&number);
        self.users.send_if_modified(|users| users.remove(&number).is_some());
    }

    async fn answer(&self, request: Request, lease: Option<&mut Lease>) -> Reply {
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
                lease.stack().logs(&container).map_or_else(Reply::Error, Reply::Logs)
            }
            (Request::Operator, Some(lease)) => Reply::Operator(lease.stack().operator().state()),
            (Request::Refresh { run }, _) => match self.refresh(run).await {
                Ok(changed) => Reply::Refreshed { changed },
                Err(error) => refuse(&format!("{error:#}")),
            },
            (Request::Usage, _) => Reply::Usage(Usage {
                scenarios: self.users.borrow().values().cloned().collect(),
                control_planes: 1 + lock(&self.own).len(),
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
    ) -> Option<anyhow::Result<(Granted, Lease)>> {
        self.users.send_modify(|users| drop(users.insert(number, request.scenario.clone())));
        let shared = self.stack.plane().components();
        let permit = tokio::select! {
            biased;
            error = shared.ended(), if request.isolation != Isolation::Cluster => return Some(Err(error)),
            permit = self.lanes.enter(request.isolation) => permit,
            () = closed(reader) => return None,
        };
        let granted = async {
            let stack = match request.isolation {
                Isolation::Namespace | Isolation::Operator => Arc::clone(&self.stack),
                Isolation::Cluster => {
                    let directory = self.shared.spawner.run().directory().join(format!("own-{number}"));
                    let stack = Arc::new(Stack::start(Arc::clone(&self.shared), &directory).await?);
                    lock(&self.own).insert(number, Arc::clone(&stack));
                    stack
                }
            };
            let lease = Lease::new(number, stack, request, permit).await?;
            anyhow::Ok((lease.granted(), lease))
        };
        Some(granted.await)
    }

    /// Builds the operator again, once for each test run; whether it has changed since it was started.
    async fn refresh(&self, run: String) -> anyhow::Result<bool> {
        let mut refreshed = self.refreshed.lock().await;
        if !refreshed.contains(&run) {
            self.shared.rebuild().await?;
            refreshed.insert(run);
        }
        Ok(FileStamp::of(&self.shared.prepared.program()).ok() != self.program)
    }

    /// Waits until the shared control plane has broken down.
    pub async fn broken(&self) -> anyhow::Error {
        self.stack.plane().components().ended().await
    }

    /// Ends all control planes.
    pub async fn end(&self) {
        let own = std::mem::take(&mut *lock(&self.own));
        let own = futures::future::join_all(own.values().map(|stack| stack.stop()));
        tokio::join!(own, self.stack.stop());
    }
}

/// The answer when a control plane has broken down.
async fn broken(components: Option<Components>) -> Reply {
    match components {
        Some(components) => refuse(&format!("{:#}", components.ended().await)),
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
