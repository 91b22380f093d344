//! What happens when a `PerconaPGCluster` is deleted (`contract.md`, 6; traces k1 to k3 and o2).

use kube::ResourceExt;
use kube::core::DynamicObject;

use super::cluster::{Cluster, deleting};
use super::context::Kind;
use super::names::{CRUNCHY, STOP_WATCHERS};

impl Cluster {
    /// Runs the finalizers of a cluster that is being deleted, one after the other. Those of others stay.
    pub(super) async fn finalize(&mut self, cluster: &DynamicObject) -> anyhow::Result<()> {
        // The real operator's order is random; the traces have this one.
        for finalizer in
            [STOP_WATCHERS, "percona.com/delete-backups", "percona.com/delete-pvc", "percona.com/delete-ssl"]
        {
            if !cluster.finalizers().iter().any(|each| each == finalizer) {
                continue;
            }
            match finalizer {
                "percona.com/delete-backups" => self.backups.delete_all(cluster).await?,
                "percona.com/delete-pvc" => self.delete_volumes().await?,
                "percona.com/delete-ssl" => self.delete_certificates().await?,
                _ => {}
            }
            let remove = |held: &mut Vec<String>| held.retain(|each| each != finalizer);
            self.context.finalizers(Kind::CLUSTER, &self.key.namespace, &self.key.name, remove).await?;
        }
        Ok(())
    }

    /// The volumes, and the user Secrets with them.
    async fn delete_volumes(&self) -> anyhow::Result<()> {
        for claim in self.labelled(Kind::CLAIM, "").await? {
            if !deleting(&claim) {
                self.context.delete(Kind::CLAIM, &self.key.namespace, &claim.name_any()).await?;
            }
        }
        for secret in self.labelled(Kind::SECRET, &format!(",{CRUNCHY}role=pguser")).await? {
            self.context.delete(Kind::SECRET, &self.key.namespace, &secret.name_any()).await?;
        }
        Ok(())
    }

    async fn delete_certificates(&self) -> anyhow::Result<()> {
        let mut names: Vec<String> = ["pgbackrest", "pgbouncer", "cluster-ca-cert", "cluster-cert", "replication-cert"]
            .map(|suffix| self.key.named(suffix))
            .to_vec();
        let instances = self.labelled(Kind::SECRET, &format!(",{CRUNCHY}instance")).await?;
        names.extend(instances.iter().map(ResourceExt::name_any));
        for name in names {
            self.context.delete(Kind::SECRET, &self.key.namespace, &name).await?;
        }
        Ok(())
    }
}
