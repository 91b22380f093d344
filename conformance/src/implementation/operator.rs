//! The process of the operator under test, and who looks after it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::Client;
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::http;
use super::setup::{Options, Prepared, Site, launch, write_kubeconfig};
use super::unusable::Unusable;
use crate::controlplane::{ready, tail};
use crate::environment::OperatorState;
use crate::pki::Authority;
use crate::process::Process;

/// How long the operator may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How often other ports are tried when somebody takes those that were free a moment ago.
const PORT_ATTEMPTS: u32 = 5;

/// kubelet's back-off: the first restart is immediate, the next one comes after this, each later one after twice as long.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_mins(5);

/// A process that has run for so long starts again with the first back-off.
const FORGIVEN_AFTER: Duration = Duration::from_mins(10);

/// A handle of the operator under test. When the last one is dropped, the process is stopped.
#[derive(Clone, Debug)]
pub struct Operator {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
    log: PathBuf,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    unexpected_exits: u32,
    killed: u32,
    running: bool,
}

#[derive(Debug)]
enum Order {
    Stop(oneshot::Sender<()>),
    Start(oneshot::Sender<anyhow::Result<()>>),
    Kill(oneshot::Sender<anyhow::Result<()>>),
}

impl Operator {
    /// Starts the operator, waits until it is ready, and registers its webhook.
    ///
    /// Its manifests must be installed: see [`Prepared::install`].
    pub async fn start(prepared: Arc<Prepared>, options: Options) -> anyhow::Result<Self> {
        std::fs::create_dir(&options.directory).with_context(|| format!("creating {}", options.directory.display()))?;
        let log = options.directory.join("operator.log");
        let authority = Authority::create("dittofs-conformance webhook")?;
        let mut attempt = 1;
        let (keeper, process) = loop {
            let site = Site::choose(&prepared, &authority, &options.directory)?;
            let keeper = Keeper { prepared: Arc::clone(&prepared), options: options.clone(), site, log: log.clone() };
            match keeper.launch().await {
                Ok(process) => break (keeper, process),
                Err(_) if attempt < PORT_ATTEMPTS && keeper.port_was_taken() => {
                    std::fs::remove_file(&log)?;
                    attempt += 1;
                }
                Err(error) => return Err(Unusable::blame(error)),
            }
        };
        if prepared.has_webhook() {
            let client = Client::try_from(options.access.config().await?)?;
            let port = keeper.site.webhook_port;
            prepared.manifests.register_webhooks(&client, port, authority.certificate()).await?;
        }
        let (orders, queue) = mpsc::channel(1);
        let (tell, state) = watch::channel(State { running: true, ..State::default() });
        tokio::spawn(keeper.keep(process, queue, tell));
        Ok(Self { orders, state, log })
    }

    /// Stops it (SIGTERM, SIGKILL after a grace). It stays so until [`Operator::resume`].
    pub async fn stop(&self) -> anyhow::Result<()> {
        let (done, stopped) = oneshot::channel();
        self.orders.send(Order::Stop(done)).await.ok().context("the operator's keeper has ended")?;
        stopped.await.context("the operator's keeper has ended")
    }

    /// Starts it again, and returns when it is ready. Does nothing when it runs.
    pub async fn resume(&self) -> anyhow::Result<()> {
        let (done, started) = oneshot::channel();
        self.orders.send(Order::Start(done)).await.ok().context("the operator's keeper has ended")?;
        started.await.context("the operator's keeper has ended")?
    }

    /// Kills it (SIGKILL) and starts it again. Returns when it is ready.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let (done, started) = oneshot::channel();
        self.orders.send(Order::Kill(done)).await.ok().context("the operator's keeper has ended")?;
        started.await.context("the operator's keeper has ended")?
    }

    /// What it does now.
    pub fn state(&self) -> OperatorState {
        let State { unexpected_exits, killed, running } = *self.state.borrow();
        OperatorState { unexpected_exits, killed, running, log: self.log.clone() }
    }
}

/// Owns the process.
struct Keeper {
    prepared: Arc<Prepared>,
    options: Options,
    site: Site,
    log: PathBuf,
}

impl Keeper {
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
        write_kubeconfig(&self.prepared, &self.options).await?;
        let implementation = &self.prepared.implementation;
        let start = &implementation.start;
        let env = start.env.iter().map(|(name, value)| (name.as_str(), value.render(&self.site.values)));
        let launch = launch(implementation, &start.command, &self.site.values)?
            .envs(env)
            .inherit(["PATH", "HOME", "TMPDIR"])
            .log(&self.log);
        Ok(self.options.spawner.spawn(&launch).await?)
    }

    fn port_was_taken(&self) -> bool {
        tail(&self.log, 15).is_ok_and(|lines| lines.to_lowercase().contains("address already in use"))
    }

    /// Restarts the process when it ends by itself, as a Deployment would, and carries out orders.
    async fn keep(self, process: Process, mut orders: mpsc::Receiver<Order>, state: watch::Sender<State>) {
        let mut process = Some(process);
        let mut back_off = BackOff::default();
        let mut started = Instant::now();
        let mut restart: Option<Instant> = None;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Stop(done)) => {
                        restart = None;
                        let status = match process.take() {
                            Some(process) => Some(process.stop().await),
                            None => None,
                        };
                        let killed = status.and_then(|status| status.signal()) == Some(Signal::SIGKILL as i32);
                        state.send_modify(|state| {
                            state.running = false;
                            state.killed += u32::from(killed);
                        });
                        let _ = done.send(());
                    }
                    Some(Order::Kill(done)) => {
                        if let Some(process) = process.take() {
                            process.kill().await;
                        }
                        let outcome = self.launch().await.map(|launched| process = Some(launched));
                        (restart, started) = (None, Instant::now());
                        state.send_modify(|state| state.running = process.is_some());
                        let _ = done.send(outcome);
                    }
                    Some(Order::Start(done)) => {
                        let outcome = match &process {
                            Some(_) => Ok(()),
                            None => self.launch().await.map(|launched| process = Some(launched)),
                        };
                        (restart, started) = (None, Instant::now());
                        state.send_modify(|state| state.running = process.is_some());
                        let _ = done.send(outcome);
                    }
                    None => {
                        if let Some(process) = process.take() {
                            process.stop().await;
                        }
                        return;
                    }
                },
                status = ended(process.as_ref()) => {
                    process = None;
                    let wait = back_off.after(started.elapsed());
                    restart = Some(Instant::now() + wait);
                    state.send_modify(|state| {
                        state.running = false;
                        state.unexpected_exits += 1;
                    });
                    tracing::warn!(%status, ?wait, "the operator under test has ended by itself, it is restarted");
                }
                () = due(restart) => {
                    restart = None;
                    started = Instant::now();
                    match self.spawn().await {
                        Ok(launched) => process = Some(launched),
                        Err(error) => {
                            tracing::error!("restarting the operator under test: {error:#}");
                            restart = Some(Instant::now() + back_off.after(Duration::ZERO));
                        }
                    }
                    state.send_modify(|state| state.running = process.is_some());
                }
            }
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
