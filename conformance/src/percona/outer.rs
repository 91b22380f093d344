//! The outer controller: `PerconaPGCluster` in, `PostgresCluster` and status out.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::cluster::{Cluster, deleting, now};
use super::context::Kind;
use super::names::{CRUNCHY, OUTER, PATRONI, STOP_WATCHERS, VERSION, owner};
use super::status::{Seen, next, with_version};

/// Prefix of the outer object's own annotations; on the inner object they have [`CRUNCHY`] instead.
const PERCONA: &str = "pgv2.percona.com/";

impl Cluster {
    /// One pass of the outer controller; with `report`, the status is written too. False when it could not go on.
    pub(super) async fn outer(&mut self, mut cluster: DynamicObject, report: bool) -> anyhow::Result<bool> {
        let (namespace, name) = (self.key.namespace.clone(), self.key.name.clone());
        if cluster.data["spec"]["crVersion"].as_str().unwrap_or_default().is_empty() {
            let patch = json!({ "spec": { "crVersion": VERSION } });
            cluster = self.context.merge(Kind::CLUSTER, &namespace, &name, patch).await?;
        }
        let backups = &cluster.data["spec"]["backups"];
        if backups_enabled(&cluster)
            && backups["trackLatestRestorableTime"] != false
            && !cluster.finalizers().iter().any(|each| each == STOP_WATCHERS)
        {
            let add = |held: &mut Vec<String>| {
                if !held.iter().any(|each| each == STOP_WATCHERS) {
                    held.push(STOP_WATCHERS.to_owned());
                }
            };
            let Some(changed) = self.context.finalizers(Kind::CLUSTER, &namespace, &name, add).await? else {
                return Ok(true);
            };
            cluster = changed;
        }
        let pods = self.postgres_pods().await?;
        // A defect of 2.8: while the first pod does not run, nothing of the cluster's spec or status moves on.
        match pods.first() {
            Some(pod) if pod.data["status"]["phase"] != "Running" => return Ok(false),
            Some(pod) => cluster = self.version(cluster, pod).await?,
            None if self.is_between_pods().await? => return Ok(false),
            None => {}
        }
        if self.translate(&cluster).await? && report {
            self.report(&cluster).await?;
        }
        Ok(true)
    }

    /// Whether the inner controller has seen pods, and now there are none: for the moment in which one takes the place
    /// of another. A pass of the real operator takes longer than that.
    async fn is_between_pods(&self) -> anyhow::Result<bool> {
        let inner = self.context.get(Kind::INNER, &self.key.namespace, &self.key.name).await?;
        Ok(inner.is_some_and(|inner| {
            let mut sets = inner.data["status"]["instances"].as_array().into_iter().flatten();
            inner.data["spec"]["shutdown"] != true && !deleting(&inner) && sets.any(|set| set["replicas"].is_number())
        }))
    }

    /// What the first running pod says about its image.
    async fn version(&self, cluster: DynamicObject, pod: &DynamicObject) -> anyhow::Result<DynamicObject> {
        let (namespace, name) = (&self.key.namespace, &self.key.name);
        let annotation = format!("{PERCONA}patroni-version");
        let known = |cluster: &DynamicObject| {
            cluster.annotations().get(&annotation).map(String::as_str) == Some(PATRONI)
                && cluster.data["status"]["patroniVersion"] == PATRONI
        };
        if known(&cluster) {
            return Ok(cluster);
        }
        let image = pod.data["status"]["containerStatuses"][0]["imageID"].as_str().unwrap_or_default();
        let version = cluster.data["spec"]["postgresVersion"].as_i64().unwrap_or_default();
        let status = with_version(&cluster.data["status"], PATRONI, version, image);
        self.context.status(Kind::CLUSTER, &self.key, name, &status, OUTER).await?;
        let patch = json!({ "metadata": { "annotations": { annotation: PATRONI } } });
        Ok(self.context.merge(Kind::CLUSTER, namespace, name, patch).await?)
    }

