//! What the containers of one pod do next, by the kubelet's rules. Pure: time comes in, decisions go out.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodSpec;

use super::back_off::BackOffLimits;
use super::slot::{Hindrance, Phase, Role, Slot, Termination};

/// Until a missing Secret or ConfigMap is looked for again when no watch event says that it is there.
const CONFIGURATION_REREAD: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
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
        let mut lifecycle =
            Self { slots: init.chain(main).collect(), policy, limits, initialized: false, terminating: false };
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

    /// A container waits for a Secret or ConfigMap.
    pub(super) fn wants_configuration(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| matches!(slot.phase, Phase::Waiting { hindrance: Hindrance::Configuration(_), .. }))
    }

    pub(super) fn plan(&self, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        if self.terminating {
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

    /// Some Secret or ConfigMap has changed: look again now.
    pub(super) fn configuration_changed(&mut self) {
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
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// A second of the test's own clock.
    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lifecycle(policy: &str, init: Value, main: Value) -> Lifecycle {
        let spec = json!({"restartPolicy": policy, "initContainers": init, "containers": main});
        let limits = BackOffLimits { base: Duration::from_secs(10), longest: Duration::from_mins(5) };
        Lifecycle::new(&serde_json::from_value(spec).unwrap(), limits)
    }

    fn start(lifecycle: &mut Lifecycle, second: i64) -> Vec<usize> {
        let plan = lifecycle.plan(at(second));
        for &index in &plan.start {
            lifecycle.has_started(index, at(second));
        }
        plan.start
    }

    fn end(lifecycle: &mut Lifecycle, index: usize, exit_code: i32, second: i64) {
        let (started, finished) = (at(second - 1), at(second));
        lifecycle.has_ended(index, Termination { exit_code, reason: "x", message: None, started, finished });
    }

    #[test]
    fn init_containers_run_one_after_the_other_and_before_all_others() {
        let mut pod =
            lifecycle("Always", json!([{"name": "i0"}, {"name": "i1"}]), json!([{"name": "m0"}, {"name": "m1"}]));
        assert_eq!(start(&mut pod, 0), [0]);
        assert_eq!(start(&mut pod, 1), [] as [usize; 0], "the first one still runs");
        end(&mut pod, 0, 0, 2);
        assert_eq!(start(&mut pod, 2), [1]);
        assert_eq!((pod.is_initialized(), pod.pod_phase()), (false, "Pending"));
        end(&mut pod, 1, 0, 3);
        assert_eq!(start(&mut pod, 3), [2, 3]);
        assert_eq!((pod.is_initialized(), pod.pod_phase()), (true, "Running"));
    }

    #[test]
    fn an_init_container_that_fails_is_tried_again_and_holds_the_others_up() {
        let mut pod = lifecycle("Always", json!([{"name": "i0"}]), json!([{"name": "m0"}]));
        start(&mut pod, 0);
        end(&mut pod, 0, 1, 1);
        assert_eq!(start(&mut pod, 1), [0], "at once the first time");
        end(&mut pod, 0, 1, 2);
        assert_eq!(pod.plan(at(2)), Plan { wake: Some(at(12)), ..Plan::default() });
        assert_eq!((pod.pod_phase(), start(&mut pod, 12)), ("Pending", vec![0]));
        assert_eq!(pod.slots[0].starts, 3);
    }

    #[test]
    fn an_init_container_that_may_not_be_tried_again_fails_the_pod() {
        let mut pod = lifecycle("Never", json!([{"name": "i0"}]), json!([{"name": "m0"}]));
        start(&mut pod, 0);
        end(&mut pod, 0, 1, 1);
        assert_eq!(pod.plan(at(100)), Plan::default());
        assert_eq!((pod.is_over(), pod.pod_phase()), (true, "Failed"));
    }

    #[rstest]
    #[case("Always", 0, true)]
    #[case("Always", 1, true)]
    #[case("OnFailure", 0, false)]
    #[case("OnFailure", 1, true)]
    #[case("Never", 0, false)]
    #[case("Never", 1, false)]
    fn the_restart_policy_decides(#[case] policy: &str, #[case] exit_code: i32, #[case] restarts: bool) {
        let mut pod = lifecycle(policy, json!([]), json!([{"name": "m0"}]));
        start(&mut pod, 0);
        end(&mut pod, 0, exit_code, 1);
        assert_eq!(start(&mut pod, 1), if restarts { vec![0] } else { vec![] });
        assert_eq!(pod.is_over(), !restarts);
        let phase = if restarts {
            "Running"
        } else if exit_code == 0 {
            "Succeeded"
        } else {
            "Failed"
        };
        assert_eq!(pod.pod_phase(), phase);
    }

    #[test]
    fn a_pod_runs_while_one_of_its_containers_does() {
        let mut pod = lifecycle("Never", json!([]), json!([{"name": "m0"}, {"name": "m1"}]));
        start(&mut pod, 0);
        end(&mut pod, 0, 1, 1);
        assert_eq!((pod.is_over(), pod.pod_phase()), (false, "Running"));
        end(&mut pod, 1, 0, 2);
        assert_eq!((pod.is_over(), pod.pod_phase()), (true, "Failed"));
    }

    #[test]
    fn a_crash_loop_is_running_and_not_pending() {
        let mut pod = lifecycle("Always", json!([]), json!([{"name": "m0"}]));
        for second in [1, 2] {
            start(&mut pod, second);
            end(&mut pod, 0, 1, second);
        }
        let waiting = Phase::Waiting {
            hindrance: Hindrance::CrashLoopBackOff { delay: Duration::from_secs(10) },
            due: Some(at(12)),
        };
        assert_eq!((&pod.slots[0].phase, pod.pod_phase()), (&waiting, "Running"));
    }

    #[test]
    fn a_missing_key_is_looked_for_after_a_while_or_when_something_has_changed() {
        let mut pod = lifecycle("Always", json!([]), json!([{"name": "m0"}]));
        assert!(!pod.wants_configuration());
        pod.lacks_configuration(0, "no key".to_owned(), at(0));
        assert!(pod.wants_configuration());
        assert_eq!(pod.plan(at(0)), Plan { wake: Some(at(10)), ..Plan::default() });
        pod.configuration_changed();
        assert_eq!((start(&mut pod, 1), pod.wants_configuration()), (vec![0], false));
    }

    #[test]
    fn a_change_of_configuration_shortens_no_crash_loop() {
        let mut pod = lifecycle("Always", json!([]), json!([{"name": "m0"}]));
        for second in [1, 2] {
            start(&mut pod, second);
            end(&mut pod, 0, 1, second);
        }
        pod.configuration_changed();
        assert_eq!(pod.plan(at(3)).start, [] as [usize; 0]);
    }

    #[test]
    fn an_image_that_cannot_be_had_is_pulled_in_vain_and_then_backed_off_from() {
        let mut pod = lifecycle("Always", json!([]), json!([{"name": "m0"}]));
        pod.lacks_image(0, at(0));
        assert_eq!(pod.plan(at(0)), Plan { wake: Some(at(10)), ..Plan::default() });
        assert!(matches!(pod.slots[0].phase, Phase::Waiting { hindrance: Hindrance::Pull, .. }));
        pod.lacks_image(0, at(10));
        assert!(matches!(pod.slots[0].phase, Phase::Waiting { hindrance: Hindrance::PullBackOff, .. }));
        assert_eq!((pod.plan(at(1000)), pod.pod_phase()), (Plan::default(), "Pending"));
    }

    #[test]
    fn a_sidecar_comes_before_what_follows_it_and_ends_after_it() {
        let init = json!([{"name": "s", "restartPolicy": "Always", "startupProbe": {}}, {"name": "i"}]);
        let mut pod = lifecycle("Never", init, json!([{"name": "m"}]));
        assert_eq!(start(&mut pod, 0), [0]);
        assert_eq!(start(&mut pod, 1), [] as [usize; 0], "it has not started yet");
        pod.is_up(0);
        assert_eq!(start(&mut pod, 2), [1]);
        end(&mut pod, 1, 0, 3);
        assert_eq!(start(&mut pod, 3), [2]);
        end(&mut pod, 0, 1, 4);
        assert_eq!(start(&mut pod, 4), [0], "it is started again whatever the pod's policy");
        end(&mut pod, 2, 0, 5);
        assert_eq!(pod.plan(at(5)), Plan { stop: vec![0], ..Plan::default() });
        assert!(!pod.is_over());
        end(&mut pod, 0, 143, 6);
        assert_eq!((pod.is_over(), pod.pod_phase()), (true, "Succeeded"));
    }

    #[test]
    fn a_pod_that_is_deleted_starts_nothing_and_is_over_when_nothing_runs() {
        let mut pod = lifecycle("Always", json!([]), json!([{"name": "m0"}, {"name": "m1"}]));
        start(&mut pod, 0);
        end(&mut pod, 1, 1, 1);
        pod.terminate();
        assert_eq!((pod.plan(at(100)), pod.is_over()), (Plan::default(), false));
        end(&mut pod, 0, 0, 2);
        assert_eq!((pod.is_over(), pod.pod_phase()), (true, "Failed"));
    }

    #[rstest]
    #[case::no_probes(json!({}), (true, true))]
    #[case::readiness(json!({"readinessProbe": {}}), (true, false))]
    #[case::startup(json!({"startupProbe": {}}), (false, false))]
    #[case::both(json!({"startupProbe": {}, "readinessProbe": {}}), (false, false))]
    fn a_container_is_ready_at_its_start_unless_a_probe_decides(#[case] probes: Value, #[case] expected: (bool, bool)) {
        let mut container = json!({"name": "m0"});
        json_patch::merge(&mut container, &probes);
        let mut pod = lifecycle("Always", json!([]), json!([container]));
        start(&mut pod, 0);
        assert_eq!((pod.slots[0].started, pod.slots[0].ready), expected);
        pod.is_up(0);
        assert_eq!(pod.slots[0].ready, probes.get("readinessProbe").is_none());
        pod.set_ready(0, true);
        end(&mut pod, 0, 1, 1);
        assert_eq!((pod.slots[0].started, pod.slots[0].ready), (false, false));
    }
}
