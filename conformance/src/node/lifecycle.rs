//! What the containers of one pod do next, by the kubelet's rules. Pure: time comes in, decisions go out.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodSpec;

use super::back_off::BackOffLimits;
use super::mounts;
use super::slot::{Hindrance, Phase, Role, Slot, Termination};

/// Until a missing Secret, ConfigMap or claim is looked for again when no watch event says that it is there.
const CONFIGURATION_REREAD: Duration = Duration::from_secs(10);
/// How soon what could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The volumes are to be set up; nothing starts before they are.
    pub(super) set_up: bool,
    /// Containers to start.
    pub(super) start: Vec<usize>,
    /// Containers to stop: sidecars that have outlived their purpose.
    pub(super) stop: Vec<usize>,
    /// When to plan again at the latest.
    pub(super) wake: Option<Timestamp>,
}

/// The containers of a pod: init containers first, in their order.
#[derive(Clone, Debug)]
pub(super) struct Lifecycle {
    pub(super) slots: Vec<Slot>,
    policy: RestartPolicy,
    limits: BackOffLimits,
    /// When the volumes are to be set up; `None`: they are.
    volumes: Option<Timestamp>,
    /// All init containers have been complete once.
    initialized: bool,
    terminating: bool,
}

impl Lifecycle {
    pub(super) fn new(spec: &PodSpec, limits: BackOffLimits) -> Self {
        let init = spec.init_containers.iter().flatten().map(|container| {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            Slot::new(container.clone(), if sidecar { Role::Sidecar } else { Role::Init })
        });
        let main = spec.containers.iter().map(|container| Slot::new(container.clone(), Role::Main));
        let policy = match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        };
        let mut lifecycle = Self {
            slots: init.chain(main).collect(),
            policy,
            limits,
            volumes: (!mounts::references(spec).is_empty()).then_some(Timestamp::MIN),
            initialized: false,
            terminating: false,
        };
        lifecycle.note_initialized();
        lifecycle
    }

    pub(super) fn is_initialized(&self) -> bool {
        self.initialized
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.terminating
    }

    pub(super) fn of(&self, role: Role) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| slot.role == role)
    }

    /// Nothing runs and nothing will.
    pub(super) fn is_over(&self) -> bool {
        !self.slots.iter().any(Slot::is_running) && (self.terminating || self.is_finished())
    }

    /// The work is done, well or not: only sidecars may still run.
    fn is_finished(&self) -> bool {
        self.has_failed_init() || self.of(Role::Main).all(|slot| matches!(slot.phase, Phase::Terminated(_)))
    }

    /// An init container has failed and may not be started again.
    fn has_failed_init(&self) -> bool {
        self.of(Role::Init).any(|slot| matches!(&slot.phase, Phase::Terminated(end) if end.exit_code != 0))
    }

    /// The volumes are not set up yet.
    pub(super) fn waits_for_volumes(&self) -> bool {
        self.volumes.is_some()
    }

    /// A container waits for a Secret or ConfigMap, or all wait for one in a volume.
    pub(super) fn wants_configuration(&self) -> bool {
        let wants = |slot: &Slot| matches!(slot.phase, Phase::Waiting { hindrance: Hindrance::Configuration(_), .. });
        self.waits_for_volumes() || self.slots.iter().any(wants)
    }

    pub(super) fn plan(&self, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        if self.terminating {
            return plan;
        }
        if let Some(due) = self.volumes {
            plan.set_up = due <= now;
            plan.wake = (due > now).then_some(due);
            return plan;
        }
        if self.is_finished() {
            let running = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_running());
            plan.stop.extend(running.map(|(index, _)| index));
            return plan;
        }
        for (index, slot) in self.slots.iter().enumerate() {
            if let Phase::Waiting { due: Some(due), .. } = slot.phase {
                if due <= now {
                    plan.start.push(index);
                } else {
                    plan.wake = Some(plan.wake.map_or(due, |wake| wake.min(due)));
                }
            }
            if !self.initialized && slot.role != Role::Main && !slot.is_complete() {
                break;
            }
        }
        plan
    }

    /// All volumes are set up, and stay so.
    pub(super) fn has_volumes(&mut self) {
        self.volumes = None;
    }

    /// What the volumes are made of could not be read.
    pub(super) fn has_unread_volumes(&mut self, now: Timestamp) {
        self.volumes = Some(now + READ_AGAIN);
    }

    /// A volume could not be set up.
    pub(super) fn lacks_volumes(&mut self, now: Timestamp) {
        self.volumes = Some(now + CONFIGURATION_REREAD);
    }

    /// A container runs now.
    pub(super) fn has_started(&mut self, index: usize, now: Timestamp) {
        let slot = &mut self.slots[index];
        slot.phase = Phase::Running { since: now };
        slot.starts += 1;
        slot.started = slot.spec.startup_probe.is_none();
        slot.ready = slot.started && slot.spec.readiness_probe.is_none();
        self.note_initialized();
    }

    /// A container could not be made for want of a Secret, a ConfigMap or a key.
    pub(super) fn lacks_configuration(&mut self, index: usize, message: String, now: Timestamp) {
        let due = Some(now + CONFIGURATION_REREAD);
        self.slots[index].phase = Phase::Waiting { hindrance: Hindrance::Configuration(message), due };
    }

    /// A container's image cannot be had. It never can, so that only the first answer differs from the later ones.
    pub(super) fn lacks_image(&mut self, index: usize, now: Timestamp) {
        let phase = &mut self.slots[index].phase;
        *phase = match phase {
            Phase::Waiting { hindrance: Hindrance::Pull, .. } => {
                Phase::Waiting { hindrance: Hindrance::PullBackOff, due: None }
            }
            _ => Phase::Waiting { hindrance: Hindrance::Pull, due: Some(now + self.limits.base) },
        };
    }

    /// Some Secret, ConfigMap or claim has changed: look again now.
    pub(super) fn configuration_changed(&mut self) {
        if let Some(due) = &mut self.volumes {
            *due = Timestamp::MIN;
        }
        for slot in &mut self.slots {
            if let Phase::Waiting { hindrance: Hindrance::Configuration(_), due } = &mut slot.phase {
                *due = Some(Timestamp::MIN);
            }
        }
    }

    /// A container has ended, or could not be executed at all.
    pub(super) fn has_ended(&mut self, index: usize, end: Termination) {
        let restart = !self.terminating && self.restarts(index, end.exit_code);
        let limits = self.limits;
        let slot = &mut self.slots[index];
        slot.started = false;
        slot.ready = false;
        if restart {
            let delay = slot.back_off.exited(end.finished, limits);
            let hindrance = if delay.is_zero() { Hindrance::Restarting } else { Hindrance::CrashLoopBackOff { delay } };
            slot.phase = Phase::Waiting { hindrance, due: Some(end.finished + delay) };
            slot.last = Some(end);
        } else {
            slot.phase = Phase::Terminated(end);
        }
        self.note_initialized();
    }

    /// A startup probe has succeeded.
    pub(super) fn is_up(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.started = true;
        slot.ready = slot.spec.readiness_probe.is_none();
        self.note_initialized();
    }

    /// A readiness probe has changed its mind.
    pub(super) fn set_ready(&mut self, index: usize, ready: bool) {
        self.slots[index].ready = ready;
    }

    /// The pod is being deleted: nothing starts any more.
    pub(super) fn terminate(&mut self) {
        self.terminating = true;
    }

    fn note_initialized(&mut self) {
        let complete = self.slots.iter().filter(|slot| slot.role != Role::Main).all(Slot::is_complete);
        self.initialized |= complete;
    }

    fn restarts(&self, index: usize, exit_code: i32) -> bool {
        match (self.slots[index].role, self.policy) {
            (Role::Sidecar, _) => !self.is_finished(),
            (Role::Main, RestartPolicy::Always) => true,
            (_, RestartPolicy::Never) => false,
            (Role::Init, _) | (Role::Main, RestartPolicy::OnFailure) => exit_code != 0,
        }
    }

    /// The pod's phase, as the kubelet's `getPhase` has it.
    pub(super) fn pod_phase(&self) -> &'static str {
        let succeeded = |slot: &Slot| matches!(&slot.phase, Phase::Terminated(end) if end.exit_code == 0);
        let never_ran = |slot: &Slot| matches!(slot.phase, Phase::Waiting { .. }) && slot.last.is_none();
        if self.is_over() {
            if self.of(Role::Main).all(succeeded) { "Succeeded" } else { "Failed" }
        } else if !self.initialized || self.of(Role::Main).any(never_ran) {
            "Pending"
        } else {
            "Running"
        }
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "JSON literals read better without a reference")]
mod tests;