    /// Makes the inner object, or brings it up to date. False while one of a former cluster waits to be deleted.
    async fn translate(&self, cluster: &DynamicObject) -> anyhow::Result<bool> {
        let (namespace, name) = (&self.key.namespace, &self.key.name);
        let spec = inner_spec(cluster);
        let annotations = inner_annotations(cluster);
        let labels = inner_labels(cluster);
        let Some(mut inner) = self.context.get(Kind::INNER, namespace, name).await? else {
            let object = json!({
                "apiVersion": "postgres-operator.crunchydata.com/v1beta1", "kind": "PostgresCluster",
                "metadata": {
                    "namespace": namespace, "name": name, "labels": labels, "annotations": annotations,
                    "ownerReferences": [owner(cluster, true)],
                },
                "spec": spec,
            });
            self.context.create(object).await?;
            return Ok(true);
        };
        if inner.owner_references().iter().all(|owner| Some(&owner.uid) != cluster.uid().as_ref()) {
            // A former cluster's. The garbage collector, which deletes it, was quicker than the operator in what was seen.
            if !deleting(&inner) {
                return Ok(false);
            }
            // The operator makes it the new cluster's, and reports its status: a `ready` of what is going away.
            inner.metadata.owner_references = Some(vec![serde_json::from_value(owner(cluster, true))?]);
            self.context.replace(Kind::INNER, &self.key, &inner).await?;
            return Ok(true);
        }
        let known = |wanted: &Map<String, Value>, held: &BTreeMap<String, String>| {
            wanted.iter().all(|(key, value)| held.get(key).map(String::as_str) == value.as_str())
        };
        let unchanged = json!(inner.annotations()) == Value::Object(annotations.clone());
        if inner.data["spec"] == spec && unchanged && known(&labels, inner.labels()) {
            return Ok(true);
        }
        inner.data["spec"] = spec;
        let add = |held: &mut BTreeMap<String, String>, wanted: Map<String, Value>| {
            held.extend(wanted.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))));
        };
        // Annotations are the outer object's; labels may also be others'.
        inner.annotations_mut().clear();
        add(inner.annotations_mut(), annotations);
        add(inner.labels_mut(), labels);
        self.context.replace(Kind::INNER, &self.key, &inner).await?;
        Ok(true)
    }

    /// Writes the status. The counts are those of the inner status, which follow the databases: a pod that has become
    /// ready since is not ready yet. (No trace has `ready` before the first login.)
    async fn report(&self, cluster: &DynamicObject) -> anyhow::Result<()> {
        let inner = self.context.get(Kind::INNER, &self.key.namespace, &self.key.name).await?;
        let inner = inner.map_or(Value::Null, |mut inner| inner.data["status"].take());
        let count = |of: &Value, field: &str| of[field].as_i64().unwrap_or_default();
        let sets = cluster.data["spec"]["instances"].as_array().into_iter().flatten();
        let instances: Vec<(String, i64, i64)> = sets
            .filter_map(|set| {
                let known =
                    inner["instances"].as_array().into_iter().flatten().find(|each| each["name"] == set["name"]);
                let known = known.unwrap_or(&Value::Null);
                Some((set["name"].as_str()?.to_owned(), count(known, "replicas"), count(known, "readyReplicas")))
            })
            .collect();
        let bouncer = &inner["proxy"]["pgBouncer"];
        let (bouncers, ready) = (count(bouncer, "replicas"), count(bouncer, "readyReplicas"));
        let now = now();
        let host = self.key.host("pgbouncer");
        let seen = Seen {
            generation: cluster.metadata.generation.unwrap_or_default(),
            paused: cluster.data["spec"]["pause"] == true,
            host: &host,
            inner: &inner,
            instances: &instances,
            // A held cluster looks like one whose PgBouncer does not come up.
            pgbouncer: if self.context.faults.holds_ready(&self.key) {
                (bouncers.max(1), 0)
            } else {
                (bouncers, ready)
            },
            now: &now,
        };
        let status = next(&cluster.data["status"], &seen);
        if status != cluster.data["status"] {
            self.context.status(Kind::CLUSTER, &self.key, &self.key.name, &status, OUTER).await?;
        }
        Ok(())
    }
}

/// Whether the operator can compare the cluster's `crVersion` with others; empty means its own.
pub fn can_compare(cluster: &DynamicObject) -> bool {
    let version = cluster.data["spec"]["crVersion"].as_str().unwrap_or_default();
    version.is_empty() || is_version(version)
}

/// Whether a text is a version in the eyes of `hashicorp/go-version`: numbers between dots, then whatever follows a
/// hyphen, a plus or, as in `1.0rc1`, a letter.
fn is_version(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let word = |c: char| c.is_ascii_alphanumeric() || "-~.+".contains(c);
    numbers.split('.').all(|number| !number.is_empty()) && rest.chars().all(word) && !rest.ends_with(['-', '+', '.'])
}

/// Whether backups are on: they are, unless they are switched off.
pub fn backups_enabled(cluster: &DynamicObject) -> bool {
    cluster.data["spec"]["backups"]["enabled"] != false
}

