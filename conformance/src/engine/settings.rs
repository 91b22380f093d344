//! How scenarios are run.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::missing::Missing;
use super::permissions::Permissions;

/// How scenarios are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names the run, in labels.
    pub run: String,
    /// Scales every deadline.
    pub timeout_multiplier: f64,
    /// Leaves the namespace of a failed scenario.
    pub keep_failed: bool,
    /// What the operator uses of its roles.
    pub permissions: Arc<Permissions>,
    /// What is missing of the whole run so far.
    pub missing: Missing,
    /// Cancelled by the first Ctrl-C.
    pub interrupted: CancellationToken,
    /// Who is told when a scenario has failed and everything is still there: it goes on when they say so.
    pub pause: Option<mpsc::Sender<Paused>>,
}

/// A scenario that has failed and waits.
#[derive(Debug)]
pub struct Paused {
    /// Its name.
    pub scenario: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// The administrator's access to its control plane.
    pub kubeconfig: Option<PathBuf>,
    /// Ends the pause; so does dropping it.
    pub resume: oneshot::Sender<()>,
}
