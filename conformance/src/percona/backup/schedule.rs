//! Schedules: in the operator's memory, not as `CronJob`s (`contract.md`, 3.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::Zoned;
use jiff::tz::TimeZone;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::super::context::{Context, Kind};
use super::super::names::Key;
use super::objects::{Origin, percona_backup};

/// The fields of `repos[].schedules`, and what pgBackRest calls their backups. Percona's field is `incremental`; `incr` is
/// none, and the API server drops it.
const SORTS: [(&str, &str); 3] = [("full", "full"), ("differential", "diff"), ("incremental", "incr")];

/// The schedules of one cluster that are kept at present. Dropping them ends them.
#[derive(Default)]
pub(super) struct Schedules {
    kept: BTreeMap<Entry, AbortOnDropHandle<()>>,
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
            // Percona only logs a pattern that it cannot read.
            match parse(&entry.pattern) {
                Ok(cron) => {
                    let task = tokio::spawn(run(Arc::clone(context), key.clone(), entry.clone(), cron));
                    self.kept.insert(entry, AbortOnDropHandle::new(task));
                }
                Err(error) => tracing::warn!(cluster = %key, pattern = entry.pattern, error, "not a schedule"),
            }
        }
    }
}

fn entries(spec: &Value) -> Vec<Entry> {
    let mut entries = Vec::new();
    for repo in spec["backups"]["pgbackrest"]["repos"].as_array().into_iter().flatten() {
        for (field, sort) in SORTS {
            if let (Some(name), Some(pattern)) = (repo["name"].as_str(), repo["schedules"][field].as_str()) {
                entries.push(Entry { repo: name.to_owned(), sort, pattern: pattern.to_owned() });
            }
        }
    }
    entries
}

/// Five fields, or a word such as `@daily`.
fn parse(pattern: &str) -> Result<Cron, String> {
    CronParser::builder().seconds(Seconds::Disallowed).build().parse(pattern).map_err(|error| error.to_string())
}

async fn run(context: Arc<Context>, key: Key, entry: Entry, cron: Cron) {
    loop {
        // The operator's container has no time zone of its own.
        let now = Zoned::now().with_time_zone(TimeZone::UTC);
        let Ok(next) = cron.find_next_occurrence(&now, false) else { return };
        tokio::time::sleep((&next - &now).try_into().unwrap_or_default()).await;
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
    #[case("0 2 * * *", Some("2026-11-25T02:00:00Z"))]
    #[case("*/15 * * * *", Some("2026-11-24T08:15:00Z"))]
    #[case("@daily", Some("2026-11-25T00:00:00Z"))]
    #[case("0 0 2 * * *", None)]
    #[case("hourly", None)]
    fn a_pattern_has_five_fields_or_is_a_word(#[case] pattern: &str, #[case] next: Option<&str>) {
        let now = "2026-11-24T08:00:00Z".parse::<jiff::Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let found =
            parse(pattern).ok().map(|cron| cron.find_next_occurrence(&now, false).unwrap().timestamp().to_string());
        assert_eq!(found.as_deref(), next);
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
