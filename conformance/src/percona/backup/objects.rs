//! The objects that Percona makes for backups.
//!
//! Pure. Source: `contract.md` 5 and the dump `objects-i.yaml`: names, labels, owners, annotations and projected volumes
//! are the recorded ones; commands and probes are left out, since no kubelet runs these pods.

use serde_json::{Map, Value, json};

use super::super::names::{CRUNCHY, Key, NODE, VERSION};
use super::super::objects::restrict;
use super::config::STANZA;
use super::storage::{Storage, destination, repo_hash};

/// The annotation of a `PerconaPGBackup` that names the Job for which it was made.
pub(super) const JOB_NAME: &str = "pgv2.percona.com/pgbackrest-backup-job-name";
/// The annotation of a `PerconaPGBackup` that says what sort of Job made it: [`REPLICA_CREATE`] or [`MANUAL`].
pub(super) const JOB_TYPE: &str = "pgv2.percona.com/pgbackrest-backup-job-type";
/// The annotation of a cluster while one of its backups is under way. Its value is the backup's name.
pub(super) const IN_PROGRESS: &str = "pgv2.percona.com/backup-in-progress";
/// The annotation, of a cluster and of a Job, that asks for a manual backup: the backup's name. As a label of a Job: its
/// sort.
pub(super) const BACKUP: &str = "postgres-operator.crunchydata.com/pgbackrest-backup";
/// The first backup of a cluster, from which replicas are made.
pub(super) const REPLICA_CREATE: &str = "replica-create";
/// A backup that a `PerconaPGBackup` asked for, also a scheduled one.
pub(super) const MANUAL: &str = "manual";
/// The annotation of the Job of a first backup that says for which repository it was made (see [`repo_hash`]).
pub(super) const REPO_HASH: &str = "postgres-operator.crunchydata.com/pgbackrest-hash";
/// Finalizer of a `PerconaPGBackup` that is not finished.
pub(super) const DELETE_BACKUP: &str = "internal.percona.com/delete-backup";
/// Finalizer of a manual Job.
pub(super) const KEEP_JOB: &str = "internal.percona.com/keep-job";
/// pgBackRest's annotation by which a manual backup is found again.
pub(super) const BACKUP_NAME: &str = "percona.com/backup-name";
/// pgBackRest's annotation by which the first backup is found again.
pub(super) const BACKUP_JOB_TYPE: &str = "percona.com/backup-job-type";

/// Whether a spec, of either of the two kinds of cluster, has a repository.
pub fn has_repositories(spec: &Value) -> bool {
    repositories(spec).next().is_some()
}

/// The repositories of a spec.
pub(super) fn repositories(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["backups"]["pgbackrest"]["repos"].as_array().into_iter().flatten()
}

/// What the repository host is made of, in the recorded order: its account with role and binding, the workload, the claims
/// of its volumes, the configuration.
///
/// `spec` and `owner` are those of the `PostgresCluster`. The Secret with the host's certificates is not among them.
pub fn repo_host(key: &Key, spec: &Value, owner: &Value) -> Vec<Value> {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let name = key.named("pgbackrest");
    let mut labels = key.label();
    labels.insert("pgv2.percona.com/version".to_owned(), json!(VERSION));
    labels.insert(format!("{CRUNCHY}pgbackrest"), json!(""));
    let object = |api: &str, kind: &str, name: String, labels: &Map<String, Value>| {
        json!({
            "apiVersion": api, "kind": kind,
            "metadata": { "namespace": key.namespace, "name": name, "labels": labels, "ownerReferences": [owner] },
        })
    };
    let account = object("v1", "ServiceAccount", name.clone(), &labels);
    let mut role = object(RBAC, "Role", name.clone(), &labels);
    role["rules"] = json!([
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] },
        { "apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"] },
    ]);
    let mut binding = object(RBAC, "RoleBinding", name.clone(), &labels);
    binding["roleRef"] = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
    binding["subjects"] = json!([{ "kind": "ServiceAccount", "name": name }]);

    let host_labels = common(key, &[("pgbackrest", ""), ("pgbackrest-dedicated", ""), ("data", "pgbackrest")]);
    let mut selector = key.label();
    selector.insert(format!("{CRUNCHY}pgbackrest"), json!(""));
    selector.insert(format!("{CRUNCHY}pgbackrest-dedicated"), json!(""));
    let image = &spec["backups"]["pgbackrest"]["image"];
    let claims = claims(key, spec);
    let mount = |(repo, claim): &(&str, Value)| {
        let claim = &claim["metadata"]["name"];
        json!({ "name": repo, "persistentVolumeClaim": { "claimName": claim } })
    };
    let mut volumes: Vec<Value> = claims.iter().map(mount).collect();
    volumes.push(volume(key, spec, "pgbackrest_repo.conf"));
    let mut host = object("apps/v1", "StatefulSet", key.named("repo-host"), &host_labels);
    host["spec"] = json!({
        "replicas": i64::from(spec["shutdown"] != true),
        "serviceName": key.named("pods"),
        "podManagementPolicy": "Parallel",
        "selector": { "matchLabels": selector },
        "template": {
            "metadata": { "labels": host_labels },
            "spec": {
                "nodeName": NODE,
                "automountServiceAccountToken": false,
                "serviceAccountName": name,
                "initContainers": [{ "name": "nss-wrapper-init", "image": image }],
                "containers": [
                    { "name": "pgbackrest", "image": image }, { "name": "pgbackrest-config", "image": image },
                ],
                "volumes": volumes,
            },
        },
    });
    restrict(&mut host);
    let labels = common(key, &[("pgbackrest", ""), ("pgbackrest-config", "")]);
    let mut config = object("v1", "ConfigMap", key.named("pgbackrest-config"), &labels);
    let keys = ["config-hash", "pgbackrest-server.conf", "pgbackrest_instance.conf", "pgbackrest_repo.conf"];
    config["data"] = keys.iter().map(|key| ((*key).to_owned(), json!("double"))).collect();
    let mut objects = vec![account, role, binding, host];
    objects.extend(claims.into_iter().map(|(_, claim)| claim));
    objects.push(config);
    objects
}

