//! Backups: credentials that are missing or wrong, the first backup, what switching off and deleting leave.

mod driven;

use super::{Case, FROZEN, META, OBJECTS, run, silent, states};
use crate::compare::Check::{Events, Last, Mark, NotBefore, Objects, Order, Values};
use crate::compare::{Allowed, added, becomes, deleted, event, mark};
use crate::driver::{CLUSTER, SECRET};

const REPO_HOST: &str = "demo-postgres-repo-host";

/// What belongs to backups, beside [`OBJECTS`].
const BACKUPS: &[(&str, &[&str])] = &[
    ("Job", &["labels", "annotations"]),
    // The annotation with the sort of its Job is added later.
    ("PerconaPGBackup", &["labels", "ownerReferences", "spec"]),
    ("Role", META),
];

/// The text of an attempt names times, hosts and what went wrong: that it is said is demanded by an order.
const ATTEMPTS: &[Allowed] =
    &[("UnableToCreateStanzas", "the text holds times and addresses; the recordings also lost a race for a lock")];

/// Which value is frozen depends on who is first, also in reality (`observed.md`, i).
const FROZEN_WITH_BACKUPS: &[Allowed] = &[
    FROZEN[0],
    ("PerconaPGCluster.status.conditions[*", "frozen at their first values, which vary between the recordings"),
    ("PerconaPGCluster.status.conditions", "so does the order in which they were first seen"),
];

