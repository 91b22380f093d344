//! The workload: a program that behaves towards its environment as DittoFS should, and nothing more.
//!
//! Parts layer; runs as a process of its own: the small program `dittofs-probe` in an image, the suite's own elsewhere. It
//! takes `DATABASE_URL` once, when it starts, connects over TLS, migrates a table in its own schema and serves HTTP. When
//! it loses the connection it makes a new one with the same URL, as a pool would: a rotated password reaches it only by a
//! restart. It never prints the URL.

mod database;
mod server;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::hosts::HOSTS_VARIABLE;
use database::Database;

/// The hidden subcommand under which the suite's own program is the workload.
pub const COMMAND: &str = "workload";

/// The environment variable that names the address to serve on: the node double gives every pod one of its own.
pub const ADDRESS_VARIABLE: &str = "DITTOFS_PROBE_ADDRESS";

/// The environment variable that names the port to serve on when the operator names none.
pub const PORT_VARIABLE: &str = "DITTOFS_PROBE_PORT";

/// What the workload is told when it starts. Has no `Debug`, because it holds a password.
#[derive(clap::Parser)]
#[command(name = "dittofs-probe", about = "Stands in for a DittoFS server in conformance runs")]
pub struct Options {
    /// Port of the control plane API
    #[arg(long, env = "DITTOFS_CONTROLPLANE_PORT")]
    port: Option<u16>,

    /// Port of the control plane API when --port is not given
    #[arg(long, env = PORT_VARIABLE, default_value_t = 8080)]
    default_port: u16,

    /// Address to serve on
    #[arg(long, env = ADDRESS_VARIABLE, default_value = "0.0.0.0")]
    address: IpAddr,

    /// PostgreSQL to connect to; without it the workload keeps nothing and is always ready
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,

    /// Names that DNS does not know, in the format of /etc/hosts; read again at every connection
    #[arg(long, env = HOSTS_VARIABLE)]
    hosts: Option<PathBuf>,

    /// What DittoFS itself would be called with; not looked at
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

/// Is the workload, with the given arguments (without a program's name).
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = Options::parse_from(std::iter::once("dittofs-probe".into()).chain(arguments));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dittofs-probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT, then lets the requests in flight finish.
///
/// # Errors
/// The URL is malformed, or the address cannot be bound. A database that does not answer is no error: the workload is
/// alive then and not ready.
async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let address = SocketAddr::new(options.address, options.port.unwrap_or(options.default_port));
    let database = match options.database_url.filter(|url| !url.is_empty()) {
        Some(url) => Some(Arc::new(Database::new(&url, options.hosts).context("DATABASE_URL cannot be used")?)),
        None => None,
    };
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot serve on {address}"))?;
    println!("dittofs-probe serves on {address}");

    if let Some(database) = database.clone() {
        tokio::spawn(async move {
            match database.check().await {
                Ok(()) => println!("connected to {}", database.address()),
                Err(error) => println!("not connected to {}: {error}", database.address()),
            }
        });
    }
    axum::serve(listener, server::routes(database))
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
            println!("stopping");
        })
        .await?;
    Ok(())
}
