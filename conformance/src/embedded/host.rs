//! All control planes of one supervisor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::capabilities::capabilities;
use super::lease::EmbeddedLease;
use super::settings::Settings;
use super::shared::Shared;
use super::stack::{self, Stack};
use crate::environment::{Capabilities, Description, Isolation, LeaseRequest};
use crate::implementation::Told;
use crate::percona::CrashScope;
use crate::process::Spawner;
use crate::supervisor::{self, FileStamp, Lanes, Lease, Permit};
use crate::tools::Progress;

/// Control planes of scenarios' own, by the numbers of their leases.
#[derive(Clone, Default)]
pub(super) struct Own(Arc<Mutex<BTreeMap<u64, Arc<Stack>>>>);

impl Own {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Stack>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets one that has ended.
    pub fn remove(&self, number: u64) {
        self.lock().remove(&number);
    }
}

/// The embedded environment, in the process that owns it.
pub struct Host {
    shared: Arc<Shared>,
    stack: Arc<Stack>,
    lanes: Lanes,
    kubernetes: String,
    /// What the operator is started from, as it was then.
    program: Option<Vec<FileStamp>>,
    own: Own,
    /// The one beside the shared one, from the first scenario that is to be alone while others run.
    /// Why there is none, too: what failed once fails again, and would then be told of its own remains.
    aside: OnceCell<Result<Arc<Stack>, Told>>,
}

impl Host {
    /// Brings everything up. Dropped in the middle, it kills what it has started.
    ///
    /// # Errors
    /// Something cannot be had or does not start.
    pub async fn start(settings: Settings, spawner: Spawner, progress: Progress) -> anyhow::Result<Self> {
        let directory = spawner.run().directory().join("shared");
        stack::create(&directory)?;
        let lanes = Lanes::new(settings.own_control_planes);
        let (shared, plane) = Shared::prepare(settings, spawner, progress, &directory.join("plane")).await?;
        let shared = Arc::new(shared);
        // Before it is started: a change in the middle counts.
        let program = FileStamp::of_each(shared.prepared.files());
        let stack = Stack::assemble(Arc::clone(&shared), plane, &directory, CrashScope::Namespace).await?;
        Ok(Self {
            lanes,
            kubernetes: stack.client().apiserver_version().await?.git_version,
            program,
            shared,
            stack: Arc::new(stack),
            own: Own::default(),
            aside: OnceCell::new(),
        })
    }

    async fn another(&self, name: &str, crash: CrashScope) -> anyhow::Result<Arc<Stack>> {
        let directory = self.shared.spawner.run().directory().join(name);
        let started = Stack::start(Arc::clone(&self.shared), &directory, crash).await;
        if started.is_err() {
            // What its logs say about that stands in the error.
            stack::remove(&directory);
        }
        Ok(Arc::new(started?))
    }
}

#[async_trait]
impl supervisor::Host for Host {
    fn description(&self) -> Description {
        let implementation = self.shared.prepared.implementation();
        Description {
            environment: "embedded".to_owned(),
            kubernetes: self.kubernetes.clone(),
            percona: "double of 2.8.2".to_owned(),
            implementation: implementation.name.clone(),
            implementation_version: implementation.version.clone(),
            about: implementation.about(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        let prepared = &self.shared.prepared;
        capabilities(&self.shared.parts, prepared.implementation(), prepared.has_webhook())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.stack.plane().kubeconfig()
    }

    fn control_planes(&self) -> usize {
        1 + self.own.lock().len() + usize::from(self.aside.initialized())
    }

    fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    async fn lease(&self, number: u64, request: &LeaseRequest, permit: Permit) -> anyhow::Result<Box<dyn Lease>> {
        let stack = match request.isolation {
            Isolation::Operator if request.aside => {
                let another = Box::pin(self.another("aside", CrashScope::Namespace));
                let begin = async || another.await.map_err(|error| Told::of(&error));
                let aside = self.aside.get_or_init(begin).await;
                Arc::clone(aside.as_ref().map_err(Told::again).context("a second control plane")?)
            }
            Isolation::Namespace | Isolation::Operator => Arc::clone(&self.stack),
            Isolation::Cluster => {
                // Nobody else is there: as in reality, a crash stops all of Percona.
                let stack = self.another(&format!("own-{number}"), CrashScope::Operator).await?;
                self.own.lock().insert(number, Arc::clone(&stack));
                stack
            }
        };
        let own = (request.isolation == Isolation::Cluster).then(|| self.own.clone());
        let lease: Box<dyn Lease> = EmbeddedLease::begin(number, stack, own, permit).await?;
        Ok(lease)
    }

    async fn refresh(&self) -> anyhow::Result<bool> {
        let prepared = self.shared.rebuild().await?;
        let program = FileStamp::of_each(prepared.files());
        // Without its program, nobody knows.
        Ok(program.is_none() || program != self.program || !prepared.installs_as(&self.shared.prepared))
    }

    async fn broken(&self) -> anyhow::Error {
        self.stack.ended().await
    }

    async fn end(&self) {
        let own = std::mem::take(&mut *self.own.lock());
        let others = own.values().chain(self.aside.get().and_then(|aside| aside.as_ref().ok()));
        tokio::join!(futures::future::join_all(others.map(|stack| stack.stop())), self.stack.stop());
    }
}
