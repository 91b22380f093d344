//! One lease: the control plane that a scenario uses, and what is undone at its end.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;

use super::host::Own;
use super::stack::Stack;
use crate::environment::{Container, Database, DatabaseRequest, EnvironmentError, Fault, FaultId, OperatorState};
use crate::percona::secret;
use crate::pki::Authority;
use crate::postgres::{Place, Server, ServerOptions};
use crate::redact;
use crate::supervisor::{Granted, Lease, Permit};

/// What one scenario has.
pub(super) struct EmbeddedLease {
    number: u64,
    stack: Arc<Stack>,
    /// Where it is noted that the control plane is the scenario's own.
    own: Option<Own>,
    bucket: String,
    faults: Vec<(FaultId, String, Fault)>,
    databases: Vec<RunningDatabase>,
    _permit: Permit,
}

struct RunningDatabase {
    server: Server,
    place: Place,
    names: Vec<String>,
}

impl EmbeddedLease {
    /// A lease of `stack`, which is the scenario's own or the shared one.
    pub async fn new(number: u64, stack: Arc<Stack>, own: Option<Own>, permit: Permit) -> anyhow::Result<Self> {
        let bucket = format!("conformance-{number}");
        stack.shared().s3.create_bucket(&bucket).await?;
        Ok(Self { number, stack, own, bucket, faults: Vec::new(), databases: Vec::new(), _permit: permit })
    }

    async fn make_database(&mut self, namespace: &str, request: &DatabaseRequest) -> anyhow::Result<Database> {
        let shared = self.stack.shared();
        let installation = shared.parts.postgresql.clone().map_err(anyhow::Error::msg)?;
        let host = format!("{}.{namespace}.svc", request.name);
        let names = vec![host.clone(), format!("{host}.cluster.local")];
        let authority = Authority::create("dittofs-conformance database")?;
        let place = shared.addresses.take()?;
        let directory = self.stack.directory().join(format!("database-{}-{}", self.number, self.databases.len() + 1));
        let options = ServerOptions {
            name: format!("database {}", request.name),
            installation,
            data: directory.join("data"),
            directory: directory.clone(),
            address: place.listen,
            identity: authority.server(names.clone())?,
            archive_command: "true".to_owned(),
            spawner: shared.spawner.clone(),
        };
        super::stack::create(&directory)?;
        let server = options.start().await?;
        self.stack.hosts().set(names.clone(), (*place.listen.ip()).into())?;
        let password = secret::generate(secret::PasswordType::Ascii, &mut rand::rng());
        redact::register(&password);
        let superuser = server.superuser("postgres").await?;
        // Names from scenarios are quoted; a generated password holds no quote and no backslash.
        let (user, dbname) = (quoted(&request.user), quoted(&request.dbname));
        superuser.query(&format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'")).await?;
        superuser.query(&format!("CREATE DATABASE {dbname} OWNER {user}")).await?;
        self.databases.push(RunningDatabase { server, place, names });
        let uri = secret::uri(&request.user, &password, &host, place.port, &request.dbname);
        Ok(Database {
            host,
            port: place.port,
            user: request.user.clone(),
            password,
            dbname: request.dbname.clone(),
            uri,
            ca: authority.certificate().to_owned(),
        })
    }
}

#[async_trait]
impl Lease for EmbeddedLease {
    fn granted(&self) -> Granted {
        let endpoint = self.stack.shared().s3.endpoint();
        Granted {
            kubeconfig: self.stack.plane().kubeconfig(),
            hosts: self.stack.hosts().path().to_owned(),
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
            audit_log: self.stack.plane().audit_log(),
        }
    }

    async fn inject(&mut self, namespace: String, fault: Fault) -> Result<FaultId, EnvironmentError> {
        let id = FaultId(format!("{}-{}", self.number, self.faults.len() + 1));
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
        let components = self.stack.plane().components();
        async move { components.ended().await }.boxed()
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
        for database in self.databases.drain(..) {
            database.server.stop().await;
            self.stack.shared().addresses.give_back(database.place.listen);
            if let Err(error) = self.stack.hosts().remove(database.names.iter().map(String::as_str)) {
                tracing::warn!(%error, "the hosts file could not be written");
            }
        }
        if let Err(error) = self.stack.shared().s3.remove_bucket(&self.bucket).await {
            tracing::warn!(bucket = self.bucket, %error, "a bucket could not be removed");
        }
        let Some(own) = &self.own else { return };
        own.remove(self.number);
        if let Err(error) = std::fs::remove_dir_all(self.stack.directory())
            .with_context(|| format!("removing {}", self.stack.directory().display()))
        {
            tracing::warn!("{error:#}");
        }
    }
}

/// An identifier in SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    #[test]
    fn identifiers_cannot_break_out() {
        assert_eq!(super::quoted(r#"a"; drop"#), r#""a""; drop""#);
    }
}
