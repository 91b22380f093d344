//! The outer controller's part: `PerconaPGBackup`s.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::super::context::{Kind, ignore_absent};
use super::super::names::{CLUSTER_LABEL, OUTER, owner};
use super::flow::{Facts, InProgress, Job, Step, step};
use super::inner::Backups;
use super::objects::{
    BACKUP, BACKUP_JOB_TYPE, BACKUP_NAME, DELETE_BACKUP, IN_PROGRESS, JOB_NAME, JOB_TYPE, KEEP_JOB, MANUAL, Origin,
    REPLICA_CREATE, annotation, has_repositories, percona_backup, repositories, started,
};
use super::storage::Storage;
use super::{Backup, Failure, restore};

/// What follows a step.
enum Then {
    /// Another one.
    Again,
    /// Nothing in this pass; another pass at the latest after this time.
    Rest(Option<Duration>),
}

impl Backups {
    /// One pass over the cluster's backups. The result is when another one is due, whatever happens.
    pub async fn outer(&mut self, cluster: &DynamicObject) -> anyhow::Result<Option<Duration>> {
        let spec = &cluster.data["spec"];
        let enabled = spec["backups"]["enabled"] != false && has_repositories(spec);
        let context = std::sync::Arc::clone(&self.context);
        self.schedules.keep(&context, &self.key, if enabled { spec } else { &Value::Null });

        let jobs = self.context.list(Kind::JOB, &self.key.namespace, BACKUP).await?;
        restore::report(&self.context, &self.key, cluster).await?;
        let mut backups = self.backups().await?;
        backups.extend(self.adopt(&jobs, &backups).await?);
        let mut due: Option<Duration> = None;
        for backup in &backups {
            let job = jobs.iter().find(|job| is_job_of(job, backup));
            if let Some(wait) = self.advance(enabled, &backup.name_any(), job).await? {
                due = Some(due.map_or(wait, |due| due.min(wait)));
            }
        }
        if enabled && usable(spec) && cluster.data["status"]["state"] == "ready" {
            self.keep_current(cluster, &backups).await?;
        }
        Ok(due)
    }

    /// Removes all backups: the finalizer `percona.com/delete-backups`.
    ///
    /// # Errors
    /// There is no PostgreSQL, or pgBackRest fails: the cluster then stays, as it does in reality.
    pub async fn delete_all(&self, cluster: &DynamicObject) -> anyhow::Result<()> {
        let server = self.context.registry.get(&self.key).and_then(|instance| instance.server());
        anyhow::ensure!(server.is_some(), "delete backups of {}: no pods found", self.key);
        let spec = &cluster.data["spec"];
        if usable(spec) {
            for repo in repositories(spec) {
                // A cluster without repositories has no pgBackRest either.
                self.repository()?.stanza_delete(repo["name"].as_str().unwrap_or_default()).await?;
            }
        } else {
            tracing::warn!(cluster = %self.key, "pgBackRest is not run, and removes no backups");
        }
        for backup in self.backups().await? {
            self.let_go(&backup).await?;
            self.context.delete(Kind::BACKUP, &self.key.namespace, &backup.name_any()).await?;
        }
        Ok(())
    }

    /// The cluster is gone: lets those of its backups go that are to be deleted, which nobody else does any more.
    pub async fn without_cluster(&mut self) -> kube::Result<()> {
        self.schedules.clear();
        for backup in self.backups().await? {
            if backup.metadata.deletion_timestamp.is_some() {
                self.let_go(&backup).await?;
            }
        }
        Ok(())
    }

    async fn backups(&self) -> kube::Result<Vec<DynamicObject>> {
        let mut backups = self.context.list(Kind::BACKUP, &self.key.namespace, "").await?;
        backups.retain(|backup| backup.data["spec"]["pgCluster"] == self.key.name.as_str());
        Ok(backups)
    }

