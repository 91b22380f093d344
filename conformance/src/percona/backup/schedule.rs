//! Schedules: in the operator's memory, not as `CronJob`s (`contract.md`, 3.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::super::context::{Context, Kind};
use super::super::names::Key;
use super::cron::{self, Schedule};
use super::objects::{Origin, percona_backup, repositories};

/// The fields of `repos[].schedules`, and what pgBackRest calls their backups. Percona's field is `incremental`; `incr` is
/// none, and the API server drops it.
const SORTS: [(&str, &str); 3] = [("full", "full"), ("differential", "diff"), ("incremental", "incr")];

/// The schedules of one cluster that are kept at present. Dropping them ends them.
#[derive(Default)]
pub(super) struct Schedules {
    /// None where there is a pattern that cannot be read.
    kept: BTreeMap<Entry, Option<AbortOnDropHandle<()>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    repo: String,
    sort: &'static str,
    pattern: String,
}

impl Schedules {
    /// Ends all schedules.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Keeps the schedules of a `PerconaPGCluster`'s spec from now on, and no others.
    pub(super) fn keep(&mut self, context: &Arc<Context>, key: &Key, spec: &Value) {
        let wanted = entries(spec);
        self.kept.retain(|entry, _| wanted.contains(entry));
        for entry in wanted {
            if self.kept.contains_key(&entry) {
                continue;
            }
            // Percona only logs a pattern that it cannot read, in every pass; here that is said once.
            let parsed = cron::parse(&entry.pattern);
            let parsed = parsed.inspect_err(
                |error| tracing::warn!(cluster = %key, pattern = entry.pattern, error, "not a schedule of robfig/cron"),
            );
            let start = |schedule| tokio::spawn(run(Arc::clone(context), key.clone(), entry.clone(), schedule));
            let task = parsed.ok().map(start).map(AbortOnDropHandle::new);
            self.kept.insert(entry, task);
        }
    }
}

fn entries(spec: &Value) -> Vec<Entry> {
    let mut entries = Vec::new();
    for repo in repositories(spec) {
        for (field, sort) in SORTS {
            if let (Some(name), Some(pattern)) = (repo["name"].as_str(), repo["schedules"][field].as_str()) {
                entries.push(Entry { repo: name.to_owned(), sort, pattern: pattern.to_owned() });
            }
        }
    }
    entries
}

async fn run(context: Arc<Context>, key: Key, entry: Entry, schedule: Schedule) {
    loop {
        let now = Timestamp::now();
        let Some(next) = schedule.next(now) else { return };
        tokio::time::sleep(next.duration_since(now).try_into().unwrap_or_default()).await;
        if let Err(error) = fire(&context, &key, &entry).await {
            tracing::warn!(cluster = %key, %error, "a scheduled backup could not be asked for");
        }
    }
}

/// Asks for a backup, unless the cluster cannot make one; that is not said anywhere.
async fn fire(context: &Context, key: &Key, entry: &Entry) -> kube::Result<()> {
    let Some(cluster) = context.get(Kind::CLUSTER, &key.namespace, &key.name).await? else { return Ok(()) };
    if may_back_up(&cluster.data["status"]) {
        context.create(percona_backup(key, &entry.repo, &Origin::Schedule(entry.sort))).await?;
    }
    Ok(())
}

fn may_back_up(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    let refused = |condition: &Value| condition["type"] == "ReadyForBackup" && condition["status"] == "False";
    status["state"] == "ready" && !conditions.into_iter().flatten().any(refused)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn schedules_are_read_by_their_real_names() {
        let schedules = json!({ "full": "0 2 * * *", "incremental": "0 * * * *", "incr": "1 * * * *" });
        let spec = json!({ "backups": { "pgbackrest": { "repos": [{ "name": "repo1", "schedules": schedules }] } } });
        let found: Vec<(&str, String)> = entries(&spec).into_iter().map(|entry| (entry.sort, entry.pattern)).collect();
        assert_eq!(found, [("full", "0 2 * * *".to_owned()), ("incr", "0 * * * *".to_owned())]);
    }

    #[rstest]
    #[case(json!({ "state": "ready" }), true)]
    #[case(json!({ "state": "ready", "conditions": [{ "type": "ReadyForBackup", "status": "True" }] }), true)]
    #[case(json!({ "state": "ready", "conditions": [{ "type": "ReadyForBackup", "status": "False" }] }), false)]
    #[case(json!({ "state": "initializing" }), false)]
    fn only_a_ready_cluster_is_backed_up(#[case] status: Value, #[case] expected: bool) {
        assert_eq!(may_back_up(&status), expected);
    }
}
