//! The inner controller's part: stanza, first backup, manual backups.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::context::{Context, Kind, ignore_absent};
use super::super::names::{CLUSTER_LABEL, CRUNCHY, Key};
use super::config::Config;
use super::flow::{Job, bind, conditions, repos};
use super::objects::{self, BACKUP, MANUAL, REPLICA_CREATE, REPO_HASH, has_repositories};
use super::outer::job_state;
use super::schedule::Schedules;
use super::storage::{Storage, repo_hash};
use super::{Failure, Repository, bounds, volume};

/// How long the operator waits before it tries again to make a stanza.
const STANZA_RETRY: Duration = Duration::from_secs(10);
/// How often it is looked whether credentials have changed while there is no stanza. A kubelet takes a minute or more to
/// bring a volume up to date.
const REFRESH: Duration = Duration::from_secs(1);
/// The annotation by which a user agrees that the backups of a cluster are given up.
const AUTHORIZE: &str = "authorizeBackupRemoval";

/// The condition of a `PostgresCluster` whose backups were taken away without leave: type, status, reason, message.
pub const PAUSED: [&str; 4] = [
    "Progressing",
    "False",
    "Paused",
    "Reconciliation is paused: please fill in spec.backups or add the \
     postgres-operator.crunchydata.com/authorizeBackupRemoval annotation to authorize backup removal.",
];

/// What the operator's process remembers about the backups of one cluster.
pub struct Backups {
    pub(super) context: Arc<Context>,
    pub(super) key: Key,
    pub(super) schedules: Schedules,
    /// What pgBackRest was told last.
    configured: Option<(Config, PathBuf)>,
    /// When it was last tried to make the stanza with that.
    attempted: Option<Instant>,
}

/// What a pass of the inner controller found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// `status.pgbackrest` of the `PostgresCluster`.
    pub pgbackrest: Value,
    /// Type, status, reason and message of its conditions; none when there are no backups.
    pub conditions: Vec<[&'static str; 4]>,
    /// When another pass is due, whatever happens.
    pub retry: Option<Duration>,
}

impl Backups {
    /// The backups of a cluster of which nothing is known yet.
    pub fn new(context: Arc<Context>, key: Key) -> Self {
        Self { context, key, schedules: Schedules::default(), configured: None, attempted: None }
    }

    /// Whether the inner controller does nothing at all, because backups were taken away from a cluster that had them.
    pub async fn removal_pauses(&self, inner: &DynamicObject) -> kube::Result<bool> {
        let authorized = inner.annotations().get(&format!("{CRUNCHY}{AUTHORIZE}")).is_some_and(|value| value == "true");
        Ok(!authorized && !has_repositories(&inner.data["spec"]) && self.repo_host().await?.is_some())
    }

    /// One pass, after the repository host's objects were applied. `primary`: whether PostgreSQL runs and leads.
    pub async fn inner(&mut self, inner: &DynamicObject, primary: bool) -> anyhow::Result<Outcome> {
        let spec = &inner.data["spec"];
        if !has_repositories(spec) {
            self.remove().await?;
            return Ok(Outcome { pgbackrest: json!({}), conditions: Vec::new(), retry: None });
        }
        let host = self.repo_host().await?;
        let host_ready = host.is_some_and(|host| {
            let ready = host.data["status"]["readyReplicas"].as_i64().unwrap_or_default();
            ready > 0 && Some(ready) == host.data["spec"]["replicas"].as_i64()
        });
        let mut repos = repos(spec, &inner.data["status"]);
        self.bind(spec, &mut repos).await?;
        let configured = self.configure(spec).await;
        let mut retry = self.failed_at("pgBackRest cannot be configured", configured.err());
        if host_ready && primary {
            let has_all = repos.iter().all(|repo| repo["stanzaCreated"] == true);
            if !has_all {
                retry = self.stanza(inner, &mut repos).await?.or(retry);
            }
            if repos.iter().all(|repo| repo["stanzaCreated"] == true) {
                let first = self.first_backup(spec, &mut repos).await;
                retry = retry.or(self.failed_at("the first backup cannot be begun", first.err()));
            }
        }
        let conditions = conditions(host_ready, &repos);
        let complete = conditions.iter().all(|condition| condition[1] == "True");
        let mut pgbackrest = json!({
            "repoHost": { "apiVersion": "apps/v1", "kind": "StatefulSet", "ready": host_ready }, "repos": repos,
        });
        match self.manual_backup(inner, complete).await {
            Ok(Some(manual)) => pgbackrest["manualBackup"] = manual,
            Ok(None) => {}
            Err(error) => retry = retry.or(self.failed_at("a manual backup cannot be begun", Some(error))),
        }
        Ok(Outcome { pgbackrest, conditions: conditions.to_vec(), retry })
    }

