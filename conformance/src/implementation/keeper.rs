//! Who looks after the operator's process: restarts it when it ends, as a Deployment would, and carries out orders.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::election::{Handover, Leader};
use super::failed::Failed;
use super::place::Place;
use super::relay::Relay;
use super::unusable::Unusable;
use crate::controlplane::Access;
use crate::environment::RequestFailure;
use crate::process::Process;

/// kubelet's back-off: the first restart is immediate, the next one comes after this, each later one after twice as long.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_mins(5);

/// A process that has run for so long starts again with the first back-off.
const FORGIVEN_AFTER: Duration = Duration::from_mins(10);

/// What has become of the process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub unexpected_exits: u32,
    pub killed: u32,
    pub running: bool,
}

/// What the handle asks for. The answer comes when it is done.
#[derive(Debug)]
pub(super) enum Order {
    Stop(oneshot::Sender<()>),
    Start(oneshot::Sender<anyhow::Result<()>>),
    Kill(oneshot::Sender<anyhow::Result<()>>),
    KillAtWrites(String, oneshot::Sender<anyhow::Result<()>>),
    LeaveAlone(oneshot::Sender<anyhow::Result<u32>>),
    FailRequests(RequestFailure, oneshot::Sender<anyhow::Result<()>>),
    LetRequestsPass(oneshot::Sender<anyhow::Result<Failed>>),
    Elect(oneshot::Sender<anyhow::Result<()>>),
    SuspendLeader(oneshot::Sender<anyhow::Result<()>>),
    WakeLeader(oneshot::Sender<anyhow::Result<()>>),
    EndElection(oneshot::Sender<anyhow::Result<Handover>>),
    Downgrade(oneshot::Sender<anyhow::Result<()>>),
    Upgrade(oneshot::Sender<anyhow::Result<()>>),
}

/// Owns the process.
pub(super) struct Keeper {
    place: Place,
    process: Option<Process>,
    started: Instant,
    /// When it is started again by itself.
    restart: Option<Instant>,
    back_off: BackOff,
    /// Between the operator and the API server, from the first fault that needs it.
    relay: Option<Relay>,
    /// When its requests began to fail the last time.
    failing_since: Instant,
    /// While the process is the standby of another one.
    leader: Option<Leader>,
    /// That of the release under test, while the previous one runs.
    successor: Option<Place>,
}

