use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::StreamExt as _;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use rstest::rstest;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;
use crate::testing::failure;

fn lease(holder: Option<&str>) -> Lease {
    let spec = LeaseSpec {
        holder_identity: holder.map(str::to_owned),
        lease_duration_seconds: Some(7),
        lease_transitions: Some(4),
        ..LeaseSpec::default()
    };
    Lease { metadata: ObjectMeta { resource_version: Some("9".to_owned()), ..ObjectMeta::default() }, spec: Some(spec) }
}

const SECOND: Duration = Duration::from_secs(1);

/// Nothing here takes so long, on whatever machine; what does has gone wrong.
const PATIENCE: Duration = Duration::from_secs(5);

#[rstest]
#[case::absent(None, true)]
#[case::never_held(Some(lease(None)), true)]
#[case::released(Some(lease(Some(""))), true)]
#[case::held(Some(lease(Some("a"))), false)]
fn a_lease_without_a_holder_may_be_taken_at_once(#[case] lease: Option<Lease>, #[case] free: bool) {
    let now = Instant::now();
    assert_eq!(Seen::first(lease, now).may_be_taken(now), free);
}

#[test]
fn a_held_lease_may_be_taken_when_it_has_not_moved_for_its_duration() {
    let start = Instant::now();
    let mut seen = Seen::first(Some(lease(Some("a"))), start);
    assert!(!seen.may_be_taken(start + 7 * SECOND - Duration::from_nanos(1)));
    assert!(seen.may_be_taken(start + 7 * SECOND));
    seen.again(Some(renewed(lease(Some("a")), Timestamp::UNIX_EPOCH)), start + 5 * SECOND);
    // The same once more is no sign of life.
    seen.again(Some(renewed(lease(Some("a")), Timestamp::UNIX_EPOCH)), start + 8 * SECOND);
    assert!(!seen.may_be_taken(start + 12 * SECOND - Duration::from_nanos(1)));
    assert!(seen.may_be_taken(start + 12 * SECOND));
}

#[test]
fn a_holder_stops_before_another_starts() {
    let Timing { renew, deadline, retry } = TIMING;
    assert!(renew + 2 * retry < deadline && deadline + 2 * retry < DURATION);
}

#[test]
fn others_wait_as_long_as_the_lease_says() {
    assert_eq!(duration(Some(&lease(Some("a")))), Duration::from_secs(7));
    assert_eq!(duration(None), DURATION);
}

#[test]
fn a_claim_counts_transitions_and_keeps_the_version() {
    let claimed = claim(Some(lease(Some("a"))), "b", Timestamp::UNIX_EPOCH);
    assert_eq!(claimed.metadata.resource_version.as_deref(), Some("9"));
    let spec = claimed.spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("b"), Some(5)));
    assert_eq!(spec.renew_time, spec.acquire_time);

    let first = claim(None, "b", Timestamp::UNIX_EPOCH);
    assert_eq!(first.metadata.name.as_deref(), Some(LEASE));
    let spec = first.spec.unwrap();
    assert_eq!((first.metadata.resource_version, spec.lease_transitions), (None, Some(0)));
    assert_eq!(spec.lease_duration_seconds, Some(15));
}

/// An API server with nothing but the Lease.
#[derive(Clone, Default)]
struct Server {
    stored: Arc<Mutex<Stored>>,
    /// Somebody writes, or begins to watch.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Stored {
    lease: Option<Lease>,
    version: u32,
    watchers: Vec<UnboundedSender<String>>,
    /// So many writes fail.
    failing: u32,
    writes: u32,
    conflicts: u32,
}

impl Server {
    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Client {
        let collection = get(async |State(server): State<Server>, uri: Uri| {
            let query = uri.query().unwrap_or_default();
            if query.contains("watch=true") { server.watch() } else { server.list() }
        });
        let collection =
            collection.post(async |State(server): State<Server>, Json(lease): Json<Lease>| server.write(lease));
        let single = get(async |State(server): State<Server>| server.read());
        let single = single.put(async |State(server): State<Server>, Json(lease): Json<Lease>| server.write(lease));
        let path = "/apis/coordination.k8s.io/v1/namespaces/system/leases";
        let router = Router::new().route(path, collection).route(&format!("{path}/{LEASE}"), single);
        Client::new(router.with_state(self.clone()), "system")
    }

    fn election(&self, fence: &Fence) -> Election {
        let election = Election::new(self.client(), "system", "us".to_owned(), fence.clone());
        let milliseconds = Duration::from_millis;
        let timing = Timing { renew: milliseconds(20), deadline: milliseconds(200), retry: milliseconds(5) };
        Election { timing, ..election }
    }

