//! `conformance env images`.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use super::home::source_file;
use super::kind::absolute;
use super::options::ToolOptions;
use super::tools::in_workshop;
use crate::exit::Exit;
use crate::images::{self, Bundle, Programs, Source};
use crate::implementation::Implementation;
use crate::inert::inert;
use crate::kind;
use crate::process::default_base;
use crate::say::say;
use crate::tools::{Display, ToolError, Workshop};

/// Make the container images of the kind environment, and show what they are called and where they are.
#[derive(Clone, Debug, Args)]
pub struct Images {
    /// Use no registry: make everything of Debian packages and Go modules, `MinIO` too
    #[arg(long, env = "CONFORMANCE_OFFLINE", hide_env_values = true)]
    offline: bool,
    /// The directory with dittofs-operator and dittofs-probe [default: that of this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// The implementation under test: its file says what the workload's image is called; the bundled operator by default
    #[arg(long, value_name = "FILE", env = "CONFORMANCE_IMPLEMENTATION", hide_env_values = true)]
    implementation: Option<PathBuf>,
    /// A further name for the workload, such as ghcr.io/marmos91/dittofs:0.1.0
    #[arg(long, value_name = "IMAGE")]
    workload: Vec<String>,
    /// Also copy them into this directory, with an index: for `run --images DIR`
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    tools: ToolOptions,
}

impl Images {
    /// Performs the verb.
    pub async fn perform(mut self, display: &Display) -> Result<Exit, CliError> {
        let file = match &self.implementation {
            Some(file) => absolute(file)?,
            None => absolute(&source_file("implementations/bundled.yaml", "--implementation")?)?,
        };
        let implementation = Implementation::load(&file);
        let implementation = implementation.map_err(|error| CliError::new(Exit::Usage, format!("{error:#}")))?;
        self.workload.extend(implementation.cluster.into_iter().flat_map(|cluster| cluster.workload));
        let made = async |workshop: &Workshop| {
            self.make(workshop).await.map_err(|error| CliError::environment(&error.into()))?;
            Ok(Exit::Ok)
        };
        let outcome = in_workshop(display, made).await;
        // Half an image: the daemon has gone on making what nobody waits for.
        if matches!(outcome, Ok(Exit::Interrupted))
            && let Err(error) = kind::sweep_images(&default_base(), None).await
        {
            say(&inert(&format!("{error:#}; `conformance clean` tries again")));
        }
        outcome
    }

    async fn make(&self, workshop: &Workshop) -> Result<(), ToolError> {
        let programs = match &self.programs {
            Some(directory) => directory.clone(),
            None => {
                std::env::current_exe().map(|path| path.parent().map(PathBuf::from)).ok().flatten().unwrap_or_default()
            }
        };
        let source = if self.offline { Source::Offline } else { Source::Registry };
        let programs = Programs::in_directory(&programs);
        // The one that `--env kind` asks, too.
        let daemon = kind::docker_host();
        let images = images::prepare(workshop, &daemon, &programs, &self.workload, source).await?;
        let minio = match source {
            Source::Offline => Some(images::minio(workshop, &self.tools.options()).await?),
            Source::Registry => None,
        };
        for archive in images.archives().chain(&minio) {
            anstream::println!("{} {}", archive.names.join(" "), archive.path.display());
        }
        match &self.output {
            Some(directory) => Bundle { images, minio }.export(directory),
            None => Ok(()),
        }
    }
}
