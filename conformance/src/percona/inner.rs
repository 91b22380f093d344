//! The inner controller: `PostgresCluster` in, everything that a cluster is made of out.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::backup::{self, objects::has_repositories};
use super::certificates::Issuer;
use super::cluster::{Cluster, Next, deleting, label, now};
use super::context::Kind;
use super::inner_status::{Done, matches_template};
use super::names::{CRUNCHY, INNER, INNER_FINALIZER, owner};
use super::objects::{Plan, Replica, claim};
use super::status::observe;
use super::users::{self, User};
use super::volumes::refusal;
use crate::postgres::{Error, Server};

/// The first wait after a pass that failed; every further one in a row is twice as long (trace b1).
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// How long a pass waits for a PostgreSQL that has crashed and comes back.
const AWAY_RETRY: Duration = Duration::from_secs(1);
/// The characters of the random part of an instance's name.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Cluster {
    /// One pass of the inner controller.
    pub(super) async fn inner(&mut self) -> anyhow::Result<Next> {
        let (namespace, name) = (self.key.namespace.clone(), self.key.name.clone());
        self.saw_pods_run = true;
        let Some(mut inner) = self.context.get(Kind::INNER, &namespace, &name).await? else {
            return Ok(Next::Wait);
        };
        if deleting(&inner) {
            return self.tear_down(&inner).await;
        }
        if !inner.finalizers().iter().any(|each| each == INNER_FINALIZER) {
            let add = |held: &mut Vec<String>| held.push(INNER_FINALIZER.to_owned());
            let Some(changed) = self.context.finalizers(Kind::INNER, &namespace, &name, add).await? else {
                return Ok(Next::Wait);
            };
            inner = changed;
        }
        if let Some(missing) = missing_images(&inner.data["spec"]) {
            let message = format!("Missing image(s): [{}]", missing.join(" "));
            self.context.event(&inner, "Warning", "MissingRequiredImage", &message).await;
            self.missing_images += 1;
            return Ok(Next::After(back_off(self.missing_images)));
        }
        self.missing_images = 0;
        if self.backups.removal_pauses(&inner).await? {
            return self.refuse_to_go_on(&inner).await;
        }

        let changed = json!([inner.data["spec"], inner.annotations(), inner.uid()]);
        if self.applied_for != changed {
            self.applied.clear();
            self.applied_for = changed;
        }
        let instance = self.context.registry.instance(&self.key, &self.context.directory)?;
        let key = self.key.clone();
        let spec = inner.data["spec"].clone();
        let plan = Plan { key: &key, spec: &spec, owner: owner(&inner, true), place: instance.place };
        let paused = spec["shutdown"] == true;

        let context = std::sync::Arc::clone(&self.context);
        let issuer = Issuer::new(&context, &plan, &inner).await?;
        for object in plan.first() {
            self.apply(&object).await?;
        }
        issuer.replication().await?;
        let leader = self.apply(&plan.leader()).await?;
        for object in plan.roles(leader["spec"]["clusterIP"].as_str().unwrap_or_default()) {
            self.apply(&object).await?;
        }
        if instance.place.is_found_by_name() {
            self.context.hosts.set(self.host_names(), (*instance.place.listen.ip()).into())?;
        }
        issuer.cluster().await?;
        self.apply(&plan.configuration()).await?;
        let leader = instance.leader();
        let (mut kept, mut resizing) = (Vec::new(), None);
        for set in spec["instances"].as_array().into_iter().flatten() {
            for replica in self.replicas(set, leader.as_deref(), &plan.owner["uid"]).await? {
                let [config, claim, stateful] = plan.instance(&replica, set, i64::from(!paused));
                self.apply(&config).await?;
                issuer.instance(&replica).await?;
                resizing = self.claim(&inner, &claim).await?.or(resizing);
                self.apply(&stateful).await?;
                kept.push(replica.name);
            }
        }
        self.scale_down(&kept, leader.as_deref()).await?;
        for complaint in users::complaints(&spec) {
            self.context.event(&inner, "Warning", "InvalidUser", &complaint).await;
        }
        let mut users = self.user_secrets(&plan).await?;
        let schemas = inner.annotations().get(&format!("{CRUNCHY}autoCreateUserSchema"));
        for (user, _) in &mut users {
            user.schema = schemas.is_none_or(|value| value != "false");
        }
        if has_repositories(&spec) {
            resizing = self.repo_host(&inner, &plan).await?.or(resizing);
            issuer.repo_host().await?;
        }
        let replicas = if paused { 0 } else { spec["proxy"]["pgBouncer"]["replicas"].as_i64().unwrap_or(1) };
        let [service, config, deployment] = plan.pgbouncer(replicas);
        self.apply(&service).await?;
        self.apply(&config).await?;
        issuer.pgbouncer().await?;
        self.apply(&deployment).await?;

        let primary = self.has_primary().await?;
        let server = instance.server().filter(|_| primary);
        // What the databases refuse keeps nothing from the status: `ready` does not prove that a user is there
        // (`contract.md`, 1.6).
        let (done, again) = self.sql(server.as_deref(), primary, &inner, &users).await;
        let backups = self.backups.inner(&inner, done.is_some()).await?;
        let usable = primary || inner.data["status"]["usersRevision"] == users::revisions(&users).1;
        let pods = self.postgres_pods().await?;
        self.saw_pods_run = pods.first().is_none_or(|pod| pod.data["status"]["phase"] == "Running");
        let status = self.inner_status(&inner, &pods, done.as_ref(), usable, &backups, resizing.as_ref()).await?;
        if status != inner.data["status"] {
            self.context.status(Kind::INNER, &self.key, &name, &status, INNER).await?;
        }
        self.roll_out().await?;
        Ok(Next::Wait.or(backups.retry).or(again))
    }

    /// Applies a volume claim. One that cannot become another one stays as it is, with an Event and the result: the
    /// condition that says so. One that cannot be made ends the pass: its pod, which would wait for it, is not made either.
    async fn claim(&mut self, inner: &DynamicObject, claim: &Value) -> anyhow::Result<Option<[&'static str; 4]>> {
        let Err(error) = self.apply(claim).await else { return Ok(None) };
        let Some(refusal) = error.downcast_ref::<kube::Error>().and_then(refusal) else { return Err(error) };
        self.context.event(inner, "Warning", "PersistentVolumeError", &refusal.message).await;
        let name = claim["metadata"]["name"].as_str().unwrap_or_default();
        let known = self.context.get(Kind::CLAIM, &self.key.namespace, name).await?.is_some();
        if known { Ok(refusal.condition) } else { Err(error) }
    }

    /// What was done in the databases; or when it is tried again, if they refused or are away.
    async fn sql(
        &mut self,
        server: Option<&Server>,
        primary: bool,
        inner: &DynamicObject,
        users: &[(User, String)],
    ) -> (Option<Done>, Option<Duration>) {
        let Some(server) = server else {
            if primary {
                // PostgreSQL under a running Patroni is back in a moment. The real operator's command in its container
                // fails, and is tried again.
                return (None, Some(AWAY_RETRY));
            }
            self.refused = 0;
            return (None, None);
        };
        match sql(server, inner, users).await {
            Ok(done) => {
                self.refused = 0;
                (Some(done), None)
            }
            Err(error) => {
                tracing::debug!(cluster = %self.key, %error, "the databases refuse what the users need, trying again");
                self.refused += 1;
                (None, Some(back_off(self.refused)))
            }
        }
    }

    /// What pgBackRest's repository host is made of. The result is that of [`Cluster::claim`].
    async fn repo_host(&mut self, inner: &DynamicObject, plan: &Plan<'_>) -> anyhow::Result<Option<[&'static str; 4]>> {
        let mut resizing = None;
        let name = plan.key.named("repo-host");
        let known = self.context.get(Kind::STATEFUL_SET, &plan.key.namespace, &name).await?.is_some();
        for object in backup::objects::repo_host(plan.key, plan.spec, &plan.owner) {
            if object["kind"] == "PersistentVolumeClaim" {
                resizing = self.claim(inner, &object).await?.or(resizing);
            } else {
                self.apply(&object).await?;
            }
        }
        if !known {
            let message = backup::objects::repo_host_created(plan.key);
            self.context.event(inner, "Normal", "RepoHostCreated", &message).await;
        }
        Ok(resizing)
    }

    /// Says why nothing is done any more, and does nothing.
    async fn refuse_to_go_on(&self, inner: &DynamicObject) -> anyhow::Result<Next> {
        let mut status = inner.data["status"].clone();
        let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        observe(&mut conditions, inner.metadata.generation.unwrap_or_default(), backup::PAUSED, &now());
        status["conditions"] = json!(conditions);
        if status != inner.data["status"] {
            self.context.status(Kind::INNER, &self.key, &self.key.name, &status, INNER).await?;
        }
        Ok(Next::Wait)
    }

    /// Applies an object unless that was done already; the result is the object as it is in the cluster.
    async fn apply(&mut self, object: &Value) -> anyhow::Result<Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
        if let Some([wanted, applied]) = self.applied.get(&name).and_then(Value::as_array).map(Vec::as_slice)
            && wanted == object
        {
            return Ok(applied.clone());
        }
        let applied = serde_json::to_value(self.context.apply(object).await?)?;
        self.applied.insert(name, json!([object, applied]));
        Ok(applied)
    }

    /// The instances of a set: those whose volumes are there keep their names, also after the cluster was made anew.
    /// First comes the one with the `leader`'s volume claim, or before there is a leader those with data, so that these
    /// stay when there are to be fewer. `owner` is the uid of the inner object: a former one's StatefulSets are about to go.
    async fn replicas(&self, set: &Value, leader: Option<&str>, owner: &Value) -> anyhow::Result<Vec<Replica>> {
        let former = |object: &DynamicObject| object.owner_references().iter().all(|each| *owner != each.uid.as_str());
        let set_name = set["name"].as_str().unwrap_or_default();
        let wanted = usize::try_from(set["replicas"].as_i64().unwrap_or(1)).unwrap_or(1);
        let mut names: Vec<String> = Vec::new();
        for kind in [Kind::STATEFUL_SET, Kind::CLAIM] {
            for object in self.labelled(kind, &format!(",{CRUNCHY}instance-set={set_name}")).await? {
                let name = label(&object, "instance");
                let goes = deleting(&object) || (kind == Kind::STATEFUL_SET && former(&object));
                if !names.contains(&name) && !goes {
                    names.push(name);
                }
            }
        }
        names.sort_by_key(|name| match leader {
            Some(leader) => claim(name) != leader,
            None => !self.context.has_data(&self.key.namespace, &claim(name)),
        });
        while names.len() < wanted {
            let random: String =
                (0..4).filter_map(|_| SAFE.choose(&mut rand::rng())).map(|byte| char::from(*byte)).collect();
            names.push(format!("{}-{set_name}-{random}", self.key.name));
        }
        Ok(names.into_iter().take(wanted).map(|name| Replica { set: set_name.to_owned(), name }).collect())
    }

    /// Removes the instances that are not `kept`, but never the leader. Volumes and certificates have no owner and
    /// stay.
    async fn scale_down(&self, kept: &[String], leader: Option<&str>) -> anyhow::Result<()> {
        for stateful in self.labelled(Kind::STATEFUL_SET, &format!(",{CRUNCHY}data=postgres")).await? {
            let name = stateful.name_any();
            if !kept.contains(&name) && leader != Some(claim(&name).as_str()) && !deleting(&stateful) {
                self.context.delete(Kind::STATEFUL_SET, &self.key.namespace, &name).await?;
                self.context.delete(Kind::CONFIG_MAP, &self.key.namespace, &format!("{name}-config")).await?;
            }
        }
        Ok(())
    }

    /// Whether there is a pod with which the operator can work in the databases.
    async fn has_primary(&self) -> kube::Result<bool> {
        Ok(self
            .postgres_pods()
            .await?
            .into_iter()
            .any(|pod| label(&pod, "role") == "primary" && pod.data["status"]["phase"] == "Running" && !deleting(&pod)))
    }

    /// Deletes PostgreSQL pods that do not match their template any more; their StatefulSets do not do that by themselves.
    async fn roll_out(&self) -> anyhow::Result<()> {
        let stateful = self.labelled(Kind::STATEFUL_SET, &format!(",{CRUNCHY}data=postgres")).await?;
        // A StatefulSet whose controller has not looked yet does not know what it wants.
        let current =
            |each: &&DynamicObject| each.data["status"]["observedGeneration"].as_i64() == each.metadata.generation;
        let looked: Vec<DynamicObject> = stateful.iter().filter(current).cloned().collect();
        for pod in self.postgres_pods().await? {
            let known = looked.iter().any(|each| each.name_any() == label(&pod, "instance"));
            if known && !matches_template(&pod, &looked) && !deleting(&pod) {
                self.context.delete_pod(&pod, None).await?;
            }
        }
        Ok(())
    }

    /// The inner object goes: its instances are stopped first, Patroni's Endpoints removed, then nothing holds it.
    pub(super) async fn tear_down(&mut self, inner: &DynamicObject) -> anyhow::Result<Next> {
        for stateful in self.labelled(Kind::STATEFUL_SET, &format!(",{CRUNCHY}data=postgres")).await? {
            if stateful.data["spec"]["replicas"] != 0 {
                let patch = json!({ "spec": { "replicas": 0 } });
                let name = stateful.name_any();
                self.context.merge(Kind::STATEFUL_SET, &self.key.namespace, &name, patch).await?;
            }
        }
        if !self.postgres_pods().await?.is_empty() {
            return Ok(Next::Wait);
        }
        // Whoever has the server first leads the next cluster of this name, be it made before this one is forgotten. A
        // server that still runs is that of a pod that was deleted without grace: it is stopped by its task.
        if let Some(instance) = self.context.registry.get(&self.key).filter(|instance| instance.server().is_none())
            && let Some(leader) = instance.leader()
        {
            instance.resign(&leader);
        }
        for suffix in ["ha", "ha-config"] {
            self.context.delete(Kind::ENDPOINTS, &self.key.namespace, &self.key.named(suffix)).await?;
        }
        let remove = |held: &mut Vec<String>| held.retain(|each| each != INNER_FINALIZER);
        self.context.finalizers(Kind::INNER, &self.key.namespace, &inner.name_any(), remove).await?;
        Ok(Next::Wait)
    }
}

