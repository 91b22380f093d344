//! Faults in a real cluster, and how each is undone.

use super::capabilities::{NO_RELAY, ONE_RELEASE};
use super::host::Shared;
use super::percona::Presence;
use crate::environment::{EnvironmentError, Fault};
use crate::implementation::Unusable;

impl Shared {
    /// Injects a fault. Returns when it is in force.
    pub(super) async fn inject(&self, namespace: &str, fault: &Fault) -> Result<(), EnvironmentError> {
        match fault {
            Fault::StopOperator {} => self.operator.stop().await.map_err(Unusable::or_broken),
            Fault::KillOperator {} => self.kill_operator().await.map_err(Unusable::or_broken),
            Fault::KillOperatorAtWrites {}
            | Fault::FailOperatorRequests { .. }
            | Fault::LeaderElection {}
            | Fault::SuspendLeader {} => Err(EnvironmentError::Unsupported(NO_RELAY.to_owned())),
            Fault::PreviousRelease {} => Err(EnvironmentError::Unsupported(ONE_RELEASE.to_owned())),
            Fault::StopPercona {} => self.percona.stop().await.map_err(Unusable::or_broken),
            Fault::S3Outage { .. } => self.minio.begin_outage().await.map_err(Unusable::or_broken),
            Fault::PerconaAbsent {} => self.remove_percona().await.map_err(Unusable::or_broken),
            Fault::HoldSecret { cluster, keys } => match self.percona.double().await {
                Some(double) => {
                    double.hold_secret(namespace, cluster, keys.iter().cloned().collect()).await;
                    Ok(())
                }
                None => self.real_faults.hold_secret(namespace, cluster, keys).await.map_err(Unusable::or_broken),
            },
            Fault::HoldReady { cluster } => match self.percona.double().await {
                Some(double) => {
                    double.hold_ready(namespace, cluster).await;
                    Ok(())
                }
                None => self.real_faults.hold_ready(namespace, cluster).await.map_err(Unusable::or_broken),
            },
            Fault::KillPostgres { cluster } => match self.percona.double().await {
                Some(double) if double.kill_postgres(namespace, cluster).await => Ok(()),
                Some(_) => Err(EnvironmentError::Broken(format!(
                    "no PostgreSQL of {namespace}/{cluster} runs that could be killed"
                ))),
                None => self.real_faults.kill_postgres(namespace, cluster).await.map_err(Unusable::or_broken),
            },
        }
    }

    /// Clears a fault. Returns when normal operation has begun.
    pub(super) async fn clear(&self, namespace: &str, fault: &Fault) -> Result<(), EnvironmentError> {
        match fault {
            Fault::StopOperator {} => self.start_operator().await.map_err(Unusable::or_broken),
            Fault::StopPercona {} => self.percona.start().await.map_err(Unusable::or_broken),
            Fault::S3Outage { .. } => self.minio.end_outage().await.map_err(Unusable::or_broken),
            Fault::PerconaAbsent {} => self.percona.ensure(Presence::Crds).await.map_err(Unusable::or_broken),
            Fault::HoldSecret { cluster, .. } => match self.percona.double().await {
                Some(double) => {
                    double.release_secret(namespace, cluster).await;
                    Ok(())
                }
                None => self.real_faults.release_secret(namespace, cluster).await.map_err(Unusable::or_broken),
            },
            Fault::HoldReady { cluster } => match self.percona.double().await {
                Some(double) => {
                    double.release_ready(namespace, cluster).await;
                    Ok(())
                }
                None => self.real_faults.release_ready(namespace, cluster).await.map_err(Unusable::or_broken),
            },
            // It has come back by itself, or was never in force.
            Fault::KillPostgres { .. }
            | Fault::KillOperator {}
            | Fault::KillOperatorAtWrites {}
            | Fault::FailOperatorRequests { .. }
            | Fault::LeaderElection {}
            | Fault::SuspendLeader {}
            | Fault::PreviousRelease {} => Ok(()),
        }
    }

    async fn kill_operator(&self) -> anyhow::Result<()> {
        self.operator.kill().await?;
        self.start_operator().await
    }

    async fn start_operator(&self) -> anyhow::Result<()> {
        self.operator.start().await.map_err(Unusable::blame)?;
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
