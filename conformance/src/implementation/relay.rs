//! A relay between the operator under test and its API server, which stops at each write of the operator, fails all of its
//! requests, or holds one, and notes what was written.
//!
//! At a write, the API server carries it out; its answer is held back, and nothing more is passed on until the operator has
//! been killed: it dies knowing nothing of what it has done, as exactly as any process can. The relay counts at the API
//! server's door, so that it needs to know nothing of the operator.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use anyhow::Context as _;
use kube::Client;
use kube::config::AuthInfo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::way::{Door, Way};
use super::writes::Write;
use crate::controlplane::Access;
use crate::environment::RequestFailure;
use crate::https;
use crate::pki::Authority;

/// A relay that listens on loopback. Its connections end when it is dropped.
pub(super) struct Relay {
    access: Access,
    way: Arc<Way>,
    stops: mpsc::UnboundedReceiver<()>,
    times: u32,
    _accepting: AbortOnDropHandle<Infallible>,
}

impl Relay {
    /// Starts a relay to the server of `access` that passes everything on, and stops at writes in `namespace`.
    pub async fn start(access: &Access, namespace: Option<&str>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a relay to the API server cannot listen")?;
        let address = listener.local_addr()?;
        let authority = Authority::create("relay to the API server")?;
        let acceptor = https::acceptor(&authority.server(["127.0.0.1", "localhost"])?)?;

        let mut config = access.config().await?;
        // Whoever calls brings credentials of its own, and tries again by itself.
        config.auth_info = AuthInfo::default();
        config.default_retry = false;
        let (stop, stops) = mpsc::unbounded_channel();
        let way = Arc::new(Way::new(Client::try_from(config)?, namespace, stop));
        let handler = {
            let way = Arc::clone(&way);
            move |request| Arc::clone(&way).answer(request)
        };
        let accepting = https::serve(listener, acceptor, "the relay to the API server", handler);
        Ok(Self {
            access: access.through(&format!("https://{address}"), authority.certificate()),
            way,
            stops,
            times: 0,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        })
    }

    /// Access to the API server through it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// At the next write of an object, holds the answer and all that comes until [`Self::go_on`].
    pub fn hold(&self) {
        self.way.holds.store(true, Ordering::Relaxed);
    }

    /// Waits until it has stopped at a write. Nothing is passed on from then on, until [`Self::go_on`].
    pub async fn stopped(&mut self) {
        self.stops.recv().await.expect("the way outlives the channel");
        self.times += 1;
    }

    /// How often it has stopped.
    pub fn times(&self) -> u32 {
        self.times
    }

    /// From now on fails what comes, and ends the answers that are under way.
    pub fn fail(&self, how: RequestFailure) {
        self.way.failed().clear();
        self.way.door.send_replace(Door::Failing(how));
    }

    /// Whether it fails what comes.
    pub fn is_failing(&self) -> bool {
        matches!(*self.way.door.borrow(), Door::Failing(_))
    }

    /// Passes on what comes from now on, and what it holds; what it stopped is never answered. Returns when requests have
    /// failed.
    pub fn go_on(&self) -> Vec<Instant> {
        self.way.holds.store(false, Ordering::Relaxed);
        self.way.door.send_replace(Door::Open);
        std::mem::take(&mut self.way.failed())
    }

    /// What was written through it but Leases and `Event`s, in this order.
    pub fn written(&self) -> Vec<Write> {
        self.way.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a Lease was written through it.
    pub async fn lease_written(&self) {
        let mut written = self.way.lease_written.subscribe();
        written.wait_for(|written| *written).await.expect("the way has the sender");
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::net::SocketAddr;
    use std::time::Duration;

    use bytes::Bytes;
    use futures::{StreamExt as _, stream};
    use http::{Method, Request, Response};
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::{Frame, Incoming};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use kube::client::Body;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::super::way::TIMES;
    use super::*;
    use crate::pki::Identity;

    /// An API server that refuses what is called `refused`, never ends the answer to `watch`, and answers everything else
    /// with the path and who asks.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = async |request: Request<Incoming>| {
            let refused = request.uri().path().ends_with("/refused");
            let asks = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            let text = format!("{} {} as {asks:?}", request.method(), request.uri());
            let endless = request.uri().path() == "/watch";
            let text = if endless { "begins".to_owned() } else { text };
            let rest = stream::once(pending()).take(usize::from(endless));
            let body = stream::once(ready(text.into())).chain(rest);
            let body = StreamBody::new(body.map(|bytes: Bytes| Ok::<_, Infallible>(Frame::data(bytes))));
            Ok::<_, Infallible>(Response::builder().status(if refused { 409 } else { 200 }).body(body).unwrap())
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
        let relay = Relay::start(&access, Some("a")).await.unwrap();
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
    async fn a_write_that_is_held_is_answered_when_it_goes_on_as_is_what_came_after_it() {
        let (mut relay, client) = relay().await;
        let lease = "/apis/coordination.k8s.io/v1/namespaces/b/leases/operator";
        relay.hold();
        for (method, path) in [(Method::GET, SERVICES), (Method::PUT, lease)] {
            ask(&client, method, path).await.unwrap();
        }
        relay.lease_written().await;
        assert_eq!(relay.written(), []);
        let write = ask(&client, Method::PATCH, "/api/v1/namespaces/b/services/demo");
        relay.stopped().await;
        let read = ask(&client, Method::GET, SERVICES);
        assert_eq!(relay.written().len(), 1);
        assert!(!write.is_finished());
        relay.go_on();
        assert!(write.await.unwrap().starts_with("PATCH") && read.await.unwrap().starts_with("GET"));
    }

    async fn status(client: &Client) -> Option<u16> {
        let request = Request::builder().uri(SERVICES).body(Body::empty()).unwrap();
        client.send(request).await.ok().map(|response| response.status().as_u16())
    }

    #[tokio::test]
    async fn requests_fail_in_the_way_that_was_asked_for_and_are_counted() {
        let (relay, client) = relay().await;
        relay.fail(RequestFailure::Unauthorized);
        assert_eq!((status(&client).await, status(&client).await), (Some(401), Some(401)));
        assert_eq!(relay.go_on().len(), 2);
        assert_eq!(status(&client).await, Some(200));
        relay.fail(RequestFailure::Disconnected);
        assert!(relay.is_failing());
        assert_eq!(status(&client).await, None);
        assert_eq!(relay.go_on().len(), 1);
        assert_eq!(status(&client).await, Some(200));
        assert!(!relay.is_failing());
    }

    #[tokio::test]
    async fn a_watch_ends_when_requests_begin_to_fail() {
        let (relay, client) = relay().await;
        let request = Request::builder().uri("/watch").body(Body::empty()).unwrap();
        let mut watch = client.send(request).await.unwrap().into_body().into_data_stream();
        assert_eq!(watch.next().await.unwrap().unwrap(), "begins");
        assert!(timeout(Duration::from_millis(50), watch.next()).await.is_err());
        relay.fail(RequestFailure::Unauthorized);
        assert!(watch.next().await.is_none());
        assert_eq!(relay.go_on().len(), 0);
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
