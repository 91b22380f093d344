//! What becomes of each request on its way to the API server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::Incoming;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::writes::{Target, Write, target};
use crate::environment::RequestFailure;

/// So often it stops at one kind of write: an operator that begins with the same write each time gets on all the same.
pub(super) const TIMES: u32 = 3;

type Answer = UnsyncBoxBody<Bytes, <Body as hyper::body::Body>::Error>;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Shut,
    /// What comes waits until it is open again.
    Held,
    Failing(RequestFailure),
}

/// What all connections share.
pub(super) struct Way {
    server: Client,
    pub door: watch::Sender<Door>,
    /// `/namespaces/<name>/`, as it stands in the paths of the writes at which it stops; none when it stops at none.
    pub namespace: Option<String>,
    passed: Mutex<BTreeMap<(Method, String), u32>>,
    pub stops: mpsc::UnboundedSender<()>,
    failed: Mutex<Vec<Instant>>,
    /// Whether the next write is to be its last for now.
    pub holds: AtomicBool,
    pub written: Mutex<Vec<Write>>,
    pub lease_written: watch::Sender<bool>,
}

impl Way {
    /// The way to `server`, open; what it stops is told to `stops`.
    pub fn new(server: Client, namespace: Option<&str>, stops: mpsc::UnboundedSender<()>) -> Self {
        Self {
            server,
            door: watch::Sender::new(Door::Open),
            namespace: namespace.map(|namespace| format!("/namespaces/{namespace}/")),
            passed: Mutex::default(),
            stops,
            failed: Mutex::default(),
            holds: AtomicBool::new(false),
            written: Mutex::default(),
            lease_written: watch::Sender::new(false),
        }
    }

    /// Passes a request on, or what else becomes of it.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Answer>> {
        match self.door() {
            Door::Open => {}
            Door::Shut => std::future::pending().await,
            Door::Held => self.released().await,
            Door::Failing(how) => return self.fail(how),
        }
        let (mut head, body) = request.into_parts();
        for of_this_connection in [HOST, CONNECTION] {
            head.headers.remove(of_this_connection);
        }
        let write = self.counted(&head.method, head.uri.path());
        let target = target(&head.method, head.uri.path());
        let asked = Write { at: Instant::now(), what: format!("{} {}", head.method, head.uri.path()) };
        let body = Body::from(body.collect().await?.to_bytes());
        let response = self.server.send(Request::from_parts(head, body)).await?;
        let accepted = response.status().is_success();
        if let Some(target) = target.filter(|_| accepted) {
            self.note(target, asked);
            if target == Target::Object && self.holds.swap(false, Ordering::Relaxed) {
                self.door.send_replace(Door::Held);
                let _ = self.stops.send(());
                self.released().await;
            }
        }
        let stop = write.is_some_and(|write| accepted && self.is_due(write));
        if stop && self.door.send_replace(Door::Shut) != Door::Shut {
            let _ = self.stops.send(());
        }
        if self.door() == Door::Shut {
            std::future::pending::<()>().await;
        }
        Ok(response.map(|body| self.until_it_fails(body)))
    }

    fn note(&self, target: Target, write: Write) {
        match target {
            Target::Lease => drop(self.lease_written.send_replace(true)),
            Target::Object => self.written.lock().unwrap_or_else(PoisonError::into_inner).push(write),
            Target::Event => {}
        }
    }

    async fn released(&self) {
        let mut door = self.door.subscribe();
        door.wait_for(|door| *door != Door::Held).await.expect("the way has the sender");
    }

    fn door(&self) -> Door {
        *self.door.borrow()
    }

    pub fn failed(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, how: RequestFailure) -> anyhow::Result<Response<Answer>> {
        self.failed().push(Instant::now());
        match how {
            // Which closes the connection.
            RequestFailure::Disconnected => bail!("a fault is in force"),
            RequestFailure::Unauthorized => {
                let status = json!({
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Failure",
                    "message": "Unauthorized",
                    "reason": "Unauthorized",
                    "code": 401,
                });
                let answer = Response::builder().status(StatusCode::UNAUTHORIZED);
                let answer = answer.header(CONTENT_TYPE, "application/json");
                Ok(answer.body(Body::from(status.to_string().into_bytes()).boxed_unsync())?)
            }
        }
    }

    /// An answer that ends when requests begin to fail: that of a watch would go on for minutes.
    fn until_it_fails(&self, body: Body) -> Answer {
        let mut door = self.door.subscribe();
        let failing = async move { door.wait_for(|door| matches!(door, Door::Failing(_))).await.is_ok() };
        StreamBody::new(BodyStream::new(body).take_until(Box::pin(failing))).boxed_unsync()
    }

    /// What kind of write a request is; none when it is no write in the namespace, or one of an `Event`, which tells of a
    /// state and is none.
    fn counted(&self, method: &Method, path: &str) -> Option<(Method, String)> {
        let within = path.contains(self.namespace.as_ref()?);
        let write = target(method, path).is_some_and(|target| target != Target::Event);
        (within && write).then(|| (method.clone(), path.to_owned()))
    }

    fn is_due(&self, write: (Method, String)) -> bool {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let times = passed.entry(write).or_default();
        *times += 1;
        *times <= TIMES
    }
}