    /// Makes a `PerconaPGBackup` for every first backup that has none.
    async fn adopt(&self, jobs: &[DynamicObject], known: &[DynamicObject]) -> kube::Result<Vec<DynamicObject>> {
        let mut made = Vec::new();
        for job in jobs {
            let label = |name: &str| job.labels().get(name).map(String::as_str);
            let name = job.name_any();
            let first = label(CLUSTER_LABEL) == Some(&self.key.name) && label(BACKUP) == Some(REPLICA_CREATE);
            if first && !known.iter().any(|backup| backup.annotations().get(JOB_NAME) == Some(&name)) {
                let repo = label("postgres-operator.crunchydata.com/pgbackrest-repo").unwrap_or_default();
                made.push(self.context.create(percona_backup(&self.key, repo, &Origin::Job(&name))).await?);
            }
        }
        Ok(made)
    }

    /// Takes steps with a backup until there is something to wait for; the result is how long at most. Each step looks
    /// at the cluster and the backup as they are then: the one before may have changed them, also that of another
    /// backup.
    async fn advance(
        &self,
        enabled: bool,
        name: &str,
        job: Option<&DynamicObject>,
    ) -> anyhow::Result<Option<Duration>> {
        loop {
            let cluster = self.context.get(Kind::CLUSTER, &self.key.namespace, &self.key.name).await?;
            let backup = self.context.get(Kind::BACKUP, &self.key.namespace, name).await?;
            let (Some(cluster), Some(backup)) = (cluster, backup) else { return Ok(None) };
            if let Then::Rest(wait) = self.step(&cluster, enabled, &backup, job).await? {
                return Ok(wait);
            }
        }
    }

    /// Takes the next step with a backup.
    async fn step(
        &self,
        cluster: &DynamicObject,
        enabled: bool,
        backup: &DynamicObject,
        job: Option<&DynamicObject>,
    ) -> anyhow::Result<Then> {
        let name = backup.name_any();
        let facts = facts(cluster, enabled, backup, job);
        let status = |change: Value| {
            let mut status = backup.data["status"].as_object().cloned().unwrap_or_default();
            status.extend(change.as_object().cloned().unwrap_or_default());
            Value::Object(status)
        };
        match step(&facts) {
            Step::Wait => {
                if facts.state == "Succeeded"
                    && let Some(job) = job
                {
                    self.without_finalizer(Kind::JOB, job, KEEP_JOB).await?;
                }
                return Ok(Then::Rest(None));
            }
            Step::WaitFor(wait) => return Ok(Then::Rest(Some(wait))),
            Step::Refuse => {
                let error = "Backups are not enabled in the PerconaPGCluster configuration";
                self.report(&name, &status(json!({ "state": "Failed", "error": error }))).await?;
            }
            Step::Hold => {
                let add = |held: &mut Vec<String>| held.push(DELETE_BACKUP.to_owned());
                self.context.finalizers(Kind::BACKUP, &self.key.namespace, &name, add).await?;
            }
            Step::Start => {
                let repo = backup.data["spec"]["repoName"].as_str().unwrap_or_default();
                if facts.manual {
                    self.request(backup, repo).await?;
                }
                self.report(&name, &status(started(&cluster.data["spec"], repo))).await?;
            }
            Step::Run => {
                let Some(job) = job else { return Ok(Then::Rest(None)) };
                let sort = if facts.manual { MANUAL } else { REPLICA_CREATE };
                let patch = json!({ "metadata": { "annotations": { JOB_TYPE: sort } } });
                ignore_absent(self.context.merge(Kind::BACKUP, &self.key.namespace, &name, patch).await)?;
                let patch = json!({ "metadata": { "ownerReferences": [owner(backup, true)] } });
                ignore_absent(self.context.merge(Kind::JOB, &self.key.namespace, &job.name_any(), patch).await)?;
                self.report(&name, &status(json!({ "state": "Running", "jobName": job.name_any() }))).await?;
            }
            Step::Name => {
                let Some(made) = self.find(&name, facts.manual).await? else {
                    return Ok(Then::Rest(Some(RETRY)));
                };
                self.report(&name, &status(json!({ "backupName": made.label, "backupType": made.kind }))).await?;
            }
            Step::Fail => self.report(&name, &status(json!({ "state": "Failed" }))).await?,
            Step::Withdraw => self.annotate(json!({ BACKUP: null })).await?,
            Step::Release => self.annotate(json!({ IN_PROGRESS: null })).await?,
            Step::LetGo => self.let_go(backup).await?,
            Step::Finish => {
                let completed = job.map(|job| job.data["status"]["completionTime"].clone()).unwrap_or_default();
                self.report(&name, &status(json!({ "state": "Succeeded", "completed": completed }))).await?;
            }
        }
        Ok(Then::Again)
    }