    fn list(&self) -> Response {
        let stored = self.stored();
        let items: Vec<&Lease> = stored.lease.iter().collect();
        let metadata = json!({ "resourceVersion": stored.version.to_string() });
        Json(json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "metadata": metadata, "items": items }))
            .into_response()
    }

    fn watch(&self) -> Response {
        let (tell, told) = unbounded();
        self.stored().watchers.push(tell);
        self.changed.notify_waiters();
        Body::from_stream(told.map(Ok::<_, std::convert::Infallible>)).into_response()
    }

    fn read(&self) -> Response {
        match &self.stored().lease {
            Some(lease) => Json(lease).into_response(),
            None => status(StatusCode::NOT_FOUND),
        }
    }

    fn write(&self, lease: Lease) -> Response {
        let mut stored = self.stored();
        stored.writes += 1;
        self.changed.notify_waiters();
        if stored.failing > 0 {
            stored.failing -= 1;
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        if stored.lease.as_ref().and_then(version) != version(&lease) {
            stored.conflicts += 1;
            return status(StatusCode::CONFLICT);
        }
        drop(stored);
        self.put(lease);
        Json(self.stored().lease.clone()).into_response()
    }

    /// Stores the Lease as its next version, and tells the watchers.
    fn put(&self, mut lease: Lease) {
        let mut stored = self.stored();
        stored.version += 1;
        lease.metadata.name = Some(LEASE.to_owned());
        lease.metadata.resource_version = Some(stored.version.to_string());
        stored.lease = Some(lease);
        let line = json!({ "type": "MODIFIED", "object": stored.lease }).to_string() + "\n";
        stored.watchers.iter().for_each(|watcher| drop(watcher.unbounded_send(line.clone())));
    }

    /// Takes the Lease, which takes no time.
    async fn held<'a>(&self, election: &'a Election) -> Held<'a> {
        timeout(PATIENCE, election.acquire()).await.expect("the Lease is taken")
    }

    /// Waits for the next write.
    async fn written(&self) {
        self.until({
            let writes = self.stored().writes;
            move |stored| stored.writes > writes
        })
        .await;
    }

    /// Waits until somebody watches.
    async fn watched(&self) {
        self.until(|stored| !stored.watchers.is_empty()).await;
    }

    async fn until(&self, condition: impl Fn(&Stored) -> bool) {
        let met = async {
            loop {
                let changed = self.changed.notified();
                if condition(&self.stored()) {
                    return;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, met).await.expect("the election goes on");
    }

    fn spec(&self) -> LeaseSpec {
        self.stored().lease.clone().and_then(|lease| lease.spec).expect("a Lease with a spec")
    }
}

fn status(code: StatusCode) -> Response {
    (code, Json(failure("", code.as_u16(), ""))).into_response()
}

fn held_by(holder: &str) -> Lease {
    let mut lease = lease(Some(holder));
    lease.metadata.resource_version = None;
    lease
}

#[tokio::test]
async fn a_lease_that_nobody_holds_is_taken_and_writes_pass_from_then_on() {
    let (server, fence) = (Server::default(), Fence::default());
    let election = server.election(&fence);
    let asked = Instant::now();
    let _held = server.held(&election).await;
    assert_eq!(server.spec().holder_identity.as_deref(), Some("us"));
    assert!(fence.is_open(asked + election.timing.deadline - Duration::from_nanos(1), SystemTime::now()));
    assert!(!fence.is_open(Instant::now() + election.timing.deadline, SystemTime::now()));
}

#[tokio::test]
async fn a_held_lease_is_taken_once_it_is_released() {
    let server = Server::default();
    server.put(held_by("them"));
    let election = server.election(&Fence::default());
    let (_held, ()) = tokio::join!(server.held(&election), async {
        server.watched().await;
        server.put(held_by(""));
    });
    assert_eq!(server.spec().holder_identity.as_deref(), Some("us"));
    // No write before.
    assert_eq!(server.spec().lease_transitions, Some(5));
    assert_eq!(server.stored().writes, 1);
}

#[tokio::test]
async fn a_claim_that_fails_is_tried_again() {
    let server = Server::default();
    server.stored().failing = 2;
    let election = server.election(&Fence::default());
    let _held = server.held(&election).await;
    assert_eq!(server.stored().writes, 3);
}

#[tokio::test]
async fn a_claim_that_fails_is_not_tried_again_at_once() {
    let server = Server::default();
    server.stored().failing = u32::MAX;
    let election = server.election(&Fence::default());
    assert!(timeout(20 * election.timing.retry, election.acquire()).await.is_err());
    // A slow machine makes fewer.
    assert!((1..=21).contains(&server.stored().writes), "{} tries", server.stored().writes);
}

#[tokio::test]
async fn a_held_lease_is_renewed_until_it_is_another_s() {
    let (server, fence) = (Server::default(), Fence::default());
    let election = server.election(&fence);
    let mut held = server.held(&election).await;
    let others = async {
        // Renewed again and again, for longer than without any renewal.
        let begun = Instant::now();
        while begun.elapsed() < 2 * election.timing.deadline {
            server.written().await;
        }
        // Somebody touches it, which is a conflict and no more.
        let touched = server.stored().lease.clone().expect("a Lease");
        server.put(touched);
        let conflicts = server.stored().conflicts;
        while server.stored().conflicts == conflicts {
            server.written().await;
        }
        server.written().await;
        assert_eq!(server.spec().holder_identity.as_deref(), Some("us"));
        assert!(fence.is_open(Instant::now(), SystemTime::now()));
        server.put(held_by("them"));
    };
    let (reason, ()) = tokio::join!(timeout(2 * PATIENCE, held.hold()), others);
    let reason = reason.expect("the Lease is lost");
    assert_eq!(reason, "the lease is held by \"them\" now");
    assert_eq!(server.spec().holder_identity.as_deref(), Some("them"));
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_given_up() {
    let (server, fence) = (Server::default(), Fence::default());
    let election = server.election(&fence);
    let mut held = server.held(&election).await;
    server.stored().failing = u32::MAX;
    let reason = timeout(PATIENCE, held.hold()).await.expect("the Lease is lost");
    assert_eq!(reason, "the lease could not be renewed for 200ms");
    assert!(!fence.is_open(Instant::now(), SystemTime::now()));
    assert!(server.stored().writes > 2);
}

#[tokio::test]
async fn a_released_lease_has_no_holder_and_the_shortest_duration() {
    let server = Server::default();
    let election = server.election(&Fence::default());
    server.held(&election).await.release().await;
    let spec = server.spec();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)));
}
