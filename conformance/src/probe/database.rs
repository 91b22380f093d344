//! The connection to PostgreSQL: made when it is needed, kept while it works.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::time::timeout;

use crate::postgres::{Error, Rows, Session, SslMode, Target, Trust};

/// Bounds one whole answer, from looking up the server to the last row: a server that hangs is not ready.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// The schema that is named like the role is the workload's own: it comes first in PostgreSQL's default `search_path`,
/// so the table lands there. The lock keeps two pods of a rolling update from migrating at once.
const MIGRATE: &str = "
    begin;
    select pg_advisory_xact_lock(hashtext('dittofs_migrations'));
    do $$ begin
        if to_regnamespace(quote_ident(current_user)) is null then
            execute format('create schema %I', current_user);
        end if;
    end $$;
    create table if not exists dittofs_migrations (version int primary key, applied timestamptz not null default now());
    insert into dittofs_migrations (version) values (1) on conflict do nothing;
    commit;";

const IDENTIFY: &str = "
    select current_user,
           current_database(),
           (select relnamespace::regnamespace::text from pg_class where oid = 'dittofs_migrations'::regclass),
           (select rolsuper from pg_roles where rolname = current_user),
           (select version from pg_stat_ssl where pid = pg_backend_pid()),
           host(inet_server_addr()),
           inet_server_port(),
           current_setting('server_version'),
           current_setting('cluster_name')";

/// Fails with SQLSTATE 42501 where the administrator has revoked it.
const SYSTEM_IDENTIFIER: &str = "select system_identifier from pg_control_system()";

/// What the workload is connected to.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connection {
    user: String,
    database: String,
    /// Schema of the migrated table.
    schema: String,
    superuser: bool,
    /// Such as `TLSv1.3`; absent on a connection without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
    server: Server,
}

/// Which PostgreSQL answered.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    /// The name in `DATABASE_URL`.
    host: String,
    address: String,
    port: u16,
    version: String,
    /// Its `cluster_name` setting: empty unless somebody set it.
    cluster: String,
    /// Tells two servers apart that share everything else; absent when the role may not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    system_identifier: Option<String>,
}

impl Connection {
    fn new(host: &str, rows: Rows, system_identifier: Option<String>) -> Self {
        let mut row = rows.values.into_iter().next().unwrap_or_default().into_iter();
        let mut column = || row.next().flatten();
        Self {
            user: column().unwrap_or_default(),
            database: column().unwrap_or_default(),
            schema: column().unwrap_or_default(),
            superuser: column().as_deref() == Some("t"),
            tls: column(),
            server: Server {
                host: host.to_owned(),
                address: column().unwrap_or_default(),
                port: column().and_then(|port| port.parse().ok()).unwrap_or_default(),
                version: column().unwrap_or_default(),
                cluster: column().unwrap_or_default(),
                system_identifier,
            },
        }
    }
}

/// Why there is no answer; its text holds no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error(transparent)]
    Postgres(#[from] Error),
    #[error("no answer within {ANSWER_DEADLINE:?}")]
    Late,
}

/// A pool of one connection.
pub(super) struct Database {
    target: Target,
    hosts: Option<PathBuf>,
    pool: Mutex<Option<Session>>,
}

impl Database {
    /// Reads the URL. TLS is required unless the URL forbids it.
    pub(super) fn new(url: &str, hosts: Option<PathBuf>) -> Result<Self, Error> {
        let mut target: Target = url.parse()?;
        if target.sslmode == SslMode::Prefer {
            target.sslmode = SslMode::Require;
        }
        Ok(Self { target, hosts, pool: Mutex::default() })
    }

    /// Where it connects to, for messages.
    pub(super) fn address(&self) -> String {
        self.target.address()
    }

    /// Whether the database answers now.
    pub(super) async fn check(&self) -> Result<(), DatabaseError> {
        within(self.session()).await.map(drop)
    }

    /// Who the database says that we are.
    pub(super) async fn identity(&self) -> Result<Connection, DatabaseError> {
        within(async {
            let session = self.session().await?;
            let system_identifier = match session.value(SYSTEM_IDENTIFIER).await {
                Err(Error::Server { sqlstate, .. }) if sqlstate == "42501" => None,
                answer => answer?,
            };
            Ok(Connection::new(&self.target.host, session.query(IDENTIFY).await?, system_identifier))
        })
        .await
    }

    /// The session at hand, if it answers; else a new one.
    async fn session(&self) -> Result<MappedMutexGuard<'_, Session>, Error> {
        let mut pool = self.pool.lock().await;
        let session = match pool.take() {
            Some(session) if session.query("select 1").await.is_ok() => session,
            _ => {
                let session = self.target.dial(self.hosts.as_deref(), &Trust::Any).await?;
                session.query(MIGRATE).await?;
                session
            }
        };
        Ok(MutexGuard::map(pool, |pool| pool.insert(session)))
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, DatabaseError> {
    timeout(ANSWER_DEADLINE, answer).await.map_or(Err(DatabaseError::Late), |answer| Ok(answer?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(values: &[Option<&str>]) -> Rows {
        let row = values.iter().map(|value| value.map(str::to_owned)).collect();
        Rows { columns: Vec::new(), values: vec![row] }
    }

    #[test]
    fn the_identity_names_the_role_the_session_and_the_server() {
        let rows = answer(&[
            Some("dittofs"),
            Some("ditto"),
            Some("dittofs"),
            Some("f"),
            Some("TLSv1.3"),
            Some("127.0.0.5"),
            Some("5432"),
            Some("16.15"),
            Some(""),
        ]);
        let identity = Connection::new("demo-primary.a.svc", rows, Some("77".to_owned()));
        insta::assert_json_snapshot!(identity, @r#"
        {
          "user": "dittofs",
          "database": "ditto",
          "schema": "dittofs",
          "superuser": false,
          "tls": "TLSv1.3",
          "server": {
            "host": "demo-primary.a.svc",
            "address": "127.0.0.5",
            "port": 5432,
            "version": "16.15",
            "cluster": "",
            "systemIdentifier": "77"
          }
        }
        "#);
    }

    #[test]
    fn what_the_server_does_not_tell_is_left_out() {
        let identity = Connection::new("h", answer(&[Some("a"), Some("b"), Some("c"), Some("t"), None]), None);
        assert!(identity.superuser);
        let json = serde_json::to_value(identity).unwrap();
        assert_eq!((json.get("tls"), json.pointer("/server/systemIdentifier")), (None, None));
    }

    #[test]
    fn tls_is_required_unless_the_url_forbids_it() {
        let mode = |query: &str| Database::new(&format!("postgresql://a@h/b{query}"), None).unwrap().target.sslmode;
        assert_eq!(mode(""), SslMode::Require);
        assert_eq!(mode("?sslmode=verify-full"), SslMode::VerifyFull);
        assert_eq!(mode("?sslmode=disable"), SslMode::Disable);
    }
}