#[allow(clippy::too_many_lines)] // A table: what each case demands.
pub fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "g",
            trace: "g-backups-missing-credentials-secret",
            run: run!(driven::missing_credentials),
            checks: vec![
                Objects { kinds: OBJECTS, allowed: &[] },
                Objects { kinds: BACKUPS, allowed: &[] },
                states(),
                silent(),
                Events { on: "PostgresCluster", allowed: &[] },
                Mark { name: "after 60 s", fields: &["status", "pods"] },
                Mark {
                    name: "20 s after the edit",
                    fields: &["status_state", "generation", "observedGeneration", "inner_backups_enabled", "pods"],
                },
                Last { kind: "PostgresCluster", field: "status", allowed: &[] },
                Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN_WITH_BACKUPS },
                Order(vec![
                    added("Secret", SECRET),
                    event("Pod/", "FailedMount"),
                    mark("now creating the Secret"),
                    event("PostgresCluster/", "StanzasCreated"),
                    becomes("PostgresCluster", "status", "/pgbackrest/repos/0/replicaCreateBackupComplete", "true"),
                ]),
                NotBefore(event("PostgresCluster/", "StanzasCreated"), mark("now creating the Secret")),
            ],
        },
        Case {
            name: "h",
            trace: "h-backups-wrong-credentials",
            run: run!(driven::wrong_credentials),
            checks: vec![
                states(),
                silent(),
                Events { on: "PostgresCluster", allowed: ATTEMPTS },
                Mark { name: "after 45 s more", fields: &["jobs", "backups"] },
                Values { kind: "PerconaPGCluster", field: "spec.manual", pointer: "", skip: &[] },
                Order(vec![
                    event("PostgresCluster/", "UnableToCreateStanzas"),
                    mark("PerconaPGBackup manual-full created while stanza missing"),
                    becomes("PerconaPGCluster", "annotations", "/pgv2.percona.com~1backup-in-progress", "manual-full"),
                    becomes("PerconaPGBackup", "status", "/state", "Starting"),
                    becomes("PostgresCluster", "status", "/pgbackrest/manualBackup/id", "manual-full"),
                    becomes("PerconaPGBackup", "status", "/state", "Failed"),
                ]),
                Order(vec![
                    mark("credentials corrected in the Secret"),
                    event("PostgresCluster/", "StanzasCreated"),
                    added("Job", "demo-postgres-backup-<id>"),
                    added("PerconaPGBackup", "demo-postgres-backup-<id>-<id>"),
                ]),
                NotBefore(event("PostgresCluster/", "StanzasCreated"), mark("credentials corrected in the Secret")),
                NotBefore(added("Job", "demo-postgres-backup-<id>"), mark("credentials corrected in the Secret")),
            ],
        },
        Case {
            name: "i3",
            trace: "i3-backups-start-fast",
            run: run!(driven::first_backup_of_a_new_cluster),
            checks: vec![
                Objects { kinds: OBJECTS, allowed: &[] },
                Objects { kinds: BACKUPS, allowed: &[] },
                states(),
                silent(),
                Events { on: "PostgresCluster", allowed: ATTEMPTS },
                Values { kind: "PerconaPGBackup", field: "status", pointer: "/state", skip: &[] },
                Values {
                    kind: "PerconaPGBackup",
                    field: "finalizers",
                    pointer: "",
                    skip: &[("absent", "a list that is gone is not written by the recordings' recorder")],
                },
                Last { kind: "PerconaPGBackup", field: "status", allowed: &[] },
                Last { kind: "PerconaPGBackup", field: "annotations", allowed: &[] },
                Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN_WITH_BACKUPS },
                Last { kind: "PostgresCluster", field: "status", allowed: &[] },
                Last { kind: "Job", field: "ownerReferences", allowed: &[] },
                Last { kind: "Job", field: "conditions", allowed: &[] },
                Order(vec![
                    added("ServiceAccount", "demo-postgres-pgbackrest"),
                    added("Role", "demo-postgres-pgbackrest"),
                    added("RoleBinding", "demo-postgres-pgbackrest"),
                    added("StatefulSet", REPO_HOST),
                    event("PostgresCluster/", "RepoHostCreated"),
                    added("Deployment", "demo-postgres-pgbouncer"),
                ]),
                Order(vec![
                    event("PostgresCluster/", "StanzasCreated"),
                    added("Job", "demo-postgres-backup-<id>"),
                    becomes("PostgresCluster", "status", "/pgbackrest/repos/0/stanzaCreated", "true"),
                    added("PerconaPGBackup", "demo-postgres-backup-<id>-<id>"),
                    becomes("PerconaPGBackup", "status", "/state", "Starting"),
                    becomes("PerconaPGBackup", "status", "/state", "Running"),
                    becomes("PostgresCluster", "status", "/pgbackrest/repos/0/replicaCreateBackupComplete", "true"),
                    becomes("PerconaPGCluster", "status", "/pgbackrest/repos/0/replicaCreateBackupComplete", "true"),
                ]),
                // Both hear of the finished Job, each in its own controller: neither waits for the other.
                Order(vec![
                    becomes("PerconaPGBackup", "status", "/state", "Running"),
                    becomes("PerconaPGBackup", "status", "/backupName", "<backup>"),
                    becomes("PerconaPGBackup", "status", "/state", "Succeeded"),
                    becomes("PerconaPGBackup", "status", "/latestRestorableTime", "<time>"),
                ]),
            ],
        },
        Case {
            name: "k2",
            trace: "k2-delete-with-backups",
            run: run!(driven::delete_with_backups),
            checks: vec![
                silent(),
                Mark { name: "remaining objects", fields: &["objects"] },
                Order(vec![
                    mark("DELETE"),
                    deleted("PerconaPGCluster", CLUSTER),
                    deleted("PostgresCluster", CLUSTER),
                    deleted("StatefulSet", REPO_HOST),
                ]),
            ],
        },
        Case {
            name: "o1",
            trace: "o1-backups-disable",
            run: run!(driven::disable_backups),
            checks: vec![
                states(),
                silent(),
                Mark { name: "15 s later", fields: &["state", "inner_conditions"] },
                Mark { name: "end", fields: &["state", "finalizers", "secret_has_pw"] },
                Values { kind: "PerconaPGCluster", field: "status", pointer: "/pgbackrest", skip: &[] },
                Order(vec![
                    mark("enabled=false (rest of backups kept)"),
                    becomes("PostgresCluster", "status", "/conditions/4/reason", "Paused"),
                    becomes("PerconaPGCluster", "status", "/conditions/5/reason", "Paused"),
                    mark("password removed while paused for missing authorization"),
                    mark("annotation set"),
                    deleted("StatefulSet", REPO_HOST),
                    deleted("Job", "demo-postgres-backup-<id>"),
                    becomes("PerconaPGCluster", "status", "/state", "initializing"),
                    becomes("PerconaPGCluster", "status", "/state", "ready"),
                ]),
                NotBefore(deleted("StatefulSet", REPO_HOST), mark("annotation set")),
            ],
        },
        Case {
            name: "o2",
            trace: "o2-operator-down-delete-with-backups",
            run: run!(driven::delete_while_the_operator_is_down),
            checks: vec![
                silent(),
                Mark { name: "12 s later", fields: &["exists", "state"] },
                Mark { name: "remaining", fields: &["bucket_objects", "objects"] },
                Order(vec![
                    mark("operator scaled to 0"),
                    mark("DELETE"),
                    mark("operator scaled to 1"),
                    becomes("PerconaPGCluster", "finalizers", "/0", "percona.com/delete-backups"),
                    deleted("PerconaPGBackup", "demo-postgres-backup-<id>-<id>"),
                    deleted("PerconaPGCluster", CLUSTER),
                    deleted("PostgresCluster", CLUSTER),
                ]),
                NotBefore(deleted("PerconaPGBackup", "manual-full"), mark("operator scaled to 1")),
            ],
        },
    ]
}