impl Keeper {
    pub fn new(place: Place) -> Self {
        Self {
            place,
            process: None,
            started: Instant::now(),
            restart: None,
            back_off: BackOff::default(),
            relay: None,
            failing_since: Instant::now(),
            leader: None,
            successor: None,
        }
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    async fn launch(&self) -> anyhow::Result<Process> {
        self.place.launch(self.access(), self.leader.is_some()).await
    }

    async fn spawn(&self) -> anyhow::Result<Process> {
        self.place.spawn(self.access(), self.leader.is_some()).await
    }

    fn access(&self) -> &Access {
        self.relay.as_ref().map_or(&self.place.options.access, Relay::access)
    }

    /// Looks after the process until nobody can give an order any more.
    pub async fn keep(mut self, mut orders: mpsc::Receiver<Order>, state: watch::Sender<State>) {
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some(order) = order else { break };
                    self.carry_out(order, &state).await;
                }
                status = ended(self.process.as_ref()) => {
                    self.process = None;
                    let wait = self.back_off.after(self.started.elapsed());
                    self.restart = Some(Instant::now() + wait);
                    // Without its API server, many an operator loses its lease and ends. The previous release is not judged.
                    let failing = self.relay.as_ref().is_some_and(Relay::is_failing);
                    // Whoever took its port meanwhile is to blame, and not the operator.
                    let taken = self.place.port_of_another();
                    let expected = failing || taken.is_some() || self.successor.is_some();
                    state.send_modify(|state| state.unexpected_exits += u32::from(!expected));
                    tracing::warn!(
                        %status, ?wait, ?taken,
                        "the operator under test has ended by itself, it is restarted"
                    );
                }
                () = due(self.restart) => self.start_again().await,
                () = stopped(self.relay.as_mut()) => {
                    self.kill().await;
                    if let Some(relay) = &self.relay {
                        relay.go_on();
                    }
                    self.start_again().await;
                }
                () = suspended(self.leader.as_mut()) => {
                    if let Some(Err(error)) = self.leader.as_mut().map(Leader::suspend) {
                        tracing::error!("{error:#}");
                    }
                }
            }
            self.tell(&state);
        }
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
    }

    fn tell(&self, state: &watch::Sender<State>) {
        state.send_modify(|state| state.running = self.process.is_some());
    }

    async fn carry_out(&mut self, order: Order, state: &watch::Sender<State>) {
        match order {
            Order::Stop(done) => {
                let killed = self.stop().await;
                state.send_modify(|state| state.killed += u32::from(killed));
                self.tell(state);
                let _ = done.send(());
            }
            Order::Start(done) => {
                let outcome = if self.process.is_some() { Ok(()) } else { self.start().await };
                self.tell(state);
                let _ = done.send(outcome);
            }
            Order::Kill(done) => {
                self.kill().await;
                let outcome = self.start().await;
                self.tell(state);
                let _ = done.send(outcome);
            }
            Order::KillAtWrites(namespace, done) => {
                let _ = done.send(self.begin_to_kill(&namespace).await);
            }
            Order::LeaveAlone(done) => {
                self.kill().await;
                let times = self.relay.take().map_or(0, |relay| relay.times());
                let _ = done.send(self.start().await.map(|()| times));
            }
            Order::FailRequests(how, done) => {
                let _ = done.send(self.fail_requests(how).await);
            }
            Order::LetRequestsPass(done) => {
                let outcome = self.let_requests_pass().await;
                self.tell(state);
                let _ = done.send(outcome);
            }
            Order::Elect(done) => {
                let outcome = self.elect().await;
                self.tell(state);
                let _ = done.send(outcome);
            }
            Order::SuspendLeader(done) => {
                let leader = self.leader.as_ref().context("no leader was elected: leaderElection is not in force");
                let _ = done.send(leader.map(Leader::suspend_at_next_write));
            }
            Order::WakeLeader(done) => {
                let _ = done.send(self.leader.as_ref().map_or(Ok(()), Leader::go_on));
            }
            Order::EndElection(done) => {
                let outcome = self.end_election().await;
                self.tell(state);
                let _ = done.send(outcome);
            }
            Order::Downgrade(done) => {
                let outcome = self.downgrade().await;
                self.tell(state);
                let _ = done.send(outcome);
            }
            Order::Upgrade(done) => {
                let outcome = self.upgrade().await.map_err(Unusable::blame);
                self.tell(state);
                let _ = done.send(outcome);
            }
        }
    }

    async fn begin_to_kill(&mut self, namespace: &str) -> anyhow::Result<()> {
        self.lead_through(Relay::start(&self.place.options.access, Some(namespace)).await?).await
    }

    async fn fail_requests(&mut self, how: RequestFailure) -> anyhow::Result<()> {
        if self.relay.is_none() {
            self.lead_through(Relay::start(&self.place.options.access, None).await?).await?;
        }
        self.failing_since = Instant::now();
        self.relay.as_ref().expect("there is one now").fail(how);
        Ok(())
    }

    async fn let_requests_pass(&mut self) -> anyhow::Result<Failed> {
        let times = self.relay.as_ref().map(Relay::go_on).unwrap_or_default();
        let failed = Failed::between(self.failing_since, Instant::now(), &times);
        // One that has been started again meanwhile has seen failures only, and may end of the last one yet.
        if self.process.is_none() || self.started > self.failing_since {
            self.kill().await;
            self.start().await?;
        }
        Ok(failed)
    }

    /// Another process leads from now on, and this one, which has the webhook, is its standby.
    async fn elect(&mut self) -> anyhow::Result<()> {
        self.kill().await;
        self.leader = Some(Leader::start(&self.place).await?);
        self.lead_through(Relay::start(&self.place.options.access, None).await?).await
    }

    async fn end_election(&mut self) -> anyhow::Result<Handover> {
        self.kill().await;
        let leader = self.leader.take().context("no leader was elected")?;
        let standby = self.relay.take().map(|relay| relay.written()).unwrap_or_default();
        let handover = leader.end(standby).await;
        self.start().await?;
        Ok(handover)
    }

    async fn downgrade(&mut self) -> anyhow::Result<()> {
        let previous = self.place.of_previous()?;
        self.successor = Some(self.exchange(previous).await?);
        self.begin().await
    }

    async fn upgrade(&mut self) -> anyhow::Result<()> {
        let successor =
            self.successor.take().context("the previous release does not run: previousRelease is not in force")?;
        self.exchange(successor).await?;
        self.begin().await
    }

    /// Makes place for another release, as a Deployment with the strategy `Recreate` does. Its manifests are installed
    /// while the former one runs, as by Helm or kubectl; the webhooks of that are gone with it. Returns the former place.
    async fn exchange(&mut self, place: Place) -> anyhow::Result<Place> {
        place.install().await?;
        self.place.unregister_webhooks().await?;
        self.stop().await;
        Ok(std::mem::replace(&mut self.place, place))
    }

    async fn begin(&mut self) -> anyhow::Result<()> {
        self.try_start().await?;
        self.place.register_webhooks().await
    }

    /// Stops the process (SIGTERM). Says whether it had to be killed.
    async fn stop(&mut self) -> bool {
        self.restart = None;
        let status = match self.process.take() {
            Some(process) => Some(process.stop().await),
            None => None,
        };
        status.and_then(|status| status.signal()) == Some(Signal::SIGKILL as i32)
    }

    async fn lead_through(&mut self, relay: Relay) -> anyhow::Result<()> {
        self.kill().await;
        self.relay = Some(relay);
        self.start().await
    }

    /// Starts the process, and returns when it is ready. One that does not get ready is started again later, and is to blame,
    /// unless somebody else listens on one of its ports.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.try_start().await.map_err(Unusable::blame)
    }

    async fn try_start(&mut self) -> anyhow::Result<()> {
        (self.restart, self.started) = (None, Instant::now());
        match self.launch().await {
            Ok(process) => {
                self.process = Some(process);
                Ok(())
            }
            Err(error) => {
                self.restart = Some(Instant::now() + self.back_off.after(Duration::ZERO));
                Err(error)
            }
        }
    }

    /// Starts the process, and does not wait until it is ready; tries again later when it cannot.
    async fn start_again(&mut self) {
        (self.restart, self.started) = (None, Instant::now());
        match self.spawn().await {
            Ok(launched) => self.process = Some(launched),
            Err(error) => {
                tracing::error!("restarting the operator under test: {error:#}");
                self.restart = Some(Instant::now() + self.back_off.after(Duration::ZERO));
            }
        }
    }

    async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }
}

async fn ended(process: Option<&Process>) -> ExitStatus {
    match process {
        Some(process) => process.wait().await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn stopped(relay: Option<&mut Relay>) {
    match relay {
        Some(relay) => relay.stopped().await,
        None => std::future::pending().await,
    }
}

async fn suspended(leader: Option<&mut Leader>) {
    match leader {
        Some(leader) => leader.due().await,
        None => std::future::pending().await,
    }
}

/// How long to wait before the next restart.
#[derive(Debug, Default)]
struct BackOff {
    next: Duration,
}

impl BackOff {
    /// The wait after a process that has run for `ran`.
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= FORGIVEN_AFTER {
            self.next = Duration::ZERO;
        }
        let wait = self.next;
        self.next = (wait * 2).clamp(FIRST_BACK_OFF, LONGEST_BACK_OFF);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_back_off_like_a_kubelet() {
        let mut back_off = BackOff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<u64> = (0..8).map(|_| back_off.after(short).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.after(FORGIVEN_AFTER), Duration::ZERO);
    }
}
