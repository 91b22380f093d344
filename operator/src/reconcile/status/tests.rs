//! Decisions and transitions.

use std::fmt::Write as _;

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::reconcile::gate::judge;
use crate::testing::{BACKED_UP, CREDENTIALS, cluster, secret, server};

const READY: &str = "status: {state: ready}";

fn at(second: u8) -> Time {
    serde_json::from_value(json!(format!("2026-11-24T08:00:{second:02}Z"))).unwrap()
}

fn pods(ready: i32, updated: i32, existing: i32) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": { "generation": 2 },
        "status": {
            "observedGeneration": 2, "replicas": existing, "readyReplicas": ready, "updatedReplicas": updated,
        },
    }))
    .unwrap()
}

fn facts(rest: &str, complete: bool) -> Facts {
    let values = if complete { &CREDENTIALS[..] } else { &CREDENTIALS[..3] };
    Facts { cluster: Cluster::Ours(Box::new(cluster(rest))), secret: Some(secret(values)), missing_backup_secret: None }
}

/// The next status of `server`, of these facts.
fn step(
    server: &DittoServer,
    facts: &Facts,
    workload: Option<&StatefulSet>,
    failure: Option<&Failure>,
    now: u8,
) -> DittoServerStatus {
    let verdict = judge(server, facts);
    next(&Seen { server, facts, verdict: &verdict, workload, failure, wait: None }, &at(now))
}

fn summary(status: &DittoServerStatus) -> String {
    let conditions = status.conditions.iter().map(|one| format!("{}={}/{}", one.type_, one.status, one.reason));
    format!("{:?}: {}", status.phase.unwrap(), conditions.collect::<Vec<_>>().join(" "))
}

fn failed() -> Failure {
    Failure { reason: "PostgreSQLFailed", message: "gave up".to_owned() }
}

#[rstest]
#[case::waits(
    "status: {}",
    None,
    None,
    "Pending: Ready=False/DatabaseNotReady DatabaseReady=False/WaitingForPostgreSQL Progressing=True/WaitingForDatabase"
)]
#[case::rolls_out(
    READY,
    Some(pods(0, 1, 1)),
    None,
    "Pending: Ready=False/PodsNotReady DatabaseReady=True/PostgreSQLReady Progressing=True/RollingOut"
)]
#[case::runs(
    READY,
    Some(pods(1, 1, 1)),
    None,
    "Running: Ready=True/Ready DatabaseReady=True/PostgreSQLReady Progressing=False/Settled"
)]
#[case::old_pod_is_ready(
    READY,
    Some(pods(1, 0, 1)),
    None,
    "Running: Ready=False/PodsNotReady DatabaseReady=True/PostgreSQLReady Progressing=True/RollingOut"
)]
#[case::flaps(
    "status: {state: initializing}",
    Some(pods(1, 1, 1)),
    None,
    "Running: Ready=False/DatabaseNotReady DatabaseReady=False/WaitingForPostgreSQL Progressing=True/WaitingForDatabase"
)]
#[case::gave_up(
    READY,
    Some(pods(0, 1, 1)),
    Some(failed()),
    "Failed: Ready=False/PostgreSQLFailed DatabaseReady=True/PostgreSQLReady Progressing=False/PostgreSQLFailed"
)]
fn the_status_follows(
    #[case] cluster: &str,
    #[case] workload: Option<StatefulSet>,
    #[case] failure: Option<Failure>,
    #[case] expected: &str,
) {
    let server = server("percona: {enabled: true}");
    let status = step(&server, &facts(cluster, true), workload.as_ref(), failure.as_ref(), 0);
    assert_eq!(summary(&status), expected);
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
}

#[rstest]
#[case::stopped(
    pods(0, 0, 0),
    "Stopped: Ready=False/Stopped DatabaseReady=True/PostgreSQLReady Progressing=False/Settled"
)]
#[case::stopping(
    pods(1, 1, 1),
    "Pending: Ready=False/Stopped DatabaseReady=True/PostgreSQLReady Progressing=True/RollingOut"
)]
fn a_server_can_be_stopped(#[case] workload: StatefulSet, #[case] expected: &str) {
    let server = server("percona: {enabled: true}\nreplicas: 0");
    assert_eq!(summary(&step(&server, &facts(READY, true), Some(&workload), None, 0)), expected);
}

#[test]
fn times_move_only_with_the_status() {
    let mut server = server("percona: {enabled: true}");
    server.status = Some(step(&server, &facts("status: {}", true), None, None, 1));
    let again = step(&server, &facts("status: {state: initializing}", true), None, None, 2);
    assert!(again.conditions.iter().all(|condition| condition.last_transition_time == at(1)));
    assert!(!same(server.status.as_ref().unwrap(), &again), "the message changed");
    server.status = Some(again);
    let ready = step(&server, &facts(READY, true), None, None, 3);
    let time = |kind: &str| ready.conditions.iter().find(|one| one.type_ == kind).unwrap().last_transition_time.clone();
    assert_eq!((time("DatabaseReady"), time("Ready")), (at(3), at(1)));
}