    async fn report(&self, name: &str, status: &Value) -> kube::Result<()> {
        self.context.status(Kind::BACKUP, &self.key, name, status, OUTER).await
    }

    async fn annotate(&self, annotations: Value) -> kube::Result<()> {
        let patch = json!({ "metadata": { "annotations": annotations } });
        ignore_absent(self.context.merge(Kind::CLUSTER, &self.key.namespace, &self.key.name, patch).await).map(drop)
    }

    /// Asks the inner controller for a backup, by changing the user's own object.
    async fn request(&self, backup: &DynamicObject, repo: &str) -> kube::Result<()> {
        let name = backup.name_any();
        let mut options = backup.data["spec"]["options"].as_array().cloned().unwrap_or_default();
        options.push(json!(annotation(BACKUP_NAME, &name)));
        let patch = json!({
            "metadata": { "annotations": { BACKUP: name, IN_PROGRESS: name } },
            "spec": { "backups": { "pgbackrest": { "manual": { "repoName": repo, "options": options } } } },
        });
        ignore_absent(self.context.merge(Kind::CLUSTER, &self.key.namespace, &self.key.name, patch).await).map(drop)
    }

    /// Nothing holds a backup any more. Its Job keeps the finalizer that only success takes away (Percona 2.8.2, controller of
    /// `PerconaPGBackup`), so that the Job of a backup that never succeeded stays for ever once it is deleted.
    async fn let_go(&self, backup: &DynamicObject) -> kube::Result<()> {
        self.without_finalizer(Kind::BACKUP, backup, DELETE_BACKUP).await
    }

    async fn without_finalizer(&self, kind: Kind, object: &DynamicObject, finalizer: &str) -> kube::Result<()> {
        if !object.finalizers().iter().any(|each| each == finalizer) {
            return Ok(());
        }
        let remove = |held: &mut Vec<String>| held.retain(|each| each != finalizer);
        self.context.finalizers(kind, &self.key.namespace, &object.name_any(), remove).await.map(drop)
    }

    /// What pgBackRest has made for a backup.
    async fn find(&self, name: &str, manual: bool) -> Result<Option<Backup>, Failure> {
        let (key, value) = if manual { (BACKUP_NAME, name) } else { (BACKUP_JOB_TYPE, REPLICA_CREATE) };
        let made = self.repository()?.info().await?.map(|stanza| stanza.backup).unwrap_or_default();
        Ok(made.into_iter().rev().find(|backup| backup.annotation.get(key).is_some_and(|held| held == value)))
    }