/// The claims of the repositories that are volumes, by repository. They have no owner: they outlive the cluster.
fn claims<'a>(key: &Key, spec: &'a Value) -> Vec<(&'a str, Value)> {
    let volumes = repositories(spec).filter(|repo| Storage::of(repo) == Storage::Volume);
    let claim = |repo: &'a Value| {
        let name = repo["name"].as_str()?;
        let labels = [("pgbackrest", ""), ("pgbackrest-repo", name), ("pgbackrest-volume", ""), ("data", "pgbackrest")];
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "namespace": key.namespace, "name": key.named(name), "labels": common(key, &labels) },
            "spec": repo["volume"]["volumeClaimSpec"],
        });
        Some((name, claim))
    };
    volumes.filter_map(claim).collect()
}

/// The message of the Event `RepoHostCreated`.
pub fn repo_host_created(key: &Key) -> String {
    format!("created pgBackRest repository host StatefulSet/{}", key.named("repo-host"))
}

/// The volume with pgBackRest's configuration, of which `file` is the part of one sort of pod (`pgbackrest_instance.conf`
/// or `pgbackrest_repo.conf`). A pod does not start while a Secret or ConfigMap in it is missing.
pub fn volume(key: &Key, spec: &Value, file: &str) -> Value {
    let mut sources = spec["backups"]["pgbackrest"]["configuration"].as_array().cloned().unwrap_or_default();
    let item = |key: &str, path: &str| json!({ "key": key, "path": path });
    sources.push(json!({ "configMap": {
        "name": key.named("pgbackrest-config"),
        "items": [
            item(file, file), item("config-hash", "config-hash"),
            item("pgbackrest-server.conf", "~postgres-operator_server.conf"),
        ],
    }}));
    json!({ "name": "pgbackrest-config", "projected": { "sources": sources } })
}