#[test]
fn the_order_of_conditions_says_nothing() {
    let status = step(&server(BACKED_UP), &facts(READY, true), None, None, 1);
    let mut turned = status.clone();
    turned.conditions.reverse();
    assert!(same(&status, &turned));
    turned.conditions[0].reason = "Other".to_owned();
    assert!(!same(&status, &turned));
}

#[test]
fn each_transition_is_one_event() {
    let mut server = server("percona: {enabled: true}");
    let running = pods(1, 1, 1);
    let steps: [(&str, Cluster, bool, Option<Failure>); 9] = [
        ("no cluster", Cluster::NotFound, true, None),
        ("initializing", facts("status: {state: initializing}", true).cluster, true, None),
        ("ready, Secret incomplete", facts(READY, false).cluster, false, None),
        ("complete", facts(READY, true).cluster, true, None),
        ("gave up", facts(READY, true).cluster, true, Some(failed())),
        ("gave up again", facts(READY, true).cluster, true, Some(failed())),
        ("runs", facts(READY, true).cluster, true, None),
        ("flaps", facts("status: {state: initializing}", true).cluster, true, None),
        ("taken", Cluster::Foreign("belongs to Helm x".to_owned()), true, None),
    ];
    let mut log = String::new();
    for (name, cluster, complete, failure) in steps {
        let facts = Facts { cluster, ..facts(READY, complete) };
        let after = step(&server, &facts, Some(&running), failure.as_ref(), 0);
        let notices = notices(&server, &after);
        let notices = notices.iter().map(|one| format!("{}{}", one.reason, if one.warning { "!" } else { "" }));
        writeln!(log, "{name}: {}", notices.collect::<Vec<_>>().join(", ")).unwrap();
        assert_eq!(super::notices(&DittoServer { status: Some(after.clone()), ..server.clone() }, &after), []);
        server.status = Some(after);
    }
    insta::assert_snapshot!(log);
}

#[rstest]
#[case::pods_gave_up("Ready", "False", "PostgreSQLFailed", Some((true, "PostgreSQLFailed")))]
#[case::refused("Ready", "False", "StatefulSetRejected", Some((true, "StatefulSetRejected")))]
#[case::invalid("Ready", "False", "InvalidSpec", Some((true, "InvalidSpec")))]
#[case::no_pods_yet("Ready", "False", "PodsNotReady", None)]
#[case::too_long("Progressing", "False", "ProgressDeadlineExceeded", Some((true, "ProgressDeadlineExceeded")))]
#[case::rolls_out("Progressing", "True", "RollingOut", None)]
#[case::foreign("DatabaseReady", "False", "ClusterNotOurs", Some((true, "ClusterNotOurs")))]
#[case::no_room("DatabaseReady", "False", "PerconaPGClusterRefused", Some((true, "PerconaPGClusterRefused")))]
#[case::database("DatabaseReady", "True", "PostgreSQLReady", Some((false, "PostgreSQLReady")))]
#[case::waits("DatabaseReady", "False", "WaitingForPostgreSQL", Some((false, "WaitingForDatabase")))]
#[case::sqlite("DatabaseReady", "True", "SQLite", None)]
fn a_condition_is_told_by_its_event(
    #[case] kind: &str,
    #[case] status: &str,
    #[case] reason: &str,
    #[case] expected: Option<(bool, &str)>,
) {
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": at(0),
    });
    assert_eq!(event(&serde_json::from_value(condition).unwrap()), expected);
}

const STANZA: &str = "pgbackrest: {repos: [{name: repo1, stanzaCreated: true}]}";

fn overall(status: &str, reason: &str) -> String {
    format!(
        "conditions: [{{type: ReadyForBackup, status: '{status}', reason: {reason}, message: '', lastTransitionTime: '2026-11-24T08:00:00Z'}}]"
    )
}

#[rstest]
#[case::initializing("state: initializing".to_owned(), false, "False/WaitingForPostgreSQL")]
#[case::no_secret("state: initializing".to_owned(), true, "False/CredentialsSecretMissing")]
#[case::wrong_keys(format!("state: ready, {}", overall("False", "PGBackRestReplicaCreate")), false, "False/StanzaNotCreated")]
#[case::no_repo_host(format!("state: ready, {STANZA}, {}", overall("False", "PGBackRestRepoHostReady")), false, "False/RepoHostNotReady")]
#[case::first_backup(format!("state: ready, {STANZA}, {}", overall("False", "PGBackRestReplicaCreate")), false, "False/WaitingForFirstBackup")]
#[case::gone_again(format!("state: initializing, {STANZA}, {}", overall("True", "AllConditionsAreTrue")), true, "True/ReadyForBackup")]
#[case::done(format!("state: ready, {STANZA}, {}", overall("True", "AllConditionsAreTrue")), false, "True/ReadyForBackup")]
#[case::true_without_stanza(format!("state: ready, {}", overall("True", "AllConditionsAreTrue")), false, "False/StanzaNotCreated")]
#[case::nothing_yet("state: ready".to_owned(), false, "False/StanzaNotCreated")]
fn backups_follow_the_stanza_and_percona(#[case] status: String, #[case] missing: bool, #[case] expected: &str) {
    let facts = Facts {
        missing_backup_secret: missing.then(|| "s3-keys".to_owned()),
        ..facts(&format!("status: {{{status}}}"), true)
    };
    let status = step(&server(BACKED_UP), &facts, None, None, 0);
    let backup = status.conditions.iter().find(|one| one.type_ == "BackupReady").unwrap();
    assert_eq!(format!("{}/{}", backup.status, backup.reason), expected, "{}", backup.message);
}

