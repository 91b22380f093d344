//! One lease: the control plane that a scenario uses, and what is undone at its end.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;

use super::host::Own;
use super::stack::Stack;
use crate::environment::{
    AuditLog, Container, Database, DatabaseRequest, EnvironmentError, Fault, FaultId, OperatorState,
};
use crate::supervisor::{Beside, BesideOptions, Granted, Lease, Permit};

/// What one scenario has.
pub(super) struct EmbeddedLease {
    number: u64,
    stack: Arc<Stack>,
    /// Where it is noted that the control plane is the scenario's own.
    own: Option<Own>,
    bucket: String,
    faults: Vec<(FaultId, String, Fault)>,
    /// How many there were: those that were cleared are named, too.
    injected: usize,
    databases: Vec<Beside>,
    _permit: Permit,
}

impl EmbeddedLease {
    /// A lease of `stack`, which is the scenario's own or the shared one. When it cannot be made, it has ended: the stack that
    /// is the scenario's own has stopped.
    ///
    /// # Errors
    /// The operator had ended by itself, and does not start again; or there can be no bucket.
    pub async fn begin(number: u64, stack: Arc<Stack>, own: Option<Own>, permit: Permit) -> anyhow::Result<Box<Self>> {
        let bucket = format!("conformance-{number}");
        let (faults, databases) = (Vec::new(), Vec::new());
        let lease = Box::new(Self { number, stack, own, bucket, faults, injected: 0, databases, _permit: permit });
        match lease.prepare().await {
            Ok(()) => Ok(lease),
            Err(error) => {
                lease.end().await;
                Err(error)
            }
        }
    }

    async fn prepare(&self) -> anyhow::Result<()> {
        // An operator that ended in the scenario before may be backing off: that is no reason for this one to fail.
        self.stack.operator().resume().await.context("the operator under test had ended by itself")?;
        self.stack.shared().s3.create_bucket(&self.bucket).await?;
        Ok(())
    }

    async fn make_database(&mut self, namespace: &str, request: &DatabaseRequest) -> anyhow::Result<Database> {
        let shared = self.stack.shared();
        let directory = self.stack.directory().join(format!("database-{}-{}", self.number, self.databases.len() + 1));
        let options = BesideOptions {
            installation: shared.parts.postgresql.clone().map_err(anyhow::Error::msg)?,
            addresses: shared.addresses.clone(),
            directory: directory.clone(),
            spawner: shared.spawner.clone(),
        };
        super::stack::create(&directory)?;
        let beside = Beside::start(options, namespace, request).await?;
        let database = beside.database.clone();
        let (names, address) = (beside.names.clone(), *beside.place.listen.ip());
        self.databases.push(beside);
        self.stack.hosts().set(names, address.into())?;
        Ok(database)
    }
}

#[async_trait]
impl Lease for EmbeddedLease {
    fn granted(&self) -> Granted {
        let endpoint = self.stack.shared().s3.endpoint();
        Granted {
            kubeconfig: self.stack.plane().kubeconfig(),
            hosts: Some(self.stack.hosts().path().to_owned()),
            bindings: json!({
                "s3": {
                    "endpoint": endpoint.endpoint,
                    "bucket": self.bucket,
                    "region": endpoint.region,
                    "accessKey": endpoint.access_key,
                    "secretKey": endpoint.secret_key,
                    "ca": endpoint.ca,
                },
            }),
            secrets: vec![endpoint.secret_key.clone()],
            audit_log: Some(AuditLog {
                path: self.stack.plane().audit_log(),
                operator: self.stack.shared().prepared.implementation().service_account.user(),
            }),
        }
    }

    async fn inject(&mut self, namespace: String, fault: Fault) -> Result<FaultId, EnvironmentError> {
        self.injected += 1;
        let id = FaultId(format!("{}-{}", self.number, self.injected));
        // Noted before it is there: half of a fault is undone too.
        self.faults.push((id.clone(), namespace.clone(), fault.clone()));
        self.stack.inject(&namespace, &fault).await?;
        Ok(id)
    }

    async fn clear(&mut self, id: &FaultId) -> Result<(), EnvironmentError> {
        let Some(index) = self.faults.iter().position(|(known, ..)| known == id) else {
            return Err(EnvironmentError::Broken(format!("there is no fault {}, or it was cleared before", id.0)));
        };
        let (_, namespace, fault) = self.faults.remove(index);
        self.stack.clear(&namespace, &fault).await
    }

    async fn database(&mut self, namespace: &str, request: &DatabaseRequest) -> Result<Database, EnvironmentError> {
        match &self.stack.shared().parts.postgresql {
            Ok(_) => {}
            Err(reason) => return Err(EnvironmentError::Unsupported(reason.clone())),
        }
        let made = self.make_database(namespace, request).await;
        made.map_err(|error| EnvironmentError::Broken(format!("database {}: {error:#}", request.name)))
    }

    async fn logs(&self, container: &Container) -> Result<String, EnvironmentError> {
        self.stack.logs(container)
    }

    async fn operator(&self) -> Result<OperatorState, EnvironmentError> {
        Ok(self.stack.operator().state())
    }

    fn broken(&self) -> BoxFuture<'static, anyhow::Error> {
        let stack = Arc::clone(&self.stack);
        async move { stack.broken().await }.boxed()
    }

    /// Faults in reverse order, databases, the bucket, the control plane if it is the scenario's own.
    async fn end(mut self: Box<Self>) {
        if self.own.is_some() {
            // Faults and all go with it.
            self.stack.stop().await;
        } else {
            while let Some((_, namespace, fault)) = self.faults.pop() {
                if let Err(error) = self.stack.clear(&namespace, &fault).await {
                    tracing::error!(?fault, %error, "a fault could not be cleared");
                }
            }
        }
        for beside in self.databases.drain(..) {
            if let Err(error) = self.stack.hosts().remove(beside.names.iter().map(String::as_str)) {
                tracing::warn!(%error, "the hosts file could not be written");
            }
            beside.stop().await;
        }
        if let Err(error) = self.stack.shared().s3.remove_bucket(&self.bucket).await {
            tracing::warn!(bucket = self.bucket, %error, "a bucket could not be removed");
        }
        let Some(own) = &self.own else { return };
        own.remove(self.number);
        super::stack::remove(self.stack.directory());
    }
}
