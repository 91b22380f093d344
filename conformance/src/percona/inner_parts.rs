//! Two parts of the inner pass that read and write more than they apply: the user Secrets and the inner status.

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::backup::{Outcome, PAUSED};
use super::certificates::data;
use super::cluster::{Cluster, deleting, is_ready, label, now};
use super::context::Kind;
use super::names::CRUNCHY;
use super::objects::{Plan, secret};
use super::secret::complete;
use super::status::{observe, without_nulls};
use super::users::User;

impl Cluster {
    /// Completes every user's Secret. The result is each user with the verifier that its role is to have.
    pub(super) async fn user_secrets(&mut self, plan: &Plan<'_>) -> anyhow::Result<Vec<(User, String)>> {
        let held = self.context.faults.held_keys(&self.key);
        let mut verifiers = Vec::new();
        for user in User::of(&self.key, plan.spec) {
            let found = self.context.get(Kind::SECRET, &self.key.namespace, &user.secret).await?;
            let mut existing = data(found.as_ref());
            // What a fault withholds is still known: when the fault is cleared, the same password appears.
            if let Some(withheld) = self.withheld.get(&user.secret) {
                for (key, value) in withheld {
                    if held.as_ref().is_none_or(|keys| keys.is_empty() || keys.contains(key)) {
                        existing.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                }
            }
            let login = user.login(&self.key, plan.spec, plan.port);
            let complete = complete(&existing, &login, &mut rand::rng());
            verifiers.push((user.clone(), String::from_utf8_lossy(&complete["verifier"]).into_owned()));
            match &held {
                Some(keys) if keys.is_empty() => {
                    self.withheld.insert(user.secret.clone(), complete);
                    if found.is_some() {
                        self.context.delete(Kind::SECRET, &self.key.namespace, &user.secret).await?;
                    }
                    continue;
                }
                Some(_) => drop(self.withheld.insert(user.secret.clone(), complete.clone())),
                None => drop(self.withheld.remove(&user.secret)),
            }
            let shown: Vec<(&str, &[u8])> = complete
                .iter()
                .filter(|(key, _)| held.as_ref().is_none_or(|keys| !keys.contains(*key)))
                .map(|(key, value)| (key.as_str(), value.as_slice()))
                .collect();
            let labels = self.key.labels([("role", "pguser"), ("pguser", user.name.as_str())]);
            let object = secret(&self.key, &user.secret, labels, &shown);
            if found.as_ref().is_none_or(|found| !covers(found, &object)) {
                self.context.apply(&object).await?;
            }
        }
        Ok(verifiers)
    }

    /// The inner status: what exists, and what was done in the databases.
    pub(super) async fn inner_status(
        &self,
        inner: &DynamicObject,
        revisions: Option<&(String, String, Option<String>)>,
        backups: &Outcome,
    ) -> anyhow::Result<Value> {
        let generation = inner.metadata.generation.unwrap_or_default();
        let previous = &inner.data["status"];
        let pods = self.postgres_pods().await?;
        let stateful = self.labelled(Kind::STATEFUL_SET, "").await?;
        let revision = |pod: &DynamicObject| {
            let name = label(pod, "instance");
            stateful
                .iter()
                .find(|each| each.name_any() == name)
                .map(|each| each.data["status"]["updateRevision"].clone())
        };
        let nonzero = |count: usize| if count == 0 { Value::Null } else { json!(count) };
        let sets = inner.data["spec"]["instances"].as_array().into_iter().flatten();
        let instances: Vec<Value> = sets
            .map(|set| {
                let mine: Vec<_> = pods.iter().filter(|pod| label(pod, "instance-set") == set["name"]).collect();
                let updated = mine.iter().filter(|pod| {
                    revision(pod).is_some_and(|revision| {
                        pod.labels().get("controller-revision-hash").is_some_and(|hash| revision == hash.as_str())
                    })
                });
                json!(without_nulls(json!({
                    "name": set["name"],
                    "readyReplicas": nonzero(mine.iter().filter(|pod| is_ready(pod)).count()),
                    "replicas": nonzero(mine.len()),
                    "updatedReplicas": nonzero(updated.count()),
                })))
            })
            .collect();

        let deployment = self.context.get(Kind::DEPLOYMENT, &self.key.namespace, &self.key.named("pgbouncer")).await?;
        let workload = deployment.as_ref().map_or(Value::Null, |deployment| deployment.data["status"].clone());
        let mut conditions = previous["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != PAUSED[0]);
        for condition in &backups.conditions {
            observe(&mut conditions, generation, *condition, &now());
        }
        let available =
            workload["conditions"].as_array().into_iter().flatten().find(|each| each["type"] == "Available");
        if let Some(available) = available {
            let word = |field: &str| available[field].as_str().unwrap_or_default();
            let condition = json!({
                "lastTransitionTime": word("lastTransitionTime"), "message": word("message"),
                "observedGeneration": generation, "reason": word("reason"), "status": word("status"),
                "type": "ProxyAvailable",
            });
            match conditions.iter_mut().find(|each| each["type"] == "ProxyAvailable") {
                Some(known) => *known = condition,
                None => conditions.push(condition),
            }
        }
        let done = |part: fn(&(String, String, Option<String>)) -> Value, field: &str| {
            revisions.map_or_else(|| previous[field].clone(), part)
        };
        let system = revisions
            .and_then(|revisions| revisions.2.clone())
            .map_or_else(|| previous["patroni"].clone(), |system| json!({ "systemIdentifier": system }));
        let postgres_revision = if revisions.is_some() {
            json!("5b95b9f4c4")
        } else {
            previous["proxy"]["pgBouncer"]["postgresRevision"].clone()
        };
        let bouncer = without_nulls(json!({
            "postgresRevision": postgres_revision,
            "readyReplicas": workload["readyReplicas"],
            "replicas": workload["replicas"],
        }));
        // The instance that is started first after a pause; remembered until it runs.
        let starting = inner.data["spec"]["shutdown"] == true
            || (!previous["startupInstance"].is_null() && !pods.iter().any(|pod| is_ready(pod) && !deleting(pod)));
        let startup = stateful.iter().find(|each| label(each, "data") == "postgres").filter(|_| starting);
        let monitoring = json!({ "exporterConfiguration": "559c4c97d6" });
        Ok(json!(without_nulls(json!({
            "conditions": if conditions.is_empty() { Value::Null } else { json!(conditions) },
            "databaseRevision": done(|revisions| json!(revisions.0), "databaseRevision"),
            "instances": instances,
            "monitoring": done(|_| Value::Bool(true), "monitoring").as_bool().map_or_else(
                || previous["monitoring"].clone(), |_| monitoring),
            "observedGeneration": generation,
            "patroni": system,
            "pgbackrest": backups.pgbackrest,
            "proxy": if bouncer.is_empty() { Value::Null } else { json!({ "pgBouncer": bouncer }) },
            "startupInstance": startup.map(|each| each.name_any()),
            "startupInstanceSet": startup.map(|each| label(each, "instance-set")),
            "usersRevision": done(|revisions| json!(revisions.1), "usersRevision"),
        }))))
    }

    /// Deletes PostgreSQL pods that do not match their template any more; their StatefulSets do not do that by themselves.
    pub(super) async fn roll_out(&self) -> anyhow::Result<()> {
        let stateful = self.labelled(Kind::STATEFUL_SET, &format!(",{CRUNCHY}data=postgres")).await?;
        for pod in self.postgres_pods().await? {
            let outdated = stateful.iter().any(|each| {
                let status = &each.data["status"];
                each.name_any() == label(&pod, "instance")
                    && status["observedGeneration"].as_i64() == each.metadata.generation
                    && pod
                        .labels()
                        .get("controller-revision-hash")
                        .is_some_and(|hash| status["updateRevision"] != hash.as_str())
            });
            if outdated && !deleting(&pod) {
                self.context.delete(Kind::POD, &self.key.namespace, &pod.name_any()).await?;
            }
        }
        Ok(())
    }
}

/// Whether `found` already has the labels and exactly the data of `wanted`, beside keys that somebody else added.
fn covers(found: &DynamicObject, wanted: &Value) -> bool {
    let same = |path: &str, held: &Value| {
        wanted.pointer(path).and_then(Value::as_object).into_iter().flatten().all(|(key, value)| held[key] == *value)
    };
    let labels = json!(found.labels());
    same("/data", &found.data["data"]) && same("/metadata/labels", &labels)
}