#[test]
fn backups_that_the_cluster_does_not_make_are_not_ready() {
    let mut made = cluster(&format!("status: {{state: ready, {STANZA}, {}}}", overall("True", "AllConditionsAreTrue")));
    made.spec.backups.enabled = Some(false);
    let facts = Facts { cluster: Cluster::Ours(Box::new(made)), ..facts(READY, true) };
    let status = step(&server(BACKED_UP), &facts, None, None, 0);
    assert!(summary(&status).contains("BackupReady=False/BackupsOffInCluster"), "{}", summary(&status));
}

#[test]
fn a_halted_server_keeps_what_is_known() {
    let mut server = server("percona: {enabled: true}");
    server.status = Some(step(&server, &facts(READY, true), Some(&pods(1, 1, 1)), None, 1));
    server.metadata.generation = Some(4);
    let status = halted(&server, Phase::Deleting, "Deleting", "is being deleted", &at(2));
    assert_eq!(
        summary(&status),
        "Deleting: Ready=False/Deleting Progressing=False/Deleting DatabaseReady=True/PostgreSQLReady"
    );
    assert_eq!((status.ready_replicas, status.percona_cluster_name.as_deref()), (1, Some("demo-postgres")));
    assert_eq!(status.observed_generation, Some(4));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(4)));
}

#[test]
fn what_was_judged_of_another_spec_says_so() {
    let mut server = server("percona: {enabled: true}");
    server.status = Some(step(&server, &facts(READY, true), Some(&pods(1, 1, 1)), None, 1));
    server.metadata.generation = Some(4);
    let status = halted(&server, Phase::Failed, "InvalidSpec", "is wrong", &at(2));
    let generations = status.conditions.iter().map(|one| (one.type_.as_str(), one.observed_generation));
    assert_eq!(
        generations.collect::<Vec<_>>(),
        [("Ready", Some(4)), ("Progressing", Some(4)), ("DatabaseReady", Some(3))]
    );
}

#[rstest]
#[case::too_long(Wait::Over("look there".to_owned()), "Progressing=False/ProgressDeadlineExceeded")]
#[case::somebody_must_act(Wait::Blocked, "Progressing=False/Blocked")]
#[case::not_yet(Wait::Within(std::time::Duration::from_secs(1)), "Progressing=True/WaitingForDatabase")]
fn a_wait_is_progress_while_time_counts(#[case] wait: Wait, #[case] expected: &str) {
    let (server, facts) = (server("percona: {enabled: true}"), facts("status: {state: paused}", true));
    let verdict = judge(&server, &facts);
    let seen =
        Seen { server: &server, facts: &facts, verdict: &verdict, workload: None, failure: None, wait: Some(wait) };
    let status = next(&seen, &at(1));
    assert!(summary(&status).contains(expected), "{}", summary(&status));
}

#[rstest]
#[case::percona("percona: {enabled: true}", true, Some("demo-postgres"))]
#[case::not_made_yet("percona: {enabled: true}", false, None)]
#[case::left_behind("database: {postgresSecretRef: {name: db, key: url}}", true, None)]
fn only_a_cluster_that_is_used_is_named(#[case] spec: &str, #[case] exists: bool, #[case] name: Option<&str>) {
    let mut facts = facts(READY, true);
    if !exists {
        facts.cluster = Cluster::NotFound;
    }
    assert_eq!(step(&server(spec), &facts, None, None, 1).percona_cluster_name.as_deref(), name);
}

#[rstest]
#[case::refused(Cluster::Refused("no room".to_owned()), Some("demo-postgres"))]
#[case::not_installed(Cluster::NotInstalled, Some("demo-postgres"))]
#[case::gone_again(Cluster::NotFound, Some("demo-postgres"))]
#[case::of_somebody_else(Cluster::Foreign("is theirs".to_owned()), None)]
fn a_cluster_that_is_gone_is_remembered_until_it_is_made_again(#[case] then: Cluster, #[case] name: Option<&str>) {
    let mut server = server("percona: {enabled: true}");
    server.status = Some(step(&server, &facts(READY, true), None, None, 1));
    let facts = Facts { cluster: then, ..facts(READY, true) };
    assert_eq!(step(&server, &facts, None, None, 2).percona_cluster_name.as_deref(), name);
}