    /// Notes what the claims of the repositories on volumes say.
    async fn bind(&self, spec: &Value, repos: &mut [Value]) -> kube::Result<()> {
        for (repo, wanted) in repos.iter_mut().zip(objects::repositories(spec)) {
            if Storage::of(wanted) == Storage::Volume {
                let name = self.key.named(wanted["name"].as_str().unwrap_or_default());
                if let Some(claim) = self.context.get(Kind::CLAIM, &self.key.namespace, &name).await? {
                    bind(repo, &claim.data);
                }
            }
        }
        Ok(())
    }

    /// When it is tried again to do what failed, if it did. Percona logs such an error and goes on with its pass, so that a quota
    /// on Jobs leaves the status of the stanza alone (`reconcilePGBackRest`).
    fn failed_at(&self, what: &str, error: Option<anyhow::Error>) -> Option<Duration> {
        let error = error?;
        tracing::warn!(error = format!("{error:#}"), cluster = %self.key.name, "{what}");
        Some(REFRESH)
    }

    async fn repo_host(&self) -> kube::Result<Option<DynamicObject>> {
        self.context.get(Kind::STATEFUL_SET, &self.key.namespace, &self.key.named("repo-host")).await
    }

    /// Tries to make the stanza. The result is how long to wait before the next try; `None` when there is one now.
    async fn stanza(&mut self, inner: &DynamicObject, repos: &mut [Value]) -> anyhow::Result<Option<Duration>> {
        if self.attempted.is_some_and(|attempted| attempted.elapsed() < STANZA_RETRY) {
            return Ok(Some(REFRESH));
        }
        let result = match self.repository() {
            Ok(repository) => repository.stanza_create().await,
            Err(failure) => Err(failure),
        };
        self.attempted = Some(Instant::now());
        match result {
            Ok(()) => {
                let message = "pgBackRest stanza creation completed successfully";
                self.context.event(inner, "Normal", "StanzasCreated", message).await;
                for repo in repos {
                    repo["stanzaCreated"] = json!(true);
                }
                Ok(None)
            }
            Err(failure) => {
                self.context.event(inner, "Warning", "UnableToCreateStanzas", &failure.to_string()).await;
                Ok(Some(REFRESH))
            }
        }
    }

    /// Tells pgBackRest what the cluster and its Secrets say now.
    async fn configure(&mut self, spec: &Value) -> anyhow::Result<()> {
        let Ok(repository) = self.repository() else { return Ok(()) };
        let Some(config) = volume::config(&self.context, &self.key, spec).await? else { return Ok(()) };
        // After a volume is gone, its successor has another directory, or the same one that is not there yet.
        let wanted = (config, repository.data().to_owned());
        let config = &wanted.0;
        let refusal = bounds::refusal(config);
        let made = refusal.is_some() || config.volumes.values().all(|directory| directory.is_dir());
        if self.configured.as_ref() != Some(&wanted) || !made {
            if let Some(reason) = refusal {
                tracing::warn!(cluster = %self.key, reason, "the double does not run pgBackRest");
            }
            repository.configure(config)?;
            (self.configured, self.attempted) = (Some(wanted), None);
        }
        Ok(())
    }

    /// The cluster's pgBackRest.
    pub(super) fn repository(&self) -> Result<Repository, Failure> {
        repository(&self.context, &self.key)
    }

