//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{manifests, run};

/// Gives each `DittoServer` its pods, and its database from the Percona Operator for PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "dittofs-operator", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator. The cluster is the one of KUBECONFIG, or else the one that this process runs in
    Run(RunArgs),
    /// Print the CustomResourceDefinition of `DittoServer`
    Crd,
    /// Print everything that an installation applies: CRD, roles, webhook, Deployment
    Manifests(ManifestArgs),
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Reconcile only while holding the Lease `dittofs-operator`, so that several replicas can run
    #[arg(long)]
    pub leader_elect: bool,
    /// Namespace of the Lease; in a cluster by default that of the pod
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "dittofs-system")]
    pub lease_namespace: String,
    /// Where the admission webhook listens (HTTPS)
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    pub webhook_bind_address: String,
    /// Directory with tls.crt and tls.key of the webhook, read again when they change; without it there is no webhook
    #[arg(long, value_name = "DIRECTORY")]
    pub webhook_cert_dir: Option<PathBuf>,
    /// Where /healthz and /readyz are served (HTTP); 0 turns them off
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    pub health_bind_address: String,
    /// Where /metrics is served for Prometheus (HTTP); 0 turns it off
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub metrics_bind_address: String,
    /// How the log is written; RUST_LOG selects what (default: info)
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// How long one run of the init container waits for the database before it gives up and says why, such as 5m or 90s.
    /// Changing it rolls the pods of every server
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub database_wait_timeout: Duration,
    /// How long a server may wait for its database before the status says what to look at, such as 10m or 90s
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub progress_deadline: Duration,
    /// Image of the init container: needs sh, `pg_isready` and psql. Changing it rolls the pods of every server
    #[arg(long, value_name = "IMAGE", default_value = "postgres:16-alpine")]
    pub init_image: String,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

#[derive(Debug, Args)]
struct ManifestArgs {
    /// Namespace of the operator
    #[arg(long, value_name = "NAMESPACE", default_value = "dittofs-system")]
    namespace: String,
    /// Image of the operator
    #[arg(long, value_name = "IMAGE", default_value = concat!("ghcr.io/dittofs/dittofs-operator:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// PEM file of the CA that signed the webhook's certificate, which lies in the Secret dittofs-operator-webhook-tls.
    /// Without it, caBundle is left to whatever injects it
    #[arg(long, value_name = "FILE")]
    webhook_ca: Option<PathBuf>,
}

impl Cli {
    /// Does what the command line says.
    pub fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => run::run(args),
            Command::Crd => {
                print!("{}", manifests::crd()?);
                Ok(())
            }
            Command::Manifests(args) => {
                print!("{}", manifests::all(&args.options()?)?);
                Ok(())
            }
        }
    }
}

impl ManifestArgs {
    fn options(self) -> anyhow::Result<manifests::Options> {
        let read = |file: PathBuf| {
            std::fs::read(&file).with_context(|| format!("cannot read {} (--webhook-ca)", file.display()))
        };
        let pem = self.webhook_ca.map(read).transpose()?;
        Ok(manifests::Options {
            namespace: self.namespace,
            image: self.image,
            ca_bundle: pem.map(|pem| base64::engine::general_purpose::STANDARD.encode(pem)),
        })
    }
}

/// Reads a duration such as `5m`, `90s` or `1h30m`: at least a second.
fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    let duration = Duration::try_from(span).map_err(|_| "must not be negative".to_owned())?;
    if duration < Duration::from_secs(1) {
        return Err("must be at least 1s".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("run")]
    #[case("crd")]
    #[case("manifests")]
    fn help_of(#[case] name: &str) {
        let mut command = Cli::command().term_width(100);
        command.build();
        let help = command.find_subcommand_mut(name).unwrap().render_long_help();
        insta::assert_snapshot!(name, help);
    }

    #[test]
    fn help() {
        insta::assert_snapshot!(Cli::command().term_width(100).render_long_help());
    }

    #[rstest]
    #[case("5m", Some(300))]
    #[case("90s", Some(90))]
    #[case("1h30m", Some(5400))]
    #[case("1s", Some(1))]
    #[case("0s", None)]
    #[case("-5s", None)]
    #[case("5", None)]
    #[case("soon", None)]
    fn durations(#[case] text: &str, #[case] seconds: Option<u64>) {
        assert_eq!(duration(text).ok().map(|duration| duration.as_secs()), seconds);
    }
}
