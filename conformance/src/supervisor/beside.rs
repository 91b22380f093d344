//! One more PostgreSQL, beside Percona's: what `Site::database` makes.

use std::path::PathBuf;

use crate::environment::{Database, DatabaseRequest};
use crate::percona::secret;
use crate::pki::Authority;
use crate::postgres::{Addresses, Installation, Place, Server, ServerOptions};
use crate::process::Spawner;
use crate::redact;

/// A running PostgreSQL that belongs to a scenario.
pub struct Beside {
    server: Server,
    addresses: Addresses,
    directory: PathBuf,
    /// Where it is.
    pub place: Place,
    /// The names by which its certificate, and pods, know it.
    pub names: Vec<String>,
    /// How to log in.
    pub database: Database,
}

/// What it is made of.
pub struct BesideOptions {
    /// Its programs.
    pub installation: Installation,
    /// Where its place comes from.
    pub addresses: Addresses,
    /// A directory that everyone may pass through and whose path is short.
    pub directory: PathBuf,
    /// Starts it.
    pub spawner: Spawner,
}

impl Beside {
    /// Starts a server, with the role and the database that are asked for, to be reached by a Service in `namespace`.
    pub async fn start(options: BesideOptions, namespace: &str, request: &DatabaseRequest) -> anyhow::Result<Self> {
        let BesideOptions { installation, addresses, directory, spawner } = options;
        let host = format!("{}.{namespace}.svc", request.name);
        let names = vec![host.clone(), format!("{host}.cluster.local")];
        let authority = Authority::create("dittofs-conformance database")?;
        let place = addresses.take()?;
        let server = ServerOptions {
            name: format!("database {}", request.name),
            installation,
            data: directory.join("data"),
            directory: directory.clone(),
            address: place.listen,
            identity: authority.server(names.clone())?,
            archive_command: "true".to_owned(),
            spawner,
        };
        let server = server.start().await?;
        let password = secret::generate(secret::PasswordType::Ascii, &mut rand::rng());
        redact::register(&password);
        let superuser = server.superuser("postgres").await?;
        // Names from scenarios are quoted; a generated password holds no quote and no backslash.
        let (user, dbname) = (quoted(&request.user), quoted(&request.dbname));
        superuser.query(&format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'")).await?;
        superuser.query(&format!("CREATE DATABASE {dbname} OWNER {user}")).await?;
        let uri = secret::uri(&request.user, &password, &host, place.port, &request.dbname);
        let database = Database {
            host,
            port: place.port,
            user: request.user.clone(),
            password,
            dbname: request.dbname.clone(),
            uri,
            ca: authority.certificate().to_owned(),
        };
        Ok(Self { server, addresses, directory, place, names, database })
    }

    /// Ends it and removes its data: of a long run there would be a lot to remove at the end.
    pub async fn stop(self) {
        self.server.stop().await;
        self.addresses.give_back(self.place.listen);
        if let Err(error) = tokio::fs::remove_dir_all(&self.directory).await {
            tracing::warn!(directory = %self.directory.display(), %error, "the data of a database could not be removed");
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
