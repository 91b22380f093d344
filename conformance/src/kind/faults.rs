//! Faults in a real cluster, and how each is undone.

use std::sync::Arc;

use super::host::Shared;
use super::percona::Presence;
use crate::environment::{EnvironmentError, Fault};
use crate::percona::Double;

impl Shared {
    /// Injects a fault. Returns when it is in force.
    pub(super) async fn inject(&self, namespace: &str, fault: &Fault) -> Result<(), EnvironmentError> {
        match fault {
            Fault::StopOperator {} => self.operator.stop().await.map_err(broken),
            Fault::StopPercona {} => self.percona.stop().await.map_err(broken),
            Fault::S3Outage { .. } => self.minio.begin_outage().await.map_err(broken),
            Fault::PerconaAbsent {} => self.remove_percona().await.map_err(broken),
            Fault::HoldSecret { cluster, keys } => {
                let keys = keys.iter().cloned().collect();
                self.double("withholding a Secret").await?.hold_secret(namespace, cluster, keys).await;
                Ok(())
            }
            Fault::HoldReady { cluster } => {
                self.double("keeping a cluster from getting ready").await?.hold_ready(namespace, cluster).await;
                Ok(())
            }
            Fault::KillPostgres { cluster } => {
                if self.double("killing PostgreSQL").await?.kill_postgres(namespace, cluster).await {
                    return Ok(());
                }
                Err(EnvironmentError::Broken(format!(
                    "no PostgreSQL of {namespace}/{cluster} runs that could be killed"
                )))
            }
        }
    }

    /// Clears a fault. Returns when normal operation has begun.
    pub(super) async fn clear(&self, namespace: &str, fault: &Fault) -> Result<(), EnvironmentError> {
        match fault {
            Fault::StopOperator {} => self.start_operator().await.map_err(broken),
            Fault::StopPercona {} => self.percona.start().await.map_err(broken),
            Fault::S3Outage { .. } => self.minio.end_outage().await.map_err(broken),
            Fault::PerconaAbsent {} => self.percona.ensure(Presence::Crds).await.map_err(broken),
            Fault::HoldSecret { cluster, .. } => {
                self.double("withholding a Secret").await?.release_secret(namespace, cluster).await;
                Ok(())
            }
            Fault::HoldReady { cluster } => {
                self.double("keeping a cluster from getting ready").await?.release_ready(namespace, cluster).await;
                Ok(())
            }
            // It has come back by itself.
            Fault::KillPostgres { .. } => Ok(()),
        }
    }

    async fn double(&self, what: &str) -> Result<Arc<Double>, EnvironmentError> {
        let unsupported = || EnvironmentError::Unsupported(format!("{what} needs the double: `--percona double`"));
        self.percona.double().await.ok_or_else(unsupported)
    }

    async fn start_operator(&self) -> anyhow::Result<()> {
        self.operator.start().await?;
        if self.webhook {
            self.operator.webhook_reached().await?;
        }
        Ok(())
    }

    /// The operator is to find a cluster without Percona when it starts.
    async fn remove_percona(&self) -> anyhow::Result<()> {
        self.operator.stop().await?;
        self.percona.ensure(Presence::Absent).await?;
        self.start_operator().await
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used with map_err")]
pub(super) fn broken(error: anyhow::Error) -> EnvironmentError {
    EnvironmentError::Broken(format!("{error:#}"))
}
