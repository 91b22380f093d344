//! Creation, missing parts, pause, deletion.

mod driven;

use super::{Case, FROZEN, IDS, OBJECTS, run, silent, states};
use crate::compare::Check::{Events, Last, Mark, NotBefore, Objects, Order, Values};
use crate::compare::{added, becomes, deleted, event, mark, probe, refused};
use crate::driver::{CLUSTER, SECRET};

pub use driven::{LEFT, wait_collected};

pub fn cases() -> Vec<Case> {
    vec![
        creation(),
        images_missing(),
        proxy_missing(),
        paused(),
        deleted_and_made_again(),
        deleted_with_everything(),
        version_filled_in(),
    ]
}

fn creation() -> Case {
    Case {
        name: "a",
        trace: "a-create-to-ready",
        run: run!(driven::create_to_ready),
        checks: vec![
            Objects { kinds: OBJECTS, allowed: &[] },
            states(),
            silent(),
            Events { on: "PostgresCluster", allowed: &[] },
            Values { kind: "PerconaPGCluster", field: "status", pointer: "/postgres/version", skip: &[] },
            Values { kind: "PerconaPGCluster", field: "status", pointer: "/host", skip: &[] },
            Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN },
            Last { kind: "PerconaPGCluster", field: "annotations", allowed: &[] },
            Last { kind: "PostgresCluster", field: "status", allowed: &[] },
            Last { kind: "PostgresCluster", field: "annotations", allowed: &[] },
            Last { kind: "PostgresCluster", field: "finalizers", allowed: &[] },
            Last { kind: "Secret", field: "pguser", allowed: &[] },
            Last { kind: "Secret", field: "managedFields", allowed: &[] },
            Last { kind: "StatefulSet", field: "status", allowed: &[] },
            Last { kind: "Deployment", field: "status", allowed: &[] },
            Last { kind: "Endpoints", field: "leader", allowed: &[] },
            Order(vec![
                added("PerconaPGCluster", CLUSTER),
                added("PostgresCluster", CLUSTER),
                becomes("PerconaPGCluster", "status", "/state", "initializing"),
                added("Secret", "demo-postgres-cluster-ca-cert"),
                added("Service", "demo-postgres-pods"),
                added("ServiceAccount", "demo-postgres-instance"),
                added("ConfigMap", "demo-postgres-config"),
                added("Secret", "demo-postgres-replication-cert"),
                added("Service", "demo-postgres-ha"),
                added("Service", "demo-postgres-primary"),
                added("Secret", "demo-postgres-cluster-cert"),
                added("Service", "demo-postgres-ha-config"),
                added("Secret", "demo-postgres-instance1-<id>-certs"),
                added("PersistentVolumeClaim", "demo-postgres-instance1-<id>-pgdata"),
                added("StatefulSet", "demo-postgres-instance1-<id>"),
                added("Secret", SECRET),
                added("Service", "demo-postgres-pgbouncer"),
                added("Secret", "demo-postgres-pgbouncer"),
                added("Deployment", "demo-postgres-pgbouncer"),
            ]),
            Order(vec![
                added("Secret", SECRET),
                becomes("PerconaPGCluster", "status", "/postgres/version", "17"),
                becomes("PerconaPGCluster", "annotations", "/pgv2.percona.com~1patroni-version", "4.0.7"),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
            Order(vec![
                added("Endpoints", "demo-postgres-ha-config"),
                added("Endpoints", "demo-postgres-ha"),
                probe("login with uri (no sslmode)", true),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
            // The password is refused before it is known: the Secret is ahead of the database.
            Order(vec![added("Secret", SECRET), probe("login with uri (no sslmode)", false)]),
            Mark { name: "user attrs", fields: &["out"] },
            Mark { name: "search_path/schemas", fields: &["out"] },
            Mark { name: "db owner/acl", fields: &["out"] },
            Mark { name: "create table unqualified", fields: &["rc"] },
            Mark { name: "create table public", fields: &["rc"] },
            refused_without_tls(),
        ],
    }
}

fn images_missing() -> Case {
    Case {
        name: "b1",
        trace: "b1-no-images-with-proxy",
        run: run!(driven::no_images),
        checks: vec![
            Objects { kinds: OBJECTS, allowed: &[] },
            states(),
            silent(),
            Events { on: "PostgresCluster", allowed: &[] },
            Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN },
            Mark { name: "after 65 s", fields: &["status"] },
            Order(vec![
                added("PostgresCluster", CLUSTER),
                event("PostgresCluster/", "MissingRequiredImage"),
                mark("images added to the CR"),
                added("Secret", SECRET),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
            NotBefore(added("Secret", "demo-postgres-cluster-ca-cert"), mark("images added to the CR")),
            NotBefore(added("Service", "demo-postgres-pods"), mark("images added to the CR")),
        ],
    }
}

fn proxy_missing() -> Case {
    Case {
        name: "b2",
        trace: "b2-no-proxy-no-images-operator-crash",
        run: run!(driven::no_proxy),
        checks: vec![
            Objects { kinds: OBJECTS, allowed: &[] },
            states(),
            silent(),
            Events { on: "PostgresCluster", allowed: &[] },
            Mark { name: "after 63 s", fields: &["status", "objects"] },
            NotBefore(added("PostgresCluster", CLUSTER), mark("spec.proxy added to the CR (still no images)")),
            Order(vec![
                mark("spec.proxy added to the CR (still no images)"),
                added("PostgresCluster", CLUSTER),
                event("PostgresCluster/", "MissingRequiredImage"),
                mark("images added"),
                added("Secret", SECRET),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
        ],
    }
}

fn paused() -> Case {
    Case {
        name: "j",
        trace: "j-pause-unpause",
        run: run!(driven::pause),
        checks: vec![
            states(),
            silent(),
            Values { kind: "PostgresCluster", field: "spec.shutdown", pointer: "", skip: &[] },
            Values { kind: "StatefulSet", field: "replicas_spec", pointer: "", skip: &[] },
            Values { kind: "Deployment", field: "replicas_spec", pointer: "", skip: &[] },
            Values { kind: "Secret", field: "pguser", pointer: "/verifier/matches_password", skip: &[] },
            Mark { name: "paused objects", fields: &["objects"] },
            Mark { name: "secret while paused", fields: &["has_password", "verifier_matches"] },
            Mark { name: "after", fields: &["old_login", "new_login"] },
            Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN },
            Last { kind: "PostgresCluster", field: "status", allowed: &[] },
            Last { kind: "Secret", field: "pguser", allowed: IDS },
            // Rotated while paused: after the start the old password is valid for a while, the Secret's is not.
            Order(vec![
                mark("pause=false"),
                probe("login with uri", true),
                refused("login with uri", "password authentication failed"),
            ]),
            Order(vec![
                mark("pause=false"),
                probe("login with uri", true),
                probe("login with current uri", true),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
        ],
    }
}

fn deleted_and_made_again() -> Case {
    Case {
        name: "k1",
        trace: "k1-delete-no-backups",
        run: run!(driven::delete_and_recreate),
        checks: vec![
            silent(),
            Mark { name: "remaining objects", fields: &["objects"] },
            Mark { name: "after recreate", fields: &["password_same", "login_rc", "pvcs", "statefulsets"] },
            Order(vec![
                deleted("PerconaPGCluster", CLUSTER),
                deleted("Pod", "demo-postgres-instance1-<id>-0"),
                deleted("PostgresCluster", CLUSTER),
                deleted("StatefulSet", "demo-postgres-instance1-<id>"),
                mark("remaining objects"),
                added("PostgresCluster", CLUSTER),
                becomes("PerconaPGCluster", "status", "/state", "ready"),
            ]),
            Last { kind: "PerconaPGCluster", field: "status", allowed: FROZEN },
            Last { kind: "PostgresCluster", field: "status", allowed: &[] },
        ],
    }
}

fn deleted_with_everything() -> Case {
    Case {
        name: "k3",
        trace: "k3-delete-with-delete-pvc-finalizer",
        run: run!(driven::delete_everything),
        checks: vec![
            silent(),
            Mark { name: "remaining objects", fields: &["objects"] },
            Values {
                kind: "PerconaPGCluster",
                field: "finalizers",
                pointer: "",
                skip: &[("absent", "a list that is gone is not written by the recordings' recorder")],
            },
            Order(vec![
                mark("DELETE"),
                becomes("PersistentVolumeClaim", "deletionTimestamp", "", "<time>"),
                deleted("Secret", SECRET),
                deleted("Secret", "demo-postgres-pgbouncer"),
                deleted("Secret", "demo-postgres-cluster-ca-cert"),
                deleted("Secret", "demo-postgres-cluster-cert"),
                deleted("Secret", "demo-postgres-replication-cert"),
                deleted("Secret", "demo-postgres-instance1-<id>-certs"),
                deleted("PerconaPGCluster", CLUSTER),
                deleted("Pod", "demo-postgres-instance1-<id>-0"),
                deleted("PostgresCluster", CLUSTER),
                deleted("StatefulSet", "demo-postgres-instance1-<id>"),
            ]),
        ],
    }
}

fn version_filled_in() -> Case {
    Case {
        name: "n6",
        trace: "n6-crversion-omitted",
        run: run!(driven::version_omitted),
        checks: vec![
            Values { kind: "PerconaPGCluster", field: "spec.crVersion", pointer: "", skip: &[] },
            // The recording goes on until the cluster is deleted, so that there is no last status.
            Mark { name: "after 30 s", fields: &["crVersion", "state"] },
        ],
    }
}

/// Without TLS nobody gets in, in the same words.
fn refused_without_tls() -> crate::compare::Check {
    Order(vec![added("Secret", SECRET), refused("login uri?sslmode=disable", "no pg_hba.conf entry for host")])
}
