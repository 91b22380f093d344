//! Leader election on a `Lease` of `coordination.k8s.io`, by the rules of client-go: the holder renews it; others take it
//! when it has not moved for its duration, by their own clock, or when it was released.
//!
//! An own one, because kube-lease-manager keeps leading while the API server cannot be reached, and compares clocks of
//! different machines. Candidates watch the Lease instead of polling it.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout_at};

use crate::backoff::WatchBackoff;
use crate::fence::Fence;

/// Name of the Lease.
pub const LEASE: &str = "dittofs-operator";

/// How long a Lease holds after it was renewed last.
const DURATION: Duration = Duration::from_secs(15);

/// How patient a holder and a candidate are.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// How often the holder renews its Lease.
    renew: Duration,
    /// How long the holder leads without a renewal that worked. Shorter than [`DURATION`]: it stops before another starts.
    deadline: Duration,
    /// Pause after a failed request.
    retry: Duration,
}

const TIMING: Timing =
    Timing { renew: Duration::from_secs(5), deadline: Duration::from_secs(10), retry: Duration::from_secs(1) };

/// A candidate.
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    fence: Fence,
    timing: Timing,
}

/// What a candidate has seen of the Lease.
struct Seen {
    lease: Option<Lease>,
    /// When it may be taken, by our own clock.
    expires: Instant,
}

/// The Lease, held. [`Self::hold`] keeps it.
pub struct Held<'a> {
    election: &'a Election,
    lease: Lease,
}

impl Election {
    /// A candidate named `identity` for the Lease in `namespace`, who opens `fence` while it leads.
    pub fn new(client: Client, namespace: &str, identity: String, fence: Fence) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, fence, timing: TIMING }
    }

    /// Waits until this candidate leads.
    pub async fn acquire(&self) -> Held<'_> {
        let mut changes = pin!(watcher::watch_object(self.leases.clone(), LEASE).backoff(WatchBackoff::default()));
        let mut seen = loop {
            match changes.next().await {
                Some(Ok(lease)) => break Seen::first(lease, Instant::now()),
                failed => self.unreadable(failed).await,
            }
        };
        loop {
            if seen.may_be_taken(Instant::now()) {
                let until = Instant::now() + self.timing.deadline;
                match self.write(claim(seen.lease.clone(), &self.identity, Timestamp::now())).await {
                    Ok(lease) => {
                        self.fence.open_until(until);
                        return Held { election: self, lease };
                    }
                    Err(error) => tracing::debug!(%error, "cannot take the lease"),
                }
                seen.expires = Instant::now() + self.timing.retry;
            }
            match timeout_at(seen.expires, changes.next()).await {
                Ok(Some(Ok(lease))) => seen.again(lease, Instant::now()),
                Ok(failed) => self.unreadable(failed).await,
                Err(_) => {}
            }
        }
    }

    async fn unreadable<T>(&self, failed: Option<watcher::Result<T>>) {
        if let Some(Err(error)) = failed {
            tracing::warn!(%error, "cannot watch the lease, trying again");
        } else {
            sleep(self.timing.retry).await;
        }
    }

    async fn write(&self, lease: Lease) -> kube::Result<Lease> {
        let parameters = PostParams::default();
        if lease.metadata.resource_version.is_some() {
            self.leases.replace(LEASE, &parameters, &lease).await
        } else {
            self.leases.create(&parameters, &lease).await
        }
    }
}

impl Seen {
    fn first(lease: Option<Lease>, now: Instant) -> Self {
        Self { expires: now + duration(lease.as_ref()), lease }
    }

    /// A Lease that has changed holds for its duration from now on; the same once more is no sign of life.
    fn again(&mut self, lease: Option<Lease>, now: Instant) {
        if lease != self.lease {
            *self = Self::first(lease, now);
        }
    }

    fn may_be_taken(&self, now: Instant) -> bool {
        now >= self.expires || self.lease.as_ref().is_none_or(|lease| holder(lease).is_none())
    }
}

impl Held<'_> {
    /// Renews the Lease; returns when it is lost, with the reason.
    pub async fn hold(&mut self) -> String {
        let Timing { renew, deadline, .. } = self.election.timing;
        let mut until = Instant::now() + deadline;
        loop {
            sleep(renew).await;
            match timeout_at(until, self.renew()).await {
                Ok(Ok(asked)) => {
                    until = asked + deadline;
                    self.election.fence.open_until(until);
                }
                Ok(Err(reason)) => return reason,
                Err(_) => return format!("the lease could not be renewed for {deadline:?}"),
            }
        }
    }

    /// Renews once, trying again until the caller's deadline; gives the moment before the request that worked. Only a Lease that another holds is an error.
    async fn renew(&mut self) -> Result<Instant, String> {
        loop {
            let asked = Instant::now();
            let wanted = renewed(self.lease.clone(), Timestamp::now());
            match self.election.write(wanted).await {
                Ok(lease) => {
                    self.lease = lease;
                    return Ok(asked);
                }
                Err(error) => tracing::warn!(%error, "cannot renew the lease, trying again"),
            }
            sleep(self.election.timing.retry).await;
            // A conflict: somebody touched it, or took it.
            if let Ok(lease) = self.election.leases.get(LEASE).await {
                if holder(&lease) != Some(&self.election.identity) {
                    return Err(format!("the lease is held by {:?} now", holder(&lease).unwrap_or_default()));
                }
                self.lease = lease;
            }
        }
    }

    /// Frees the Lease for the next candidate.
    pub async fn release(self) {
        let mut lease = self.lease;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        match self.election.write(lease).await {
            Ok(_) => tracing::info!("lease released"),
            Err(error) => tracing::warn!(%error, "cannot release the lease: others wait until it expires"),
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn duration(lease: Option<&Lease>) -> Duration {
    let seconds = lease.and_then(|lease| lease.spec.as_ref()?.lease_duration_seconds);
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs)
}

/// `before` as `identity` takes it over.
fn claim(before: Option<Lease>, identity: &str, now: Timestamp) -> Lease {
    let fresh = Lease { metadata: ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() }, spec: None };
    let lease = before.unwrap_or(fresh);
    let spec = lease.spec.unwrap_or_default();
    let transitions = spec.lease_transitions.map_or(0, |count| count + 1);
    let spec = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..spec
    };
    renewed(Lease { spec: Some(spec), ..lease }, now)
}

fn renewed(mut lease: Lease, now: Timestamp) -> Lease {
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests;
