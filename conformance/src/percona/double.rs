//! The double as a whole: start, faults, stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::backup::Program;
use super::context::Context;
use super::controller::Controller;
use super::events::Recorder;
use super::faults::{Crash, CrashScope, Faults};
use super::machine::Machine;
use super::names::Key;
use super::node;
use super::registry::Registry;
use crate::hosts::Hosts;
use crate::postgres::{Addresses, Installation};
use crate::process::Spawner;

/// What a double needs.
pub struct Options {
    /// Administrator's access to the API server.
    pub config: kube::Config,
    /// Where the names of the Services are written down.
    pub hosts: Hosts,
    /// Starts PostgreSQL and pgBackRest.
    pub spawner: Spawner,
    /// A directory of the double's own that exists, that every user may enter, and whose path is short.
    pub directory: PathBuf,
    /// PostgreSQL.
    pub installation: Installation,
    /// pgBackRest; without it, clusters with backups never get a stanza.
    pub pgbackrest: Option<Program>,
    /// Where servers listen: one stock for all doubles of a supervisor.
    pub addresses: Addresses,
    /// Whom a crash stops.
    pub crash: CrashScope,
}

/// A running double of the Percona operator, with the kubelet of its pods.
pub struct Double {
    context: Arc<Context>,
    controller: Arc<Controller>,
    /// Watches, and the node's sign of life.
    tasks: Vec<JoinHandle<()>>,
}

impl Double {
    /// Starts the double. Percona's CRDs may be installed later.
    ///
    /// # Errors
    /// The API server cannot be used with this configuration.
    pub async fn start(options: Options) -> kube::Result<Self> {
        let context = Arc::new(Context {
            client: kube::Client::try_from(options.config)?,
            spawner: options.spawner,
            hosts: options.hosts,
            installation: options.installation,
            pgbackrest: options.pgbackrest,
            directory: options.directory,
            faults: Arc::new(Faults::new(options.crash)),
            machine: Machine::default(),
            registry: Registry::new(options.addresses),
            recorder: Recorder::default(),
        });
        node::register(&context).await?;
        let controller = Controller::new(Arc::clone(&context));
        let mut tasks = controller.watch_all();
        tasks.push(node::keep_alive(Arc::clone(&context)));
        Ok(Self { context, controller, tasks })
    }

    /// Withholds the user Secrets of a cluster, or only these keys of them. Returns when it is so; like everything here
    /// that waits for the operator at once while that is stopped or has crashed, and cannot do anything.
    pub async fn hold_secret(&self, namespace: &str, cluster: &str, keys: BTreeSet<String>) {
        let key = key(namespace, cluster);
        self.context.faults.hold_secret(key.clone(), keys);
        self.controller.enqueue(key).ended().await;
    }

    /// Writes what [`Double::hold_secret`] withheld. Returns when it is written.
    pub async fn release_secret(&self, namespace: &str, cluster: &str) {
        let key = key(namespace, cluster);
        self.context.faults.release_secret(&key);
        self.controller.enqueue(key).ended().await;
    }

    /// Keeps a cluster in `initializing`, or takes it back there. Returns when it is so.
    pub async fn hold_ready(&self, namespace: &str, cluster: &str) {
        let key = key(namespace, cluster);
        self.context.faults.hold_ready(key.clone());
        self.controller.enqueue(key).ended().await;
    }

    /// Ends [`Double::hold_ready`].
    pub async fn release_ready(&self, namespace: &str, cluster: &str) {
        let key = key(namespace, cluster);
        self.context.faults.release_ready(&key);
        self.controller.enqueue(key).ended().await;
    }

    /// Kills a cluster's PostgreSQL (SIGKILL). It is started again at once. False when none runs.
    pub async fn kill_postgres(&self, namespace: &str, cluster: &str) -> bool {
        let server = self.context.registry.get(&key(namespace, cluster)).and_then(|instance| instance.server());
        match server {
            Some(server) => {
                server.kill().await;
                true
            }
            None => false,
        }
    }

    /// Stops the operator. Its clusters' pods run on. Returns when it does nothing more.
    pub async fn stop_operator(&self) {
        self.controller.stop().await;
    }

    /// Starts the operator again.
    pub fn start_operator(&self) {
        self.controller.start();
    }

    /// The crash loop that keeps the operator from looking after a namespace: a cluster in it has no `spec.proxy`.
    pub fn crash(&self, namespace: &str) -> Option<Crash> {
        self.context.faults.crash(namespace)
    }

    /// Tells when servers do not start because of the machine.
    pub fn machine(&self) -> Machine {
        self.context.machine.clone()
    }

    /// Ends everything that the double runs. The objects in the API server stay as they are.
    pub async fn stop(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.controller.end().await;
        let servers = self.context.registry.all().into_iter().filter_map(|instance| {
            let server = instance.server()?;
            instance.set_server(None);
            Some(async move { server.stop().await })
        });
        futures::future::join_all(servers).await;
    }
}

fn key(namespace: &str, cluster: &str) -> Key {
    Key { namespace: namespace.to_owned(), name: cluster.to_owned() }
}
