//! Percona's own operator, as its chart installs it.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use kube::runtime::watcher;
use kube::{Api, Client};

use super::operator::Workload;
use super::ready::{Seen, unless, until};

/// The Lease of its leader: `ElectionID` of `percona/runtime` at v2.8.2.
const LEASE: &str = "08db3feb.percona.com";
/// How long one that is ready may take to lead: it took half a second.
const LEADS_WITHIN: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone)]
pub struct RealOperator {
    workload: Workload,
}

impl RealOperator {
    /// The operator of a Deployment.
    pub fn new(client: Client, namespace: &str, deployment: &str) -> Self {
        Self { workload: Workload { client, namespace: namespace.to_owned(), name: deployment.to_owned() } }
    }

    /// Stops it; its clusters run on.
    ///
    /// It does not give back its Lease: the next one would do nothing for 20 s.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.workload.stop().await?;
        match self.leases().delete(LEASE, &DeleteParams::default()).await {
            Err(error) if !matches!(&error, kube::Error::Api(status) if status.code == 404) => {
                Err(error).with_context(|| format!("deleting Lease {LEASE} of Percona's operator"))
            }
            _ => Ok(()),
        }
    }

    /// Starts it again. Returns when it works.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.workload.start().await?;
        self.leads().await
    }

    /// Waits until it leads.
    pub async fn leads(&self) -> anyhow::Result<()> {
        self.workload.ready().await?;
        let only = watcher::Config::default().fields(&format!("metadata.name={LEASE}"));
        until("Percona's operator", self.leases(), only, LEADS_WITHIN, |leases: &Seen<Lease>| {
            let spec = leases.get(LEASE).and_then(|lease| lease.spec.as_ref());
            let held = spec.and_then(|spec| spec.holder_identity.as_ref()).is_some_and(|holder| !holder.is_empty());
            unless(held, || format!("nobody holds Lease {LEASE}"))
        })
        .await
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.workload.client.clone(), &self.workload.namespace)
    }
}