/// How long to wait after so many failures in a row.
fn back_off(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(17))
}

/// Databases, roles and passwords, when something about them has changed.
async fn sql(server: &Server, inner: &DynamicObject, users: &[(User, String)]) -> Result<Done, Error> {
    let (databases, roles) = users::revisions(users);
    let status = &inner.data["status"];
    if status["databaseRevision"] != databases || status["usersRevision"] != roles {
        users::apply(server, users).await?;
    }
    let mut system = status["patroni"]["systemIdentifier"].as_str().map(str::to_owned);
    if system.is_none() {
        system = server.system_identifier().await?;
    }
    Ok(Done { databases, users: roles, system })
}

/// The images that are not set, by the names that the inner controller gives them; `None` when all are there.
fn missing_images(spec: &Value) -> Option<Vec<&'static str>> {
    let absent = |value: &Value| value.as_str().unwrap_or_default().is_empty();
    let backups = has_repositories(spec);
    let missing: Vec<&str> = [
        ("crunchy-pgbackrest", backups && absent(&spec["backups"]["pgbackrest"]["image"])),
        ("crunchy-pgbouncer", absent(&spec["proxy"]["pgBouncer"]["image"])),
        ("crunchy-postgres", absent(&spec["image"])),
    ]
    .into_iter()
    .filter_map(|(name, missing)| missing.then_some(name))
    .collect();
    (!missing.is_empty()).then_some(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_up_to_eleven_minutes() {
        assert_eq!([1, 2, 3].map(|failures| back_off(failures).as_millis()), [5, 10, 20]);
        assert_eq!(back_off(18), back_off(100));
    }

    #[test]
    fn missing_images_are_named_as_in_trace_b1() {
        let none = json!({});
        assert_eq!(missing_images(&none).unwrap(), ["crunchy-pgbouncer", "crunchy-postgres"]);
        let backups = json!({ "image": "i", "proxy": { "pgBouncer": { "image": "i" } },
            "backups": { "pgbackrest": { "repos": [{ "name": "repo1" }] } } });
        assert_eq!(missing_images(&backups).unwrap(), ["crunchy-pgbackrest"]);
        let all = json!({ "image": "i", "proxy": { "pgBouncer": { "image": "i" } } });
        assert_eq!(missing_images(&all), None);
    }
}
