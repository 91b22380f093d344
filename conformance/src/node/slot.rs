//! One container of a pod and what has become of it. Plain data; `lifecycle` decides.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use super::back_off::BackOff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: the next one starts when this one has, and it goes on running.
    Sidecar,
    Main,
}

/// How one run of a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Termination {
    pub(super) exit_code: i32,
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// Its turn has not come, or it is being made.
    Creating,
    /// It ended and starts again at once.
    Restarting,
    CrashLoopBackOff {
        delay: Duration,
    },
    Configuration(String),
    Pull,
    PullBackOff,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Starts at `due`; `None`: never by itself.
    Waiting {
        hindrance: Hindrance,
        due: Option<Timestamp>,
    },
    Running {
        since: Timestamp,
    },
    /// Does not start again.
    Terminated(Termination),
}

/// One container and what has become of it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) spec: Container,
    pub(super) role: Role,
    pub(super) phase: Phase,
    pub(super) last: Option<Termination>,
    /// How often it was started.
    pub(super) starts: u32,
    /// Its startup probe has succeeded, or it has none and runs.
    pub(super) started: bool,
    pub(super) ready: bool,
    pub(super) back_off: BackOff,
}

impl Slot {
    /// A container that starts as soon as its turn comes.
    pub(super) fn new(spec: Container, role: Role) -> Self {
        let phase = Phase::Waiting { hindrance: Hindrance::Creating, due: Some(Timestamp::MIN) };
        Self { spec, role, phase, last: None, starts: 0, started: false, ready: false, back_off: BackOff::default() }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// An init container that has done its work, or a sidecar that has started.
    pub(super) fn is_complete(&self) -> bool {
        match (&self.phase, self.role) {
            (Phase::Terminated(end), Role::Init) => end.exit_code == 0,
            (Phase::Running { .. }, Role::Sidecar) => self.started,
            _ => false,
        }
    }
}
