//! Which environment, made of what.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::host::Host;
use crate::environment::Capabilities;
use crate::process::{Run, Spawner};
use crate::tools::Progress;
use crate::{embedded, kind};

/// What a supervisor is to bring up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Plan {
    /// Everything on this machine.
    Embedded(embedded::Settings),
    /// A kind cluster.
    Kind(kind::Settings),
}

impl Plan {
    /// The `conformance` binary, which is the supervisor's program too.
    pub fn program(&self) -> &Path {
        match self {
            Self::Embedded(settings) => &settings.program,
            Self::Kind(settings) => &settings.program,
        }
    }

    /// The same with another `conformance` binary.
    #[must_use]
    pub fn run_by(self, program: PathBuf) -> Self {
        match self {
            Self::Embedded(settings) => Self::Embedded(embedded::Settings { program, ..settings }),
            Self::Kind(settings) => Self::Kind(kind::Settings { program, ..settings }),
        }
    }

    /// Verbosity of the operator and of the supervisor.
    pub fn log_level(&self) -> &str {
        match self {
            Self::Embedded(settings) => &settings.log_level,
            Self::Kind(settings) => &settings.log_level,
        }
    }

    /// Programs and files on which a running environment hangs, by what they are called in messages.
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        match self {
            Self::Embedded(settings) => settings.files(),
            Self::Kind(settings) => settings.files(),
        }
    }

    /// What can be said before anything is started.
    pub fn foreseen(&self) -> Capabilities {
        match self {
            Self::Embedded(settings) => embedded::foreseen(settings),
            Self::Kind(settings) => kind::foreseen(settings),
        }
    }

    /// Brings it up. Dropped in the middle, it ends what it has started.
    pub async fn start(self, spawner: Spawner, progress: Progress) -> anyhow::Result<Arc<dyn Host>> {
        match self {
            Self::Embedded(settings) => Ok(Arc::new(embedded::Host::start(settings, spawner, progress).await?)),
            Self::Kind(settings) => Ok(Arc::new(Box::pin(kind::Host::start(settings, spawner, progress)).await?)),
        }
    }

    /// Removes what a run of it has made outside of its own processes, however far it had come.
    pub async fn clean_up(&self, run: &Run) -> anyhow::Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Kind(_) => kind::clean_up(run).await,
        }
    }
}
