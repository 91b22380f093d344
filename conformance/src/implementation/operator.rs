//! The operator under test, as a handle of its process.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};

use super::election::Handover;
use super::failed::Failed;
use super::keeper::{Keeper, Order, State};
use super::place::Place;
use super::setup::{Options, Prepared};
use super::unusable::{PortTaken, Unusable};
use crate::environment::{OperatorState, RequestFailure};
use crate::pki::Authority;

/// How often other ports are tried when somebody takes those that were free a moment ago.
const PORT_ATTEMPTS: u32 = 5;

/// A handle of the operator under test. When the last one is dropped, the process is stopped.
#[derive(Clone, Debug)]
pub struct Operator {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
    log: PathBuf,
}

impl Operator {
    /// Starts the operator, waits until it is ready, and registers its webhook.
    ///
    /// Its manifests must be installed: see [`Prepared::install`].
    pub async fn start(prepared: Arc<Prepared>, options: Options) -> anyhow::Result<Self> {
        std::fs::create_dir(&options.directory).with_context(|| format!("creating {}", options.directory.display()))?;
        let authority = Arc::new(Authority::create("dittofs-conformance webhook")?);
        let fixed = prepared.implementation.webhook_port();
        let may_move = |error: &anyhow::Error| {
            let taken = error.downcast_ref::<PortTaken>();
            taken.is_some_and(|PortTaken(port)| Some(*port) != fixed)
        };
        let mut attempt = 1;
        let keeper = loop {
            let place = Place::choose(Arc::clone(&prepared), options.clone(), Arc::clone(&authority))?;
            let mut keeper = Keeper::new(place);
            match keeper.start().await {
                Ok(()) => break keeper,
                Err(error) if attempt < PORT_ATTEMPTS && may_move(&error) => {
                    std::fs::remove_file(&keeper.place().log)?;
                    attempt += 1;
                }
                Err(error) => return Err(Unusable::blame(error)),
            }
        };
        keeper.place().register_webhooks().await.map_err(Unusable::blame)?;
        let log = keeper.place().log.clone();
        let (orders, queue) = mpsc::channel(1);
        let (tell, state) = watch::channel(State { running: true, ..State::default() });
        tokio::spawn(keeper.keep(queue, tell));
        Ok(Self { orders, state, log })
    }

    /// Stops it (SIGTERM, SIGKILL after a grace). It stays so until [`Operator::resume`].
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.order(Order::Stop).await
    }

    /// Starts it again, and returns when it is ready. Does nothing when it runs.
    pub async fn resume(&self) -> anyhow::Result<()> {
        self.order(Order::Start).await?
    }

    /// Kills it (SIGKILL) and starts it again. Returns when it is ready.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.order(Order::Kill).await?
    }

    /// From now on kills it (SIGKILL) each time the API server has carried out a write of it in `namespace`, before it hears
    /// of that, and starts it again; three times at most for each path and method. `Event`s do not count. Returns when it
    /// is ready.
    pub async fn kill_at_writes(&self, namespace: &str) -> anyhow::Result<()> {
        let namespace = namespace.to_owned();
        self.order(|done| Order::KillAtWrites(namespace, done)).await?
    }

    /// Ends [`Operator::kill_at_writes`] with a last kill. Returns how often it was killed at a write, when it is ready.
    pub async fn leave_alone(&self) -> anyhow::Result<u32> {
        self.order(Order::LeaveAlone).await?
    }

    /// From now on every request fails, and watches end; the process is started anew once, to lead it here. Returns when that is
    /// ready and the first request would fail.
    pub async fn fail_requests(&self, how: RequestFailure) -> anyhow::Result<()> {
        self.order(|done| Order::FailRequests(how, done)).await?
    }

    /// Ends [`Operator::fail_requests`]. Returns which requests failed; when the process had ended, as soon as the next
    /// one is ready.
    pub async fn let_requests_pass(&self) -> anyhow::Result<Failed> {
        self.order(Order::LetRequestsPass).await?
    }

    /// Starts it anew as the standby of a second process, which leads. Returns when both are ready.
    pub async fn elect(&self) -> anyhow::Result<()> {
        self.order(Order::Elect).await?
    }

    /// At its next write, the process that leads is suspended (SIGSTOP): that is carried out, and answered only when it goes on.
    ///
    /// # Errors
    /// There is none: see [`Operator::elect`].
    pub async fn suspend_leader(&self) -> anyhow::Result<()> {
        self.order(Order::SuspendLeader).await?
    }

    /// Lets the suspended process go on (SIGCONT).
    pub async fn wake_leader(&self) -> anyhow::Result<()> {
        self.order(Order::WakeLeader).await?
    }

    /// Ends [`Operator::elect`]: it is started anew, alone and without an election. Returns what both have written, when it is
    /// ready.
    pub async fn end_election(&self) -> anyhow::Result<Handover> {
        self.order(Order::EndElection).await?
    }

    /// The previous release takes its place, with its manifests. Returns when that is ready.
    ///
    /// # Errors
    /// The file names none, or that one cannot be installed or started.
    pub async fn downgrade(&self) -> anyhow::Result<()> {
        self.order(Order::Downgrade).await?
    }

    /// Ends [`Operator::downgrade`]: it takes the place of the previous release, with its manifests. Returns when it is ready.
    pub async fn upgrade(&self) -> anyhow::Result<()> {
        self.order(Order::Upgrade).await?
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> anyhow::Result<T> {
        let (done, outcome) = oneshot::channel();
        self.orders.send(order(done)).await.ok().context("the operator's keeper has ended")?;
        outcome.await.context("the operator's keeper has ended")
    }

    /// What it does now.
    pub fn state(&self) -> OperatorState {
        let State { unexpected_exits, killed, running } = *self.state.borrow();
        OperatorState { unexpected_exits, killed, running, log: self.log.clone() }
    }
}