    /// The first backup, by a Job that is made anew when it has failed.
    async fn first_backup(&self, spec: &Value, repos: &mut [Value]) -> anyhow::Result<()> {
        let Some(repo) = repos.first_mut().filter(|repo| repo["replicaCreateBackupComplete"] != true) else {
            return Ok(());
        };
        let wanted = repo_hash(&spec["backups"]["pgbackrest"]["repos"][0]);
        let jobs = self.jobs(REPLICA_CREATE).await?.into_iter();
        let (mine, former): (Vec<_>, Vec<_>) =
            jobs.partition(|job| job.annotations().get(REPO_HASH).is_some_and(|hash| *hash == wanted));
        match mine.first().map(|job| (job, job_state(job))) {
            // pgBackRest makes one backup at a time, also one into a repository that this was before.
            None if former.iter().any(|job| job_state(job) == Job::Active) => {}
            None => {
                let name = repo["name"].as_str().unwrap_or_default();
                self.context.create(objects::job(&self.key, spec, name, &[], None)).await?;
            }
            Some((job, Job::Failed)) => {
                self.context.delete(Kind::JOB, &self.key.namespace, &job.name_any()).await?;
            }
            Some((_, Job::Complete)) => repo["replicaCreateBackupComplete"] = json!(true),
            Some((_, Job::Active | Job::Absent)) => {}
        }
        Ok(())
    }

    /// The backup that the annotation asks for: its `status.pgbackrest.manualBackup`, and once the cluster is `complete`, its
    /// Job.
    async fn manual_backup(&self, inner: &DynamicObject, complete: bool) -> anyhow::Result<Option<Value>> {
        let jobs = self.jobs(MANUAL).await?;
        let spec = &inner.data["spec"];
        let manual = &spec["backups"]["pgbackrest"]["manual"];
        let asked = inner.annotations().get(BACKUP).filter(|_| manual.is_object());
        for job in &jobs {
            // A finished Job that nobody asks for any more is let out of the cluster, so that it is not deleted with it.
            if job.annotations().get(BACKUP) != asked && job_state(job) != Job::Active {
                let labels = json!({ CLUSTER_LABEL: null, format!("{CRUNCHY}pgbackrest"): null });
                let patch = json!({ "metadata": { "labels": labels } });
                ignore_absent(self.context.merge(Kind::JOB, &self.key.namespace, &job.name_any(), patch).await)?;
            }
        }
        let Some(name) = asked else { return Ok(None) };
        let job = jobs.iter().find(|job| job.annotations().get(BACKUP) == Some(name));
        let state = job.map_or(Job::Absent, job_state);
        if state == Job::Absent && complete {
            let options: Vec<String> = manual["options"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|option| option.as_str().map(str::to_owned))
                .collect();
            let repo = manual["repoName"].as_str().unwrap_or_default();
            self.context.create(objects::job(&self.key, spec, repo, &options, Some(name))).await?;
        }
        Ok(Some(json!({ "id": name, "finished": matches!(state, Job::Complete | Job::Failed) })))
    }

    async fn jobs(&self, sort: &str) -> kube::Result<Vec<DynamicObject>> {
        let selector = format!("{CLUSTER_LABEL}={},{BACKUP}={sort}", self.key.name);
        let mut jobs = self.context.list(Kind::JOB, &self.key.namespace, &selector).await?;
        jobs.retain(|job| job.metadata.deletion_timestamp.is_none());
        Ok(jobs)
    }

    /// Removes what belongs to backups; manual Jobs, `PerconaPGBackup`s and the bucket stay.
    async fn remove(&mut self) -> anyhow::Result<()> {
        let (namespace, last) = (&self.key.namespace, self.key.named("pgbackrest-config"));
        if self.context.get(Kind::CONFIG_MAP, namespace, &last).await?.is_none() {
            return Ok(());
        }
        self.context.delete(Kind::STATEFUL_SET, namespace, &self.key.named("repo-host")).await?;
        for job in self.jobs(REPLICA_CREATE).await? {
            self.context.delete(Kind::JOB, namespace, &job.name_any()).await?;
        }
        for kind in [Kind::ROLE_BINDING, Kind::ROLE, Kind::SERVICE_ACCOUNT] {
            self.context.delete(kind, namespace, &self.key.named("pgbackrest")).await?;
        }
        self.context.delete(Kind::CONFIG_MAP, namespace, &last).await?;
        (self.configured, self.attempted) = (None, None);
        Ok(())
    }
}

/// The cluster's pgBackRest; a failure that says why there is none.
pub(super) fn repository(context: &Context, key: &Key) -> Result<Repository, Failure> {
    let instance = context.registry.get(key).and_then(|instance| instance.repository());
    instance.ok_or_else(|| Failure { code: 127, output: "pgbackrest: not found".to_owned() })
}