/// A backup Job of either sort. `options` are pgBackRest's, beside the stanza and the repository; for a manual backup,
/// `backup` is its name.
pub(super) fn job(key: &Key, spec: &Value, repo: &str, options: &[String], backup: Option<&str>) -> Value {
    let sort = if backup.is_some() { MANUAL } else { REPLICA_CREATE };
    let labels = common(key, &[("pgbackrest", ""), ("pgbackrest-backup", sort), ("pgbackrest-repo", repo)]);
    let mut annotations = Map::new();
    annotations.insert("kubectl.kubernetes.io/default-container".to_owned(), json!("pgbackrest"));
    let repos = spec["backups"]["pgbackrest"]["repos"].as_array();
    let made_for = || repos.into_iter().flatten().find(|each| each["name"] == repo).map(repo_hash).unwrap_or_default();
    match backup {
        Some(name) => annotations.insert(BACKUP.to_owned(), json!(name)),
        None => annotations.insert(REPO_HASH.to_owned(), json!(made_for())),
    };
    let mut words = vec![format!("--stanza={STANZA}"), format!("--repo={}", repo.trim_start_matches("repo"))];
    match backup {
        Some(_) => words.extend_from_slice(options),
        None => words.push(annotation(BACKUP_JOB_TYPE, REPLICA_CREATE)),
    }
    let image = &spec["backups"]["pgbackrest"]["image"];
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "namespace": key.namespace, "name": key.named(&format!("backup-{}", suffix(4))),
            "labels": labels, "annotations": annotations,
        },
        "spec": {
            "template": {
                "metadata": { "labels": labels, "annotations": annotations },
                "spec": {
                    "nodeName": NODE,
                    "restartPolicy": "Never",
                    "serviceAccountName": key.named("pgbackrest"),
                    "initContainers": [{ "name": "pgbackrest-init", "image": format!("docker.io/percona/percona-postgresql-operator:{VERSION}") }],
                    "containers": [{
                        "name": "pgbackrest", "image": image,
                        "env": [
                            { "name": "COMMAND", "value": "backup" },
                            { "name": "COMMAND_OPTS", "value": words.join(" ") },
                            { "name": "CONTAINER", "value": "pgbackrest" },
                            { "name": "NAMESPACE", "value": key.namespace },
                        ],
                    }],
                    "volumes": [volume(key, spec, "pgbackrest_repo.conf")],
                },
            },
        },
    });
    restrict(&mut job);
    if backup.is_some() {
        job["metadata"]["finalizers"] = json!([KEEP_JOB]);
    }
    job
}

/// The options that the Job of a pod gives to pgBackRest.
pub(super) fn options(pod: &Value) -> Vec<String> {
    let words = pod["spec"]["containers"][0]["env"]
        .as_array()
        .and_then(|variables| variables.iter().find(|variable| variable["name"] == "COMMAND_OPTS"))
        .and_then(|variable| variable["value"].as_str())
        .unwrap_or_default();
    words.split_whitespace().filter(|word| !word.starts_with("--stanza=")).map(str::to_owned).collect()
}

/// An annotation of a backup, quoted as Percona quotes it.
pub(super) fn annotation(key: &str, value: &str) -> String {
    format!("--annotation=\"{key}\"=\"{value}\"")
}

/// A `PerconaPGBackup`: named after the Job that it was made for, or after the schedule that asks for it.
pub(super) fn percona_backup(key: &Key, repo: &str, of: &Origin<'_>) -> Value {
    let mut backup = json!({
        "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGBackup",
        "metadata": { "namespace": key.namespace },
        "spec": { "pgCluster": key.name, "repoName": repo },
    });
    match of {
        Origin::Job(job) => {
            backup["metadata"]["generateName"] = json!(format!("{job}-"));
            backup["metadata"]["annotations"] = json!({ JOB_NAME: job });
        }
        Origin::Schedule(sort) => {
            backup["metadata"]["generateName"] = json!(format!("{}-{repo}-{sort}-", key.name));
            backup["spec"]["options"] = json!([format!("--type={sort}")]);
        }
    }
    backup
}

/// What a `PerconaPGBackup` that nobody wrote was made for.
pub(super) enum Origin<'a> {
    /// The first backup: the name of its Job.
    Job(&'a str),
    /// A schedule: `full`, `diff` or `incr`.
    Schedule(&'a str),
}

/// What a `PerconaPGBackup` says about itself as soon as it is taken up. `spec` is that of the `PerconaPGCluster`.
pub(super) fn started(spec: &Value, repo: &str) -> Value {
    let pgbackrest = &spec["backups"]["pgbackrest"];
    let repos = pgbackrest["repos"].as_array().into_iter().flatten();
    let found = repos.into_iter().find(|each| each["name"] == repo).cloned().unwrap_or_default();
    let path = pgbackrest["global"][format!("{repo}-path")].as_str().unwrap_or_default();
    let mut status = json!({
        "crVersion": spec["crVersion"],
        "image": pgbackrest["image"],
        "repo": found,
        "state": "Starting",
        "storageType": Storage::of(&found).name(),
    });
    if let Some(destination) = destination(&found, path) {
        status["destination"] = json!(destination);
    }
    status
}

/// Random characters as Kubernetes uses them in names.
fn suffix(length: usize) -> String {
    use rand::seq::IndexedRandom as _;
    const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..length).filter_map(|_| SAFE.choose(&mut rand::rng())).map(|byte| char::from(*byte)).collect()
}

