//! Options that several verbs have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser, ValueEnum};

use super::existing::ExistingOptions;
use super::kind::{KindOptions, absolute};
use super::selection::Selected;
use super::{CliError, home};
use tokio_util::sync::CancellationToken;

use crate::embedded::{Settings, Storage};
use crate::environment::{Declared, Description, Environment};
use crate::existing::Existing;
use crate::exit::Exit;
use crate::implementation::Implementation;
use crate::kind;
use crate::scenario::diagnostic::render;
use crate::supervisor::{Plan, Supervised};
use crate::tools;

/// Whether standard error shows colours.
pub fn coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Columns of the terminal, where there is one.
pub fn terminal_width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(100)
}

/// Where scenarios run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Everything on this machine, started by this program
    Embedded,
    /// A cluster of containers, made by this program
    #[allow(clippy::enum_variant_names, reason = "that is its name")]
    Kind,
    /// A cluster that is there, with the operator in it
    Existing,
}

/// What stores backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum S3 {
    /// This program's own memory
    Memory,
    /// `MinIO`
    Minio,
}

/// How much is logged. The names say it all: with a text each, the help would list them on five lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As operators and the supervisor know it.
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The environment.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Environment")]
pub struct EnvironmentOptions {
    /// Where scenarios run
    #[arg(long, value_enum, default_value = "embedded", env = "CONFORMANCE_ENV", hide_env_values = true)]
    pub env: Kind,
    /// What is judged: a file that says how to build and start it; the bundled operator by default
    #[arg(long, value_name = "FILE", env = "CONFORMANCE_IMPLEMENTATION", hide_env_values = true)]
    implementation: Option<PathBuf>,
    /// Percona's own CRDs, a file or a directory; without it, minimal ones
    #[arg(long, value_name = "PATH", env = "CONFORMANCE_PERCONA_CRDS", hide_env_values = true)]
    percona_crds: Option<PathBuf>,
    /// What stores backups
    #[arg(long, value_enum, default_value = "memory", env = "CONFORMANCE_S3", hide_env_values = true)]
    s3: S3,
    /// How much the operator and the supervisor log; below `info`, the scenario that reads the operator's log cannot
    /// pass (`observability/log_names_the_server`)
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info")]
    operator_log: LogLevel,
    /// A cluster that is there.
    #[command(flatten)]
    existing: ExistingOptions,
    /// What a kind cluster is made of.
    #[command(flatten)]
    kind: KindOptions,
    /// Where the programs are found.
    #[command(flatten)]
    pub tools: ToolOptions,
}

/// Programs that are used instead of those that would be found, fetched or built.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tools")]
pub struct ToolOptions {
    /// Kubernetes version of the control plane, 1.31 to 1.37
    #[arg(long, value_name = "MINOR", env = "CONFORMANCE_KUBERNETES", hide_env_values = true)]
    kubernetes: Option<String>,
    /// A directory with etcd, kube-apiserver and kube-controller-manager, as setup-envtest makes it
    #[arg(long, value_name = "DIR", env = "KUBEBUILDER_ASSETS", hide_env_values = true)]
    assets: Option<PathBuf>,
    /// etcd
    #[arg(long, value_name = "FILE")]
    etcd: Option<PathBuf>,
    /// kube-apiserver
    #[arg(long, value_name = "FILE")]
    kube_apiserver: Option<PathBuf>,
    /// kube-controller-manager
    #[arg(long, value_name = "FILE")]
    kube_controller_manager: Option<PathBuf>,
    /// A directory with initdb and postgres of PostgreSQL 16
    #[arg(long, value_name = "DIR")]
    postgresql: Option<PathBuf>,
    /// A directory with PostgreSQL's client programs
    #[arg(long, value_name = "DIR")]
    postgresql_client: Option<PathBuf>,
    /// pgBackRest, 2.55 or newer
    #[arg(long, value_name = "FILE")]
    pgbackrest: Option<PathBuf>,
    /// `MinIO`
    #[arg(long, value_name = "FILE")]
    minio: Option<PathBuf>,
    /// kind
    #[arg(long, value_name = "FILE")]
    kind: Option<PathBuf>,
    /// Helm
    #[arg(long, value_name = "FILE")]
    helm: Option<PathBuf>,
}

impl ToolOptions {
    /// The options that were given.
    fn arguments(&self) -> Vec<String> {
        let paths = [
            ("--assets", &self.assets),
            ("--etcd", &self.etcd),
            ("--kube-apiserver", &self.kube_apiserver),
            ("--kube-controller-manager", &self.kube_controller_manager),
            ("--postgresql", &self.postgresql),
            ("--postgresql-client", &self.postgresql_client),
            ("--pgbackrest", &self.pgbackrest),
            ("--minio", &self.minio),
            ("--kind", &self.kind),
            ("--helm", &self.helm),
        ];
        let kubernetes = self.kubernetes.iter().map(|version| ["--kubernetes".to_owned(), version.clone()]);
        let paths = paths
            .into_iter()
            .filter_map(|(option, path)| Some([option.to_owned(), path.as_ref()?.display().to_string()]));
        kubernetes.chain(paths).flatten().collect()
    }

    /// As the tools want them.
    pub fn options(&self) -> tools::Options {
        tools::Options {
            kubernetes: self.kubernetes.clone(),
            assets: self.assets.clone(),
            etcd: self.etcd.clone(),
            kube_apiserver: self.kube_apiserver.clone(),
            kube_controller_manager: self.kube_controller_manager.clone(),
            postgresql: self.postgresql.clone(),
            postgresql_client: self.postgresql_client.clone(),
            pgbackrest: self.pgbackrest.clone(),
            minio: self.minio.clone(),
            kind: self.kind.clone(),
            helm: self.helm.clone(),
        }
    }
}

