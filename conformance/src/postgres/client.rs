//! Logs in and runs statements.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Error, SslMode, Target, Trust};
use crate::hosts;

/// How long a login may take, from the TCP connection to the first `ReadyForQuery`. Short, because a Service whose pod
/// is starting may swallow packets instead of refusing them; callers try again.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// A session of one role in one database. Dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    pub(super) client: tokio_postgres::Client,
    driver: JoinHandle<()>,
    address: String,
}

/// The rows of a statement, every value as PostgreSQL writes it in text form; `None` is `NULL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Column names; empty for a statement that returns no rows.
    pub columns: Vec<String>,
    /// Values.
    pub values: Vec<Vec<Option<String>>>,
}

/// Who the server says that we are, and how we got there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Such as `TLSv1.3`; `None` without TLS.
    pub tls: Option<String>,
    /// Address and port of the server as it sees itself; `None` on a Unix socket.
    pub server: Option<String>,
    /// When the server was started. Tells servers apart, as the system identifier would, which not every role may read.
    pub started: String,
}

impl Target {
    /// Logs in over `stream`, which already reaches the server.
    pub async fn connect(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        trust: &Trust,
    ) -> Result<Session, Error> {
        tokio::time::timeout(CONNECT_DEADLINE, self.handshake(stream, trust)).await.unwrap_or_else(|_| {
            Err(Error::Unreachable { address: self.address(), reason: format!("no login within {CONNECT_DEADLINE:?}") })
        })
    }

    /// Logs in over TCP. The host is looked up in `hosts` (see [`hosts`](crate::hosts)), then by the system's resolver.
    pub async fn dial(&self, hosts: Option<&Path>, trust: &Trust) -> Result<Session, Error> {
        let unreachable = |reason: String| Error::Unreachable { address: self.address(), reason };
        let known = match hosts {
            Some(path) => hosts::lookup(path, &self.host)
                .map_err(|error| unreachable(format!("cannot read {}: {error}", path.display())))?,
            None => None,
        };
        let host = known.map_or_else(|| self.host.clone(), |address| address.to_string());
        let stream = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect((host.as_str(), self.port)))
            .await
            .map_err(|_| unreachable(format!("no connection within {CONNECT_DEADLINE:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        self.connect(stream, trust).await
    }

    async fn handshake<S>(&self, stream: S, trust: &Trust) -> Result<Session, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = self.address();
        let mut config = Config::new();
        config.user(&self.user).dbname(&self.dbname).application_name("dittofs-conformance");
        config.ssl_mode(match self.sslmode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            _ => tokio_postgres::config::SslMode::Require,
        });
        if let Some(password) = &self.password {
            config.password(password);
        }
        let tls =
            trust.configuration(self.sslmode).map_err(|reason| Error::Tls { address: address.clone(), reason })?;
        let connector = MakeTlsConnect::<S>::make_tls_connect(&mut MakeRustlsConnect::new(tls), &self.host);
        let connector = connector.map_err(|error| Error::Uri(error.to_string()))?;
        let (client, connection) =
            config.connect_raw(stream, connector).await.map_err(|error| Error::of(&error, &address))?;
        // The connection's own error reaches the client as "connection closed" at its next statement.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Session { client, driver, address })
    }
}

impl Session {
    /// Runs one or more statements; the rows are those of the last one that returned any.
    pub async fn query(&self, sql: &str) -> Result<Rows, Error> {
        let messages = self.client.simple_query(sql).await.map_err(|error| self.error(&error))?;
        let mut rows = Rows::default();
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    rows.columns = columns.iter().map(|column| column.name().to_owned()).collect();
                    rows.values.clear();
                }
                SimpleQueryMessage::Row(row) => {
                    rows.values.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// The first column of the first row; `None` for no row or `NULL`.
    pub async fn value(&self, sql: &str) -> Result<Option<String>, Error> {
        Ok(self.query(sql).await?.values.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Asks the server who we are.
    pub async fn identity(&self) -> Result<Identity, Error> {
        const SQL: &str = "select current_user, current_database(), s.version, host(inet_server_addr()) || ':' || \
                           inet_server_port(), pg_postmaster_start_time() from pg_stat_ssl s where s.pid = pg_backend_pid()";
        let row = self.query(SQL).await?.values.pop().unwrap_or_default();
        let mut row = row.into_iter();
        let mut next = || row.next().flatten();
        Ok(Identity {
            user: next().unwrap_or_default(),
            database: next().unwrap_or_default(),
            tls: next(),
            server: next(),
            started: next().unwrap_or_default(),
        })
    }

    pub(super) fn error(&self, error: &tokio_postgres::Error) -> Error {
        Error::of(error, &self.address)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