fn common(key: &Key, more: &[(&str, &str)]) -> Map<String, Value> {
    key.labels(more.iter().copied().chain([("pgv2.percona.com/version", VERSION)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { namespace: "a".to_owned(), name: "demo".to_owned() }
    }

    #[test]
    fn a_first_backup_is_told_apart_from_a_manual_one() {
        let repo = json!({ "name": "repo1", "s3": { "bucket": "b", "endpoint": "e", "region": "r" } });
        let spec = json!({ "backups": { "pgbackrest": { "repos": [repo] } } });
        let first = job(&key(), &spec, "repo1", &[], None);
        assert_eq!(first["metadata"]["annotations"][REPO_HASH], repo_hash(&repo));
        let labels = &first["metadata"]["labels"];
        assert_eq!(labels[BACKUP], REPLICA_CREATE);
        assert_eq!(first["metadata"]["finalizers"], Value::Null);
        let pod = &first["spec"]["template"];
        assert_eq!(options(pod), ["--repo=1", "--annotation=\"percona.com/backup-job-type\"=\"replica-create\""]);

        let asked = ["--type=full".to_owned(), annotation(BACKUP_NAME, "mine")];
        let manual = job(&key(), &json!({}), "repo2", &asked, Some("mine"));
        assert_eq!(manual["metadata"]["labels"][BACKUP], MANUAL);
        assert_eq!(manual["metadata"]["annotations"][BACKUP], "mine");
        assert_eq!(manual["metadata"]["finalizers"], json!([KEEP_JOB]));
        assert_eq!(
            options(&manual["spec"]["template"]),
            ["--repo=2", "--type=full", "--annotation=\"percona.com/backup-name\"=\"mine\""]
        );
    }

    /// The first status in trace i3.
    #[test]
    fn a_backup_that_starts_says_where_it_goes() {
        let repo = json!({ "name": "repo1", "s3": { "bucket": "b", "endpoint": "e", "region": "r" } });
        let spec = json!({ "crVersion": "2.8.2", "backups": { "pgbackrest": {
            "image": "i", "global": { "repo1-path": "/pgbackrest/a/demo/repo1" }, "repos": [repo],
        }}});
        let expected = json!({
            "crVersion": "2.8.2", "destination": "s3://b/pgbackrest/a/demo/repo1", "image": "i", "repo": repo,
            "state": "Starting", "storageType": "s3",
        });
        assert_eq!(started(&spec, "repo1"), expected);
    }

    #[test]
    fn the_repository_host_has_the_recorded_names() {
        let objects = repo_host(&key(), &json!({}), &json!({ "kind": "PostgresCluster" }));
        let names: Vec<String> = objects
            .iter()
            .map(|object| {
                format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
            })
            .collect();
        assert_eq!(
            names,
            [
                "ServiceAccount/demo-pgbackrest",
                "Role/demo-pgbackrest",
                "RoleBinding/demo-pgbackrest",
                "StatefulSet/demo-repo-host",
                "ConfigMap/demo-pgbackrest-config",
            ]
        );
        assert!(objects.iter().all(|object| object["metadata"]["ownerReferences"][0]["kind"] == "PostgresCluster"));
    }

    /// `contract.md`, 5.
    #[test]
    fn a_repository_on_a_volume_has_a_claim_that_nobody_owns() {
        let wanted = json!({ "resources": { "requests": { "storage": "1Gi" } } });
        let repos = json!([
            { "name": "repo1", "volume": { "volumeClaimSpec": wanted } }, { "name": "repo2", "s3": { "bucket": "b" } },
        ]);
        let spec = json!({ "backups": { "pgbackrest": { "repos": repos } } });
        let objects = repo_host(&key(), &spec, &json!({ "kind": "PostgresCluster" }));
        let [_, _, _, host, claim, _] = objects.as_slice() else { panic!("one claim: {objects:#?}") };
        assert_eq!(claim["metadata"]["name"], "demo-repo1");
        assert_eq!(claim["metadata"]["ownerReferences"], Value::Null);
        assert_eq!(claim["metadata"]["labels"]["postgres-operator.crunchydata.com/pgbackrest-repo"], "repo1");
        assert_eq!(claim["spec"], wanted);
        let volumes = &host["spec"]["template"]["spec"]["volumes"];
        assert_eq!(volumes[0], json!({ "name": "repo1", "persistentVolumeClaim": { "claimName": "demo-repo1" } }));
        assert_eq!(volumes[1]["name"], "pgbackrest-config");
    }
}