impl EnvironmentOptions {
    /// The options as the environment variables have them: for programs whose command line is not ours.
    pub fn from_environment() -> Result<Self, CliError> {
        #[derive(Parser)]
        struct NoArguments {
            #[command(flatten)]
            options: EnvironmentOptions,
        }
        let parsed = NoArguments::try_parse_from(["conformance"]);
        parsed.map(|parsed| parsed.options).map_err(|error| CliError::new(Exit::Usage, error))
    }

    /// The options that differ from the defaults, for the command that judges the same thing in the same place again.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut say = |option: &str, value: Option<String>| {
            arguments.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let environment = match self.env {
            Kind::Embedded => None,
            Kind::Kind => Some("kind"),
            Kind::Existing => Some("existing"),
        };
        say("--env", environment.map(str::to_owned));
        say("--implementation", path(&self.implementation));
        say("--percona-crds", path(&self.percona_crds));
        say("--s3", (self.s3 == S3::Minio).then(|| "minio".to_owned()));
        say("--operator-log", (self.operator_log != LogLevel::Info).then(|| self.operator_log.name().to_owned()));
        arguments.extend(self.tools.arguments());
        if self.env == Kind::Kind {
            arguments.extend(self.kind.arguments());
        }
        if self.env == Kind::Existing {
            arguments.extend(self.existing.arguments());
        }
        arguments
    }

    /// What a supervisor is to bring up.
    pub fn plan(&self) -> Result<Plan, CliError> {
        match self.env {
            Kind::Embedded => self.settings().map(Plan::Embedded),
            Kind::Kind => self.kind_settings().map(Plan::Kind),
            Kind::Existing => {
                Err(CliError::new(Exit::Usage, "an existing cluster is not kept by us; use `--env embedded`"))
            }
        }
    }

    /// What the embedded environment is made of.
    pub fn settings(&self) -> Result<Settings, CliError> {
        let mut settings = Settings::new(program()?, self.implementation()?);
        settings.tools = self.tools.options();
        settings.percona_crds = self.percona_crds.as_deref().map(absolute).transpose()?;
        settings.storage = match self.s3 {
            S3::Memory => Storage::Memory,
            S3::Minio => Storage::Minio,
        };
        self.operator_log.name().clone_into(&mut settings.log_level);
        Ok(settings)
    }

    /// What a kind environment is made of.
    fn kind_settings(&self) -> Result<kind::Settings, CliError> {
        let mut settings = kind::Settings::new(program()?, self.implementation()?, self.kind.configuration()?);
        settings.tools = self.tools.options();
        settings.percona_crds = self.percona_crds.as_deref().map(absolute).transpose()?;
        self.operator_log.name().clone_into(&mut settings.log_level);
        self.kind.apply(&mut settings)?;
        Ok(settings)
    }

    /// What would run, as far as it is known while nothing does.
    pub fn foreseen(&self) -> (Description, Declared) {
        let implementation = self.implementation().ok().and_then(|path| Implementation::load(&path).ok());
        let unknown = || "unknown".to_owned();
        let environment = self.env.to_possible_value().map_or_else(unknown, |value| value.get_name().to_owned());
        let description = Description {
            environment,
            kubernetes: self.tools.kubernetes.clone().unwrap_or_else(unknown),
            percona: unknown(),
            implementation: implementation.as_ref().map_or_else(unknown, |known| known.name.clone()),
            implementation_version: implementation.as_ref().map_or_else(unknown, |known| known.version.clone()),
            about: implementation.as_ref().map(Implementation::about).unwrap_or_default(),
        };
        (description, implementation.map(|known| known.declared()).unwrap_or_default())
    }

    /// The kubeconfig that was named.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.existing.kubeconfig()
    }

    /// Refuses an implementation file that cannot be used, or that declares what `selected` does not know, before anything
    /// is started.
    pub fn check(&self, selected: &Selected) -> Result<(), CliError> {
        let path = match &self.implementation {
            Some(path) => path.clone(),
            None => home::shown(&self.implementation()?),
        };
        let problems = selected.declared_problems(&path)?;
        if problems.is_empty() {
            return Ok(());
        }
        Err(CliError::rendered(Exit::Usage, render(&problems, terminal_width(), coloured())))
    }

    fn implementation(&self) -> Result<PathBuf, CliError> {
        match &self.implementation {
            Some(path) => absolute(path),
            None => absolute(&home::source_file("implementations/bundled.yaml", "--implementation")?),
        }
    }

    /// Brings the environment up for this process alone; an error when `interrupted` is cancelled meanwhile.
    pub async fn start(
        &self,
        display: &tools::Display,
        interrupted: &CancellationToken,
    ) -> Result<Arc<dyn Environment>, CliError> {
        match self.env {
            Kind::Embedded | Kind::Kind => {
                let started = Supervised::start(self.plan()?, display, interrupted).await;
                Ok(Arc::new(started.map_err(|error| CliError::environment(&error))?))
            }
            Kind::Existing => {
                let options = self.existing.options(self.implementation()?, self.operator_log.name(), &self.tools);
                let started = Box::pin(Existing::start(&options, display, interrupted)).await;
                Ok(Arc::new(started.map_err(|error| CliError::environment(&error))?))
            }
        }
    }
}

/// This program.
fn program() -> Result<PathBuf, CliError> {
    std::env::current_exe()
        .map_err(|error| CliError::new(Exit::Environment, format!("this program cannot find itself: {error}")))
}