fn inner_annotations(cluster: &DynamicObject) -> Map<String, Value> {
    let mut annotations = Map::new();
    for (key, value) in cluster.annotations() {
        let key = key.strip_prefix(PERCONA).map_or_else(|| key.clone(), |rest| format!("{CRUNCHY}{rest}"));
        // What kubectl and server-side apply note for themselves is not for the inner object.
        if !key.starts_with("kubectl.kubernetes.io/") {
            annotations.insert(key, json!(value));
        }
    }
    let own_schema = cluster.data["spec"]["autoCreateUserSchema"] != false;
    annotations.insert(format!("{CRUNCHY}autoCreateUserSchema"), json!(own_schema.to_string()));
    annotations
}

fn inner_labels(cluster: &DynamicObject) -> Map<String, Value> {
    let mut labels: Map<String, Value> =
        cluster.labels().iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    labels.insert(format!("{PERCONA}version"), json!(VERSION));
    labels
}

/// The spec of the inner object; the traces' dump shows the shape.
fn inner_spec(cluster: &DynamicObject) -> Value {
    let spec = &cluster.data["spec"];
    let metadata = json!({ "labels": { format!("{PERCONA}version"): VERSION } });
    let instances: Vec<Value> = spec["instances"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|set| {
            let mut set = set.clone();
            set["metadata"] = metadata.clone();
            set
        })
        .collect();
    let mut pgbackrest = json!({});
    if backups_enabled(cluster) {
        pgbackrest = spec["backups"]["pgbackrest"].clone();
        // Schedules are kept by the outer controller, in its own memory.
        for repo in pgbackrest["repos"].as_array_mut().into_iter().flatten() {
            repo.as_object_mut().map(|repo| repo.remove("schedules"));
        }
    }
    let mut bouncer = spec["proxy"]["pgBouncer"].clone();
    bouncer["metadata"] = metadata;
    let mut inner = json!({
        "backups": { "pgbackrest": pgbackrest },
        "config": {},
        "extensions": {},
        "instances": instances,
        "openshift": false,
        "port": spec["port"].as_i64().unwrap_or(5432),
        "postgresVersion": spec["postgresVersion"],
        "proxy": { "pgBouncer": bouncer },
    });
    for field in ["dataSource", "image", "imagePullPolicy", "users"] {
        if !spec[field].is_null() {
            inner[field] = spec[field].clone();
        }
    }
    if let Some(pause) = spec["pause"].as_bool() {
        inner["shutdown"] = json!(pause);
    }
    inner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGCluster",
            "metadata": { "name": "demo", "annotations": {
                "lab/touch": "1", "pgv2.percona.com/authorizeBackupRemoval": "true",
                "kubectl.kubernetes.io/last-applied-configuration": "{}" } },
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn annotations_keep_their_name_or_change_their_prefix() {
        let annotations = inner_annotations(&cluster(&json!({})));
        let mut keys: Vec<&str> = annotations.keys().map(String::as_str).collect();
        keys.sort_unstable();
        let crunchy = |name: &str| format!("{CRUNCHY}{name}");
        assert_eq!(keys, ["lab/touch", &crunchy("authorizeBackupRemoval"), &crunchy("autoCreateUserSchema")]);
    }

    #[test]
    fn the_inner_object_knows_no_schedules() {
        let repos = json!([{ "name": "repo1", "schedules": { "full": "0 2 * * *" }, "s3": { "bucket": "b" } }]);
        let spec = json!({ "backups": { "pgbackrest": { "repos": repos } }, "pause": true });
        let inner = inner_spec(&cluster(&spec));
        assert_eq!(inner["backups"]["pgbackrest"]["repos"], json!([{ "name": "repo1", "s3": { "bucket": "b" } }]));
        assert_eq!(inner["shutdown"], true);
        let off = inner_spec(&cluster(&json!({ "backups": { "enabled": false, "pgbackrest": { "repos": [] } } })));
        assert_eq!(off["backups"], json!({ "pgbackrest": {} }));
        assert_eq!(off.get("shutdown"), None);
    }

    #[rstest::rstest]
    #[case("", true)]
    #[case("2.8.2", true)]
    #[case("v2.8", true)]
    #[case("2.8.2-rc1+build.5", true)]
    #[case("2.8rc1", true)]
    #[case("not-a-version", false)]
    #[case("2..8", false)]
    #[case("2.8.", false)]
    #[case("2.8-", false)]
    #[case("2.8 2", false)]
    fn a_cr_version_is_one_that_go_version_reads(#[case] version: &str, #[case] expected: bool) {
        assert_eq!(can_compare(&cluster(&json!({ "crVersion": version }))), expected);
    }
}
