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

use crate::fence::Fence;

/// Name of the Lease.
pub const LEASE: &str = "dittofs-operator";

/// How long a Lease holds after it was renewed last.
const DURATION: Duration = Duration::from_secs(15);

/// How often the holder renews it.
const RENEW: Duration = Duration::from_secs(5);

/// How long the holder leads without a renewal that worked. Shorter than [`DURATION`]: it stops before another starts.
const DEADLINE: Duration = Duration::from_secs(10);

/// Pause after a failed request.
const RETRY: Duration = Duration::from_secs(1);

/// A candidate.
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    fence: Fence,
}

/// The Lease, held. [`Self::hold`] keeps it.
pub struct Held<'a> {
    election: &'a Election,
    lease: Lease,
}

impl Election {
    /// A candidate named `identity` for the Lease in `namespace`, who opens `fence` while it leads.
    pub fn new(client: Client, namespace: &str, identity: String, fence: Fence) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, fence }
    }

    /// Waits until this candidate leads.
    pub async fn acquire(&self) -> Held<'_> {
        let mut changes = pin!(watcher::watch_object(self.leases.clone(), LEASE).default_backoff());
        let mut seen = loop {
            match changes.next().await {
                Some(Ok(lease)) => break lease,
                failed => unreadable(failed).await,
            }
        };
        let mut expires = Instant::now() + duration(seen.as_ref());
        loop {
            if is_free(seen.as_ref()) || Instant::now() >= expires {
                let until = Instant::now() + DEADLINE;
                match self.write(claim(seen.clone(), &self.identity, Timestamp::now())).await {
                    Ok(lease) => {
                        self.fence.open_until(until);
                        return Held { election: self, lease };
                    }
                    Err(error) => tracing::debug!(%error, "cannot take the lease"),
                }
                expires = Instant::now() + RETRY;
            }
            match timeout_at(expires, changes.next()).await {
                Ok(Some(Ok(lease))) if lease != seen => {
                    expires = Instant::now() + duration(lease.as_ref());
                    seen = lease;
                }
                Ok(Some(Ok(_))) | Err(_) => {}
                Ok(failed) => unreadable(failed).await,
            }
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

impl Held<'_> {
    /// Renews the Lease; returns when it is lost, with the reason.
    pub async fn hold(&mut self) -> String {
        let mut until = Instant::now() + DEADLINE;
        loop {
            sleep(RENEW).await;
            match timeout_at(until, self.renew()).await {
                Ok(Ok(asked)) => {
                    until = asked + DEADLINE;
                    self.election.fence.open_until(until);
                }
                Ok(Err(reason)) => return reason,
                Err(_) => return format!("the lease could not be renewed for {} s", DEADLINE.as_secs()),
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
            sleep(RETRY).await;
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

async fn unreadable<T>(failed: Option<watcher::Result<T>>) {
    if let Some(Err(error)) = failed {
        tracing::warn!(%error, "cannot watch the lease, trying again");
    } else {
        sleep(RETRY).await;
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn is_free(lease: Option<&Lease>) -> bool {
    lease.is_none_or(|lease| holder(lease).is_none())
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
mod tests {
    use rstest::rstest;

    use super::*;

    fn lease(holder: Option<&str>) -> Lease {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(7),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        };
        Lease {
            metadata: ObjectMeta { resource_version: Some("9".to_owned()), ..ObjectMeta::default() },
            spec: Some(spec),
        }
    }

    #[rstest]
    #[case::absent(None, true)]
    #[case::never_held(Some(lease(None)), true)]
    #[case::released(Some(lease(Some(""))), true)]
    #[case::held(Some(lease(Some("a"))), false)]
    fn a_lease_is_free_without_a_holder(#[case] lease: Option<Lease>, #[case] free: bool) {
        assert_eq!(is_free(lease.as_ref()), free);
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
        assert_eq!((first.metadata.resource_version, first.spec.unwrap().lease_transitions), (None, Some(0)));
    }
}