    /// Deletes backups that pgBackRest has expired, and says of the newest one up to when it can be restored.
    async fn keep_current(&self, cluster: &DynamicObject, backups: &[DynamicObject]) -> anyhow::Result<()> {
        let mut done: Vec<&DynamicObject> =
            backups.iter().filter(|backup| backup.data["status"]["state"] == "Succeeded").collect();
        done.sort_by_key(|backup| backup.data["status"]["completed"].as_str().unwrap_or_default().to_owned());
        let Some(newest) = done.pop() else { return Ok(()) };
        if !done.is_empty() {
            let kept = self.repository()?.info().await?.map(|stanza| stanza.backup).unwrap_or_default();
            for old in done {
                if !kept.iter().any(|kept| old.data["status"]["backupName"] == kept.label.as_str()) {
                    self.context.delete(Kind::BACKUP, &self.key.namespace, &old.name_any()).await?;
                }
            }
        }
        if cluster.data["spec"]["backups"]["trackLatestRestorableTime"] == false {
            return Ok(());
        }
        let Some(server) = self.context.registry.get(&self.key).and_then(|instance| instance.server()) else {
            return Ok(());
        };
        let postgres = server.superuser("postgres").await?;
        if let Some(time) = postgres.value(LATEST_RESTORABLE).await?
            && newest.data["status"]["latestRestorableTime"] != time.as_str()
        {
            let mut status = newest.data["status"].clone();
            status["latestRestorableTime"] = json!(time);
            self.report(&newest.name_any(), &status).await?;
        }
        Ok(())
    }
}

/// How long a backup that pgBackRest does not show yet is waited for.
const RETRY: Duration = Duration::from_secs(1);

/// Percona takes the time of the last commit in the archived WAL. The time at which that was archived is close to it, and
/// PostgreSQL knows it without reading WAL. Empty while nothing was archived.
const LATEST_RESTORABLE: &str = "select to_char(last_archived_time at time zone 'UTC', \
    'YYYY-MM-DD HH24:MI:SS.US') || '+0000' from pg_stat_archiver";

/// How far a Job is.
pub(super) fn job_state(job: &DynamicObject) -> Job {
    let conditions = job.data["status"]["conditions"].as_array();
    let holds =
        |kind: &str| conditions.into_iter().flatten().any(|each| each["type"] == kind && each["status"] == "True");
    if holds("Complete") {
        Job::Complete
    } else if holds("Failed") {
        Job::Failed
    } else {
        Job::Active
    }
}

/// Whether a Job works for a backup.
fn is_job_of(job: &DynamicObject, backup: &DynamicObject) -> bool {
    match backup.annotations().get(JOB_NAME) {
        Some(name) => *name == job.name_any(),
        None => job.annotations().get(BACKUP) == Some(&backup.name_any()),
    }
}

fn facts(cluster: &DynamicObject, enabled: bool, backup: &DynamicObject, job: Option<&DynamicObject>) -> Facts {
    let name = backup.name_any();
    let status = &backup.data["status"];
    let cluster_status = &cluster.data["status"];
    let ready =
        cluster_status["conditions"].as_array().into_iter().flatten().find(|each| each["type"] == "ReadyForBackup");
    let since = |condition: &Value| condition["lastTransitionTime"].as_str()?.parse::<Timestamp>().ok();
    let unready = ready
        .filter(|condition| condition["status"] == "False")
        .and_then(since)
        .map(|since| Timestamp::now().duration_since(since).try_into().unwrap_or_default());
    Facts {
        state: status["state"].as_str().unwrap_or_default().to_owned(),
        deleting: backup.metadata.deletion_timestamp.is_some(),
        held: backup.finalizers().iter().any(|each| each == DELETE_BACKUP),
        manual: !backup.annotations().contains_key(JOB_NAME),
        named: status["backupName"].is_string(),
        enabled,
        unready,
        in_progress: match cluster.annotations().get(IN_PROGRESS) {
            None => InProgress::None,
            Some(other) if *other == name => InProgress::This,
            Some(_) => InProgress::Other,
        },
        requested: cluster.annotations().get(BACKUP) == Some(&name),
        noted: cluster_status["pgbackrest"]["manualBackup"]["id"] == name.as_str(),
        job: job.map_or(Job::Absent, job_state),
    }
}

/// Whether the double can reach all repositories: pgBackRest is run with all of them or not at all.
fn usable(spec: &Value) -> bool {
    repositories(spec).all(|repo| Storage::of(repo).is_usable())
}
