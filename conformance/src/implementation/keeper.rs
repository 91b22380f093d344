//! Who looks after the operator's process: restarts it when it ends, as a Deployment would, and carries out orders.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::failed::Failed;
use super::http;
use super::relay::Relay;
use super::setup::{Options, Prepared, Site, launch, write_kubeconfig};
use crate::controlplane::{ready, tail};
use crate::environment::RequestFailure;
use crate::process::Process;

/// How long the operator may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

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
}

/// Owns the process.
pub(super) struct Keeper {
    prepared: Arc<Prepared>,
    options: Options,
    site: Site,
    log: PathBuf,
    process: Option<Process>,
    started: Instant,
    /// When it is started again by itself.
    restart: Option<Instant>,
    back_off: BackOff,
    /// Between the operator and the API server, from the first fault that needs it.
    relay: Option<Relay>,
    /// When its requests began to fail the last time.
    failing_since: Instant,
}

impl Keeper {
    pub fn new(prepared: Arc<Prepared>, options: Options, site: Site, log: PathBuf) -> Self {
        Self {
            prepared,
            options,
            site,
            log,
            process: None,
            started: Instant::now(),
            restart: None,
            back_off: BackOff::default(),
            relay: None,
            failing_since: Instant::now(),
        }
    }

    pub fn webhook_port(&self) -> u16 {
        self.site.webhook_port
    }

    /// Starts the process and waits until it is ready.
    async fn launch(&self) -> anyhow::Result<Process> {
        let process = self.spawn().await?;
        let implementation = &self.prepared.implementation;
        let url = implementation.ready.render(&self.site.values);
        let url = url.parse().with_context(|| format!("{url:?} (ready) is no URL"))?;
        let webhook = self.prepared.has_webhook().then_some(self.site.webhook_port);
        ready(&process, &self.log, READY_WITHIN, async || {
            let status = http::get(&url).await.with_context(|| format!("GET {url}"))?;
            ensure!(status.is_success(), "GET {url} says {status}");
            if let Some(port) = webhook {
                let serving = TcpStream::connect(("127.0.0.1", port)).await;
                serving.with_context(|| format!("connecting to the webhook on port {port}"))?;
            }
            Ok(())
        })
        .await?;
        Ok(process)
    }

    async fn spawn(&self) -> anyhow::Result<Process> {
        let access = self.relay.as_ref().map_or(&self.options.access, Relay::access);
        write_kubeconfig(&self.prepared, &self.options, access).await?;
        let implementation = &self.prepared.implementation;
        let start = &implementation.start;
        let env = start.env.iter().map(|(name, value)| (name.as_str(), value.render(&self.site.values)));
        let launch = launch(implementation, &start.command, &self.site.values)?
            .envs(env)
            .inherit(["PATH", "HOME", "TMPDIR"])
            .log(&self.log);
        Ok(self.options.spawner.spawn(&launch).await?)
    }

    pub fn port_was_taken(&self) -> bool {
        tail(&self.log, 15).is_ok_and(|lines| lines.to_lowercase().contains("address already in use"))
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
                    // Without its API server, many an operator loses its lease and ends.
                    let expected = self.relay.as_ref().is_some_and(Relay::is_failing);
                    state.send_modify(|state| state.unexpected_exits += u32::from(!expected));
                    tracing::warn!(%status, ?wait, "the operator under test has ended by itself, it is restarted");
                }
                () = due(self.restart) => self.start_again().await,
                () = stopped(self.relay.as_mut()) => {
                    self.kill().await;
                    if let Some(relay) = &self.relay {
                        relay.go_on();
                    }
                    self.start_again().await;
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
                self.restart = None;
                let status = match self.process.take() {
                    Some(process) => Some(process.stop().await),
                    None => None,
                };
                let killed = status.and_then(|status| status.signal()) == Some(Signal::SIGKILL as i32);
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
        }
    }

    async fn begin_to_kill(&mut self, namespace: &str) -> anyhow::Result<()> {
        self.lead_through(Relay::start(&self.options.access, Some(namespace)).await?).await
    }

    async fn fail_requests(&mut self, how: RequestFailure) -> anyhow::Result<()> {
        if self.relay.is_none() {
            self.lead_through(Relay::start(&self.options.access, None).await?).await?;
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

    async fn lead_through(&mut self, relay: Relay) -> anyhow::Result<()> {
        self.kill().await;
        self.relay = Some(relay);
        self.start().await
    }

    /// Starts the process, and returns when it is ready.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        (self.restart, self.started) = (None, Instant::now());
        self.process = Some(self.launch().await?);
        Ok(())
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
