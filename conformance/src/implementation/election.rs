//! Two processes of the operator, of which one is to lead at a time.

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use super::place::{Place, READY_WITHIN};
use super::relay::Relay;
use super::unusable::Unusable;
use super::writes::Write;
use crate::process::Process;

/// The process that leads first. It is ended when this is dropped.
pub(super) struct Leader {
    process: Process,
    relay: Relay,
    suspended: Option<Instant>,
}

impl Leader {
    /// Starts a process beside that of `place`, which must not run; returns when it leads. One that does not is to blame.
    pub async fn start(place: &Place) -> anyhow::Result<Self> {
        let relay = Relay::start(&place.options.access, None).await?;
        let process = place.beside("leader")?.launch(relay.access(), true).await.map_err(Unusable::blame)?;
        let led = timeout(READY_WITHIN, relay.lease_written()).await;
        led.with_context(|| {
            format!(
                "with the arguments of leaderElection, {} has written no Lease within {} s",
                place.prepared.implementation.name,
                READY_WITHIN.as_secs()
            )
        })
        .map_err(Unusable::blame)?;
        Ok(Self { process, relay, suspended: None })
    }

    /// At its next write of an object, it is to be suspended: that one is carried out, and not answered.
    pub fn suspend_at_next_write(&self) {
        self.relay.hold();
    }

    /// Waits until it is to be suspended.
    pub async fn due(&mut self) {
        self.relay.stopped().await;
    }

    /// Lets it stand still, as when its machine or its pod is suspended.
    pub fn suspend(&mut self) -> anyhow::Result<()> {
        self.suspended = Some(Instant::now());
        self.process.signal(Signal::SIGSTOP).context("suspending the leader")
    }

    /// Lets it go on, with the answer to its write.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.relay.go_on();
        self.process.signal(Signal::SIGCONT).context("letting the leader go on")
    }

    /// Ends it. `standby` is what the other process has written.
    pub async fn end(self, standby: Vec<Write>) -> Handover {
        self.process.kill().await;
        tracing::debug!(leader = ?self.relay.written(), ?standby, suspended = ?self.suspended, "both have written");
        Handover { leader: self.relay.written(), standby, suspended: self.suspended }
    }
}

/// What two processes have written, of which one led and was suspended, and the other one followed.
#[derive(Clone, Debug)]
pub struct Handover {
    leader: Vec<Write>,
    standby: Vec<Write>,
    suspended: Option<Instant>,
}

impl Handover {
    /// Whether the standby has written anything.
    pub fn has_happened(&self) -> bool {
        self.suspended.is_some() && !self.standby.is_empty()
    }

    /// Says that both led at once, if so: that the standby wrote before the leader stood still, or the leader after the standby
    /// had taken over. Writes of Leases and `Event`s do not count.
    pub fn breach(&self) -> Option<String> {
        let first = self.standby.first()?;
        if self.suspended.is_none_or(|suspended| first.at < suspended) {
            return Some(format!("the standby wrote while the other process led: {}", first.what));
        }
        let late = self.leader.iter().find(|write| write.at > first.at)?;
        let after = (late.at - first.at).as_secs_f64();
        Some(format!(
            "the former leader wrote {after:.1} s after the standby had taken over: {}; the standby's first write was {}",
            late.what, first.what
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn handover(leader: &[u64], standby: &[u64], suspended: Option<u64>) -> Handover {
        let begin = Instant::now();
        let at = |second: u64| begin + Duration::from_secs(second);
        let writes = |seconds: &[u64], what: &str| {
            seconds.iter().map(|second| Write { at: at(*second), what: what.to_owned() }).collect()
        };
        Handover {
            leader: writes(leader, "PATCH /a"),
            standby: writes(standby, "PATCH /b"),
            suspended: suspended.map(at),
        }
    }

    #[test]
    fn one_after_the_other_is_no_breach() {
        assert_eq!(handover(&[1, 2], &[20, 21], Some(3)).breach(), None);
        assert!(handover(&[1, 2], &[20], Some(3)).has_happened());
    }

    #[test]
    fn nothing_happens_without_a_suspended_leader_and_a_standby_that_writes() {
        assert!(!handover(&[1], &[], Some(3)).has_happened());
        assert!(!handover(&[1], &[20], None).has_happened());
        assert_eq!(handover(&[1], &[], Some(3)).breach(), None);
    }

    #[test]
    fn two_that_lead_at_once_are_told() {
        let told = |leader: &[u64], standby: &[u64]| handover(leader, standby, Some(3)).breach().unwrap();
        insta::assert_snapshot!(told(&[1], &[2, 20]), @"the standby wrote while the other process led: PATCH /b");
        insta::assert_snapshot!(
            told(&[1, 25], &[20, 30]),
            @"the former leader wrote 5.0 s after the standby had taken over: PATCH /a; the standby's first write was PATCH /b"
        );
    }
}
