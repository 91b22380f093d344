//! Percona's operator in the cluster: the real one, or the double. It may also be absent, which is where every cluster begins.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use serde_json::json;
use tokio::sync::Mutex;

use super::helm::{Chart, Helm};
use super::real::RealOperator;
use crate::controlplane::{self, CustomResources};
use crate::percona::{self, Double};

/// The groups of Percona's CRDs; the outer one is what an operator looks for.
const OUTER: &str = "pgv2.percona.com";
const INNER: &str = "postgres-operator.crunchydata.com";

/// Release and namespace of the real operator.
const RELEASE: &str = "percona-operator";
const NAMESPACE: &str = "postgres-operator";

/// How much of Percona is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Nothing.
    Absent,
    /// Its CRDs.
    Crds,
    /// All of it.
    Installed,
}

/// Which Percona.
#[allow(clippy::large_enum_variant, reason = "there is one for each cluster: its size is of no account")]
pub enum Mode {
    /// The double, which this process runs.
    Double {
        /// What it is started with.
        options: Box<dyn Fn() -> percona::Options + Send + Sync>,
    },
    /// Percona's own chart.
    Real {
        /// The program that installs it.
        helm: Box<Helm>,
        /// Where it is.
        chart: Chart,
    },
}

/// Percona in one cluster.
pub struct Percona {
    client: Client,
    mode: Mode,
    crds: CustomResources,
    state: Mutex<State>,
}

struct State {
    presence: Presence,
    double: Option<Arc<Double>>,
    /// Whether the real operator was installed and then stopped, so that its CRDs could go.
    stopped: bool,
}

impl Percona {
    /// Percona, of which `presence` is there.
    pub fn new(client: Client, mode: Mode, crds: CustomResources, presence: Presence) -> Self {
        Self { client, mode, crds, state: Mutex::new(State { presence, double: None, stopped: false }) }
    }

    /// Brings Percona to be there as far as asked for; returns when it works.
    pub async fn ensure(&self, wanted: Presence) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        if state.presence == wanted && (state.double.is_some() || self.is_real() || wanted != Presence::Installed) {
            return Ok(());
        }
        match wanted {
            Presence::Absent => self.remove(&mut state).await,
            Presence::Crds => self.crds.apply(&self.client).await,
            Presence::Installed => self.install(&mut state).await,
        }?;
        state.presence = wanted;
        Ok(())
    }

    fn is_real(&self) -> bool {
        matches!(self.mode, Mode::Real { .. })
    }

    async fn install(&self, state: &mut State) -> anyhow::Result<()> {
        self.crds.apply(&self.client).await?;
        match &self.mode {
            Mode::Double { options } => {
                if state.double.is_none() {
                    let double = Double::start(options()).await.context("starting the double of Percona")?;
                    state.double = Some(Arc::new(double));
                }
                Ok(())
            }
            Mode::Real { .. } if state.stopped => {
                self.real().start().await?;
                state.stopped = false;
                Ok(())
            }
            Mode::Real { helm, chart } => {
                let values = json!({
                    "watchAllNamespaces": true,
                    "imagePullPolicy": "IfNotPresent",
                    "disableTelemetry": true,
                    "fullnameOverride": RELEASE,
                    // The chart's 200m of a core are too few for several clusters that come up at the same time.
                    "resources": { "limits": { "cpu": null } },
                });
                helm.install(RELEASE, NAMESPACE, chart, &values, false).await.context("installing Percona")?;
                self.real().leads().await
            }
        }
    }

    async fn remove(&self, state: &mut State) -> anyhow::Result<()> {
        // Clusters first: their finalizers need the operator. The double goes on, its inner objects need it; without CRDs
        // it sees nothing new.
        controlplane::remove(&self.client, OUTER).await?;
        if self.is_real() && state.presence == Presence::Installed {
            self.real().stop().await?;
            state.stopped = true;
            controlplane::remove(&self.client, INNER).await?;
        }
        Ok(())
    }

    /// The real operator.
    pub fn real(&self) -> RealOperator {
        RealOperator::new(self.client.clone(), NAMESPACE, RELEASE)
    }

    /// The double, if it is what runs here.
    pub async fn double(&self) -> Option<Arc<Double>> {
        self.state.lock().await.double.clone()
    }

    /// Waits until the machine keeps databases of the double from starting, and says how.
    pub async fn fails(&self) -> anyhow::Error {
        match self.double().await {
            Some(double) => double.machine().fails().await,
            None => std::future::pending().await,
        }
    }

    /// Stops the operator; its clusters run on.
    pub async fn stop(&self) -> anyhow::Result<()> {
        match self.double().await {
            Some(double) => {
                double.stop_operator().await;
                Ok(())
            }
            None => self.real().stop().await,
        }
    }

    /// Starts it again.
    pub async fn start(&self) -> anyhow::Result<()> {
        match self.double().await {
            Some(double) => {
                double.start_operator();
                Ok(())
            }
            None => self.real().start().await,
        }
    }

    /// Ends what this process runs.
    pub async fn end(&self) {
        let double = self.state.lock().await.double.take();
        if let Some(double) = double {
            double.stop().await;
        }
    }
}

/// What the real operator's chart is by default.
pub fn public_chart() -> Chart {
    Chart {
        chart: "pg-operator".to_owned(),
        repository: Some("https://percona.github.io/percona-helm-charts/".to_owned()),
        version: Some(percona::VERSION.to_owned()),
    }
}

/// A chart that the user names: a path, or a reference that Helm knows.
pub fn chart(named: Option<&str>) -> Chart {
    match named {
        None => public_chart(),
        Some(path) if PathBuf::from(path).exists() => Chart::directory(Path::new(path)),
        Some(reference) => {
            Chart { chart: reference.to_owned(), repository: None, version: Some(percona::VERSION.to_owned()) }
        }
    }
}
