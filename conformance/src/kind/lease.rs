//! One lease: what a scenario has of the cluster, and what is undone at its end.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;

use super::host::Shared;
use super::minio::{apply, forward};
use crate::environment::{Container, Database, DatabaseRequest, EnvironmentError, Fault, FaultId, OperatorState};
use crate::implementation::Unusable;
use crate::supervisor::{Beside, BesideOptions, Granted, Lease, Permit};

/// What one scenario has.
pub struct KindLease {
    number: u64,
    shared: Arc<Shared>,
    bucket: String,
    faults: Vec<(FaultId, String, Fault)>,
    /// How many there were: those that were cleared are named, too.
    injected: usize,
    databases: Vec<Beside>,
    _permit: Permit,
}

impl KindLease {
    /// A lease of the cluster.
    pub async fn new(number: u64, shared: Arc<Shared>, permit: Permit) -> anyhow::Result<Self> {
        let bucket = format!("conformance-{number}");
        shared.minio.client().create_bucket(&bucket).await?;
        Ok(Self { number, shared, bucket, faults: Vec::new(), injected: 0, databases: Vec::new(), _permit: permit })
    }

    async fn make_database(&mut self, namespace: &str, request: &DatabaseRequest) -> anyhow::Result<Database> {
        let run = self.shared.spawner.run().directory();
        let directory = run.join(format!("database-{}-{}", self.number, self.databases.len() + 1));
        let options = BesideOptions {
            installation: self.shared.parts.postgresql.clone().map_err(anyhow::Error::msg)?,
            addresses: self.shared.addresses.clone(),
            directory: directory.clone(),
            spawner: self.shared.spawner.clone(),
        };
        super::host::create(&directory)?;
        let beside = Beside::start(options, namespace, request).await?;
        let (database, place) = (beside.database.clone(), beside.place);
        self.databases.push(beside);
        for object in forward(namespace, &request.name, place.port, place.listen) {
            apply(&self.shared.client, &object).await?;
        }
        Ok(database)
    }
}

#[async_trait]
impl Lease for KindLease {
    fn granted(&self) -> Granted {
        let endpoint = self.shared.minio.endpoint();
        Granted {
            kubeconfig: self.shared.cluster.kubeconfig.clone(),
            hosts: None,
            bindings: json!({
                "s3": {
                    "endpoint": endpoint.endpoint,
                    "local": endpoint.local,
                    "bucket": self.bucket,
                    "region": endpoint.region,
                    "accessKey": endpoint.access_key,
                    "secretKey": endpoint.secret_key,
                    "ca": endpoint.ca,
                },
            }),
            secrets: vec![endpoint.secret_key.clone()],
            audit_log: None,
        }
    }

    async fn inject(&mut self, namespace: String, fault: Fault) -> Result<FaultId, EnvironmentError> {
        self.injected += 1;
        let id = FaultId(format!("{}-{}", self.number, self.injected));
        // Noted before it is there: half of a fault is undone too.
        self.faults.push((id.clone(), namespace.clone(), fault.clone()));
        match self.shared.inject(&namespace, &fault).await {
            // Nothing was done, and nothing is to be undone.
            Err(error @ EnvironmentError::Unsupported(_)) => {
                self.faults.pop();
                Err(error)
            }
            injected => injected.map(|()| id),
        }
    }

    async fn clear(&mut self, id: &FaultId) -> Result<(), EnvironmentError> {
        let Some(index) = self.faults.iter().position(|(known, ..)| known == id) else {
            return Err(EnvironmentError::Broken(format!("there is no fault {}, or it was cleared before", id.0)));
        };
        let (_, namespace, fault) = self.faults.remove(index);
        self.shared.clear(&namespace, &fault).await
    }

    async fn database(&mut self, namespace: &str, request: &DatabaseRequest) -> Result<Database, EnvironmentError> {
        if let Err(reason) = &self.shared.parts.postgresql {
            return Err(EnvironmentError::Unsupported(reason.clone()));
        }
        let made = self.make_database(namespace, request).await;
        made.map_err(|error| EnvironmentError::Broken(format!("database {}: {error:#}", request.name)))
    }

    async fn logs(&self, container: &Container) -> Result<String, EnvironmentError> {
        let Container { namespace, pod, .. } = container;
        let read = self.shared.logs.read(container);
        read.map_err(|error| EnvironmentError::Broken(format!("reading the log of {namespace}/{pod}: {error}")))
    }

    async fn operator(&self) -> Result<OperatorState, EnvironmentError> {
        let running = self.shared.operator.is_running().await.map_err(Unusable::or_broken)?;
        let known = self.shared.logs.known();
        let (unexpected_exits, killed) = {
            let known = known.borrow();
            (known.operator_restarts(), known.operator_killed())
        };
        Ok(OperatorState { unexpected_exits, killed, running, log: self.shared.logs.operator_log() })
    }

    fn broken(&self) -> BoxFuture<'static, anyhow::Error> {
        let shared = Arc::clone(&self.shared);
        let broken = async move {
            tokio::select! {
                biased;
                error = shared.broken() => error,
                error = shared.percona.fails() => error,
            }
        };
        broken.boxed()
    }

    /// Faults in reverse order, databases, the bucket, logs of what is gone.
    async fn end(mut self: Box<Self>) {
        while let Some((_, namespace, fault)) = self.faults.pop() {
            if let Err(error) = self.shared.clear(&namespace, &fault).await {
                tracing::error!(?fault, %error, "a fault could not be cleared");
            }
        }
        for beside in self.databases.drain(..) {
            beside.stop().await;
        }
        let undone = async {
            self.shared.minio.client().remove_bucket(&self.bucket).await.context("removing the bucket")?;
            self.shared.logs.drop_gone().await.context("dropping logs")
        };
        if let Err(error) = undone.await {
            tracing::warn!(bucket = self.bucket, "{error:#}");
        }
    }
}
