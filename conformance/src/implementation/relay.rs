//! A relay between the operator under test and its API server, which stops at each write of the operator.
//!
//! The API server carries the write out; its answer is held back, and nothing more is passed on until the operator has been
//! killed: it dies knowing nothing of what it has done, as exactly as any process can. The relay counts at the API
//! server's door, so that it needs to know nothing of the operator.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use http::header::{CONNECTION, HOST};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kube::Client;
use kube::client::Body;
use kube::config::AuthInfo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::controlplane::Access;
use crate::https;
use crate::pki::Authority;

/// So often it stops at one kind of write: an operator that begins with the same write each time gets on all the same.
const TIMES: u32 = 3;

/// A relay that listens on loopback. Its connections end when it is dropped.
pub(super) struct Relay {
    access: Access,
    door: Arc<Door>,
    stops: mpsc::UnboundedReceiver<()>,
    times: u32,
    _accepting: AbortOnDropHandle<Infallible>,
}

/// What all connections share.
struct Door {
    server: Client,
    /// `/namespaces/<name>/`, as it stands in the paths that are meant.
    namespace: String,
    shut: AtomicBool,
    passed: Mutex<BTreeMap<(Method, String), u32>>,
    stops: mpsc::UnboundedSender<()>,
}

impl Relay {
    /// Starts a relay to the server of `access` that stops at writes in `namespace`.
    pub async fn start(access: &Access, namespace: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a relay to the API server cannot listen")?;
        let address = listener.local_addr()?;
        let authority = Authority::create("relay to the API server")?;
        let acceptor = https::acceptor(&authority.server(["127.0.0.1", "localhost"])?)?;

        let mut config = access.config().await?;
        // Whoever calls brings credentials of its own, and tries again by itself.
        config.auth_info = AuthInfo::default();
        config.default_retry = false;
        let (stop, stops) = mpsc::unbounded_channel();
        let door = Arc::new(Door {
            server: Client::try_from(config)?,
            namespace: format!("/namespaces/{namespace}/"),
            shut: AtomicBool::new(false),
            passed: Mutex::default(),
            stops: stop,
        });
        let handler = {
            let door = Arc::clone(&door);
            move |request| Arc::clone(&door).answer(request)
        };
        let accepting = https::serve(listener, acceptor, "the relay to the API server", handler);
        Ok(Self {
            access: access.through(&format!("https://{address}"), authority.certificate()),
            door,
            stops,
            times: 0,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        })
    }

    /// Access to the API server through it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Waits until it has stopped at a write. Nothing is passed on from then on, until [`Self::go_on`].
    pub async fn stopped(&mut self) {
        self.stops.recv().await.expect("the door outlives the channel");
        self.times += 1;
    }

    /// How often it has stopped.
    pub fn times(&self) -> u32 {
        self.times
    }

    /// Passes on what comes from now on; what came before is never answered.
    pub fn go_on(&self) {
        self.door.shut.store(false, Ordering::SeqCst);
    }
}

impl Door {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        if self.shut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let (mut head, body) = request.into_parts();
        for of_this_connection in [HOST, CONNECTION] {
            head.headers.remove(of_this_connection);
        }
        let write = self.counted(&head.method, head.uri.path());
        let body = Body::from(body.collect().await?.to_bytes());
        let response = self.server.send(Request::from_parts(head, body)).await?;
        let stop = write.is_some_and(|write| response.status().is_success() && self.is_due(write));
        if stop && !self.shut.swap(true, Ordering::SeqCst) {
            let _ = self.stops.send(());
        }
        if self.shut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(response)
    }

    /// What kind of write a request is; none when it is no write in the namespace, or one of an `Event`, which tells of a
    /// state and is none.
    fn counted(&self, method: &Method, path: &str) -> Option<(Method, String)> {
        let (_, within) = path.split_once(&self.namespace)?;
        let resource = within.split('/').next();
        let write = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
        (write && resource != Some("events")).then(|| (method.clone(), path.to_owned()))
    }

    fn is_due(&self, write: (Method, String)) -> bool {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let times = passed.entry(write).or_default();
        *times += 1;
        *times <= TIMES
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::pki::Identity;

    /// An API server that refuses what is called `refused`, and answers everything else with the path and who asks.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = async |request: Request<Incoming>| {
            let refused = request.uri().path().ends_with("/refused");
            let asks = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            let text = format!("{} {} as {asks:?}", request.method(), request.uri());
            Ok::<_, Infallible>(Response::builder().status(if refused { 409 } else { 200 }).body(text).unwrap())
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(connection);
            }
        });
        address
    }

    /// A relay that stops at writes in `a`, and a client of it.
    async fn relay() -> (Relay, Client) {
        let server = format!("http://{}", server().await);
        let identity = Identity { certificate: String::new(), key: String::new() };
        let access = Access::by_certificate(&server, "", &identity).with_token("default", "a-token");
        let relay = Relay::start(&access, "a").await.unwrap();
        let mut config = relay.access().config().await.unwrap();
        config.default_retry = false;
        (relay, Client::try_from(config).unwrap())
    }

    fn ask(client: &Client, method: Method, path: &str) -> JoinHandle<String> {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let client = client.clone();
        tokio::spawn(async move {
            let response = client.send(request).await.unwrap();
            String::from_utf8(response.into_body().collect_bytes().await.unwrap().to_vec()).unwrap()
        })
    }

    const SERVICES: &str = "/api/v1/namespaces/a/services/demo";

    #[tokio::test]
    async fn what_is_no_write_in_the_namespace_passes_with_the_credentials_of_whoever_asks() {
        let (mut relay, client) = relay().await;
        for (method, path) in [
            (Method::GET, SERVICES),
            (Method::PATCH, "/api/v1/namespaces/b/services/demo"),
            (Method::POST, "/api/v1/namespaces/a/events?fieldManager=operator"),
            (Method::POST, "/apis/events.k8s.io/v1/namespaces/a/events"),
            (Method::PATCH, "/api/v1/namespaces/a/services/refused"),
        ] {
            let answer = ask(&client, method.clone(), path).await.unwrap();
            assert_eq!(answer, format!("{method} {path} as Some(\"Bearer a-token\")"));
        }
        assert!(relay.stops.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_write_is_never_answered_and_nothing_passes_until_it_goes_on() {
        let (mut relay, client) = relay().await;
        let write = ask(&client, Method::PATCH, SERVICES);
        relay.stopped().await;
        let read = ask(&client, Method::GET, SERVICES);
        assert!(timeout(Duration::from_millis(200), read).await.is_err());
        relay.go_on();
        assert!(ask(&client, Method::GET, SERVICES).await.is_ok());
        assert!(!write.is_finished());
    }

    #[tokio::test]
    async fn the_same_write_stops_it_three_times() {
        let (mut relay, client) = relay().await;
        for _ in 0..TIMES {
            let write = ask(&client, Method::PATCH, SERVICES);
            relay.stopped().await;
            write.abort();
            relay.go_on();
        }
        assert!(ask(&client, Method::PATCH, SERVICES).await.unwrap().starts_with("PATCH"));
        let _other = ask(&client, Method::DELETE, SERVICES);
        relay.stopped().await;
    }
}
