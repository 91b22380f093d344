//! The rules, one by one.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// A second of the test's own clock.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn lifecycle(policy: &str, init: Value, main: Value) -> Lifecycle {
    made(json!({"restartPolicy": policy, "initContainers": init, "containers": main}))
}

fn made(spec: Value) -> Lifecycle {
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
    let mut pod = lifecycle("Always", json!([{"name": "i0"}, {"name": "i1"}]), json!([{"name": "m0"}, {"name": "m1"}]));
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
fn nothing_starts_before_the_volumes_are_set_up() {
    let volumes = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    let main = json!({"name": "m0", "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let mut pod = made(json!({"initContainers": [{"name": "i0"}], "containers": [main], "volumes": volumes}));
    let set_up = Plan { set_up: true, ..Plan::default() };
    assert_eq!((pod.plan(at(0)), pod.wants_configuration(), pod.pod_phase()), (set_up.clone(), true, "Pending"));
    pod.lacks_volumes(at(0));
    assert_eq!(pod.plan(at(0)), Plan { wake: Some(at(10)), ..Plan::default() });
    pod.configuration_changed();
    assert_eq!(pod.plan(at(1)), set_up);
    pod.lacks_volumes(at(1));
    assert_eq!(pod.plan(at(11)), set_up);
    pod.has_unread_volumes(at(11));
    assert_eq!(pod.plan(at(11)), Plan { wake: Some(at(12)), ..Plan::default() });
    pod.has_volumes();
    assert_eq!((start(&mut pod, 12), pod.wants_configuration()), (vec![0], false));
    pod.configuration_changed();
    end(&mut pod, 0, 0, 13);
    assert_eq!(start(&mut pod, 13), [1], "they stay set up");
}

#[test]
fn a_pod_whose_volumes_cannot_be_set_up_can_be_deleted() {
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let mut pod = made(json!({"containers": [{"name": "m0"}], "volumes": volumes}));
    pod.lacks_volumes(at(0));
    pod.terminate();
    assert_eq!((pod.plan(at(100)), pod.is_over()), (Plan::default(), true));
}

#[rstest]
#[case(json!({"emptyDir": {}}))]
#[case(json!({"configMap": {"name": "s", "optional": true}}))]
fn volumes_that_need_nothing_hold_nothing_up(#[case] source: Value) {
    let mut volume = json!({"name": "v"});
    json_patch::merge(&mut volume, &source);
    let mut pod = made(json!({"containers": [{"name": "m0"}], "volumes": [volume]}));
    assert_eq!(start(&mut pod, 0), [0]);
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
    let waiting =
        Phase::Waiting { hindrance: Hindrance::CrashLoopBackOff { delay: Duration::from_secs(10) }, due: Some(at(12)) };
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
