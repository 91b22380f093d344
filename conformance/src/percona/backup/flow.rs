//! What comes next: decisions without side effects.
//!
//! Pure. Source: `contract.md` 3.2 and 3.3, `observed.md` (g), (h), (i) and the traces h, i, i2, i3.

use std::time::Duration;

use serde_json::{Value, json};

use super::storage::options_hash;

/// How long a backup may wait while the cluster is not ready for backups. Percona counts from the moment that the cluster
/// became unready, not from the backup's start.
const PATIENCE: Duration = Duration::from_mins(2);

/// A `PerconaPGBackup`, and what its fate depends on.
#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own; together they are no state machine")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// `status.state`.
    pub state: String,
    /// Whether it is to be deleted.
    pub deleting: bool,
    /// Whether it has the finalizer that unfinished backups have.
    pub held: bool,
    /// Whether somebody, or a schedule, asked for it; else it is the cluster's first backup.
    pub manual: bool,
    /// Whether its pgBackRest label is known.
    pub named: bool,
    /// Whether the cluster has backups.
    pub enabled: bool,
    /// For how long the cluster has not been ready for backups; `None` when it is.
    pub unready: Option<Duration>,
    /// The cluster's backup that is under way.
    pub in_progress: InProgress,
    /// Whether the cluster still asks the inner controller for this backup.
    pub requested: bool,
    /// Whether the inner controller still works on it.
    pub noted: bool,
    /// Its Job.
    pub job: Job,
}

/// Whose backup is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InProgress {
    /// None's.
    #[default]
    None,
    /// This one's.
    This,
    /// Another one's.
    Other,
}

/// How far a Job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Job {
    /// There is none (yet).
    #[default]
    Absent,
    /// It runs, or tries again.
    Active,
    /// It is done.
    Complete,
    /// It has given up.
    Failed,
}

/// The next thing to do about a `PerconaPGBackup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until something changes.
    Wait,
    /// Nothing, until something changes or this time is over.
    WaitFor(Duration),
    /// Fails it, because the cluster has no backups.
    Refuse,
    /// Adds the finalizer.
    Hold,
    /// Takes it up: a manual one is asked for on the cluster.
    Start,
    /// Notes its Job.
    Run,
    /// Notes what pgBackRest calls it.
    Name,
    /// Notes that it failed.
    Fail,
    /// Stops asking the inner controller for it.
    Withdraw,
    /// Lets the next backup begin.
    Release,
    /// Removes the finalizer.
    LetGo,
    /// Notes that it succeeded.
    Finish,
}

/// Decides the next step.
pub(super) fn step(facts: &Facts) -> Step {
    if facts.deleting {
        return clean_up(facts).unwrap_or(Step::Wait);
    }
    match facts.state.as_str() {
        "" if !facts.enabled => Step::Refuse,
        "" if !facts.held => Step::Hold,
        "" if facts.manual && facts.in_progress == InProgress::Other => Step::Wait,
        "" => Step::Start,
        "Starting" if facts.job != Job::Absent => Step::Run,
        "Starting" => match facts.unready {
            Some(unready) if unready >= PATIENCE => Step::Fail,
            Some(unready) => Step::WaitFor(PATIENCE.saturating_sub(unready)),
            None => Step::Wait,
        },
        "Running" => match facts.job {
            Job::Absent | Job::Active => Step::Wait,
            Job::Failed => Step::Fail,
            Job::Complete if !facts.named => Step::Name,
            Job::Complete => clean_up(facts).unwrap_or(Step::Finish),
        },
        "Failed" => clean_up(facts).unwrap_or(Step::Wait),
        _ => Step::Wait,
    }
}

/// What is left to do about a backup that has ended; `None`: nothing.
fn clean_up(facts: &Facts) -> Option<Step> {
    if facts.requested {
        Some(Step::Withdraw)
    } else if facts.noted {
        Some(Step::Wait)
    } else if facts.in_progress == InProgress::This {
        Some(Step::Release)
    } else if facts.held {
        Some(Step::LetGo)
    } else {
        None
    }
}

/// The `repos` of the inner status: what was reached before counts as long as the repository is the same.
pub(super) fn repos(spec: &Value, previous: &Value) -> Vec<Value> {
    let wanted = spec["backups"]["pgbackrest"]["repos"].as_array().into_iter().flatten();
    let known = previous["pgbackrest"]["repos"].as_array();
    wanted
        .map(|repo| {
            let hash = json!(options_hash(repo));
            let same = known
                .into_iter()
                .flatten()
                .find(|known| known["name"] == repo["name"] && known["repoOptionsHash"] == hash);
            same.cloned().unwrap_or_else(|| {
                let mut fresh = json!({ "name": repo["name"], "stanzaCreated": false });
                if hash.is_string() {
                    fresh["repoOptionsHash"] = hash;
                }
                fresh
            })
        })
        .collect()
}

/// Notes in one of the `repos` what the claim of its volume says. Another volume than before has no stanza and no backup.
pub(super) fn bind(repo: &mut Value, claim: &Value) {
    let Some(repo) = repo.as_object_mut() else { return };
    let volume = claim["spec"]["volumeName"].as_str().filter(|volume| !volume.is_empty());
    if repo.get("volume").and_then(Value::as_str).is_some_and(|before| Some(before) != volume) {
        repo.insert("stanzaCreated".to_owned(), json!(false));
        repo.remove("replicaCreateBackupComplete");
    }
    let is_bound = claim["status"]["phase"] == "Bound";
    for (field, value) in [("bound", is_bound.then(|| json!(true))), ("volume", volume.map(|volume| json!(volume)))] {
        match value {
            Some(value) => repo.insert(field.to_owned(), value),
            None => repo.remove(field),
        };
    }
}

/// Type, status, reason and message of the inner conditions, from the first repository.
pub(super) fn conditions(host_ready: bool, repos: &[Value]) -> [[&'static str; 4]; 3] {
    let first = |field: &str| repos.first().is_some_and(|repo| repo[field] == true);
    let host = if host_ready {
        ["True", "RepoHostReady", "pgBackRest dedicated repository host is ready"]
    } else {
        ["False", "RepoHostNotReady", "pgBackRest dedicated repository host is not ready"]
    };
    let stanza = if first("stanzaCreated") {
        ["True", "StanzaCreated", "pgBackRest replica create repo is ready for backups"]
    } else {
        ["False", "StanzaNotCreated", "pgBackRest replica create repo is not ready for backups"]
    };
    let backup = if first("replicaCreateBackupComplete") {
        ["True", "RepoBackupComplete", "pgBackRest replica creation is now possible"]
    } else {
        ["False", "RepoBackupNotComplete", "pgBackRest replica creation is not currently possible"]
    };
    [("PGBackRestRepoHostReady", host), ("PGBackRestReplicaRepoReady", stanza), ("PGBackRestReplicaCreate", backup)]
        .map(|(kind, [status, reason, message])| [kind, status, reason, message])
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn facts(state: &str, manual: bool) -> Facts {
        Facts { state: state.to_owned(), manual, enabled: true, held: true, ..Facts::default() }
    }

    /// Takes steps, each with its effect, until nothing is left to do; `inner` says when the inner controller has noticed.
    fn walk(mut facts: Facts) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let step = step(&facts);
            match step {
                Step::Wait if facts.noted => facts.noted = false,
                Step::Wait | Step::WaitFor(_) => return steps,
                Step::Refuse | Step::Fail => facts.state = "Failed".to_owned(),
                Step::Hold => facts.held = true,
                Step::Start => {
                    facts.state = "Starting".to_owned();
                    if facts.manual {
                        (facts.requested, facts.in_progress) = (true, InProgress::This);
                    }
                }
                Step::Run => facts.state = "Running".to_owned(),
                Step::Name => facts.named = true,
                Step::Withdraw => (facts.requested, facts.noted) = (false, true),
                Step::Release => facts.in_progress = InProgress::None,
                Step::LetGo => facts.held = false,
                Step::Finish => facts.state = "Succeeded".to_owned(),
            }
            steps.push(step);
            assert!(steps.len() < 20, "no end: {steps:?}");
        }
    }

    #[test]
    fn a_first_backup_ends_as_in_trace_i3() {
        let done = Facts { held: false, job: Job::Complete, ..facts("", false) };
        assert_eq!(walk(done), [Step::Hold, Step::Start, Step::Run, Step::Name, Step::LetGo, Step::Finish]);
    }

    #[test]
    fn a_manual_backup_ends_as_in_trace_i() {
        use Step::{Finish, Hold, LetGo, Name, Release, Run, Start, Wait, Withdraw};
        let done = Facts { held: false, job: Job::Complete, ..facts("", true) };
        assert_eq!(walk(done), [Hold, Start, Run, Name, Withdraw, Wait, Release, LetGo, Finish]);
    }

    #[test]
    fn a_manual_backup_without_a_stanza_fails_after_two_minutes_as_in_trace_h() {
        let waiting = Facts { unready: Some(Duration::from_secs(50)), requested: true, ..facts("Starting", true) };
        assert_eq!(step(&waiting), Step::WaitFor(Duration::from_secs(70)));
        let late = Facts { unready: Some(PATIENCE), in_progress: InProgress::This, ..waiting };
        assert_eq!(walk(late), [Step::Fail, Step::Withdraw, Step::Wait, Step::Release, Step::LetGo]);
    }

    #[rstest]
    #[case::backups_off(Facts { enabled: false, ..facts("", true) }, Step::Refuse)]
    #[case::queue(Facts { in_progress: InProgress::Other, ..facts("", true) }, Step::Wait)]
    #[case::the_first_does_not_queue(Facts { in_progress: InProgress::Other, ..facts("", false) }, Step::Start)]
    #[case::job_tries_again(Facts { job: Job::Active, ..facts("Running", false) }, Step::Wait)]
    #[case::job_gave_up(Facts { job: Job::Failed, ..facts("Running", false) }, Step::Fail)]
    #[case::deleted_while_running(Facts { deleting: true, requested: true, ..facts("Running", true) }, Step::Withdraw)]
    #[case::deleted_without_a_trace(Facts { deleting: true, held: false, ..facts("Running", true) }, Step::Wait)]
    #[case::done(Facts { held: false, job: Job::Complete, ..facts("Succeeded", true) }, Step::Wait)]
    fn one_step_at_a_time(#[case] facts: Facts, #[case] expected: Step) {
        assert_eq!(step(&facts), expected);
    }

    #[test]
    fn a_repository_with_another_bucket_starts_anew() {
        let spec = |bucket: &str| json!({ "backups": { "pgbackrest": { "repos": [{ "name": "repo1", "s3": { "bucket": bucket } }] } } });
        let mut before = repos(&spec("a"), &Value::Null);
        assert_eq!(before[0]["stanzaCreated"], false);
        before[0]["stanzaCreated"] = json!(true);
        let status = json!({ "pgbackrest": { "repos": before } });
        assert_eq!(repos(&spec("a"), &status)[0]["stanzaCreated"], true);
        assert_eq!(repos(&spec("b"), &status)[0]["stanzaCreated"], false);
    }

    #[test]
    fn a_repository_that_becomes_a_volume_starts_anew_and_stays_the_same_then() {
        let spec = |repo: Value| json!({ "backups": { "pgbackrest": { "repos": [repo] } } });
        let on_s3 = repos(&spec(json!({ "name": "repo1", "s3": { "bucket": "a" } })), &Value::Null);
        let status = |repos: &[Value]| json!({ "pgbackrest": { "repos": repos } });
        let volume = spec(json!({ "name": "repo1", "volume": { "volumeClaimSpec": {} } }));
        let mut on_volume = repos(&volume, &status(&on_s3));
        assert_eq!(on_volume, [json!({ "name": "repo1", "stanzaCreated": false })]);
        on_volume[0]["stanzaCreated"] = json!(true);
        assert_eq!(repos(&volume, &status(&on_volume)), on_volume);
    }

    #[test]
    fn another_volume_starts_anew() {
        let claim = |volume: &str| json!({ "spec": { "volumeName": volume }, "status": { "phase": "Bound" } });
        let mut repo = json!({ "name": "repo1", "stanzaCreated": false });
        bind(&mut repo, &json!({ "spec": {}, "status": { "phase": "Pending" } }));
        assert_eq!(repo, json!({ "name": "repo1", "stanzaCreated": false }));
        repo["stanzaCreated"] = json!(true);
        repo["replicaCreateBackupComplete"] = json!(true);
        let mut done = repo.clone();
        bind(&mut repo, &claim("first"));
        (done["bound"], done["volume"]) = (json!(true), json!("first"));
        assert_eq!(repo, done, "it was not bound before");
        bind(&mut repo, &claim("first"));
        assert_eq!(repo, done);
        bind(&mut repo, &claim("second"));
        assert_eq!(repo, json!({ "name": "repo1", "bound": true, "volume": "second", "stanzaCreated": false }));
    }

    #[test]
    fn conditions_follow_the_first_repository() {
        let words = |host: bool, repos: &[Value]| {
            conditions(host, repos).map(|[_, status, reason, _]| format!("{status}/{reason}"))
        };
        assert_eq!(
            words(false, &[]),
            ["False/RepoHostNotReady", "False/StanzaNotCreated", "False/RepoBackupNotComplete"]
        );
        let done = json!({ "stanzaCreated": true, "replicaCreateBackupComplete": true });
        assert_eq!(words(true, &[done]), ["True/RepoHostReady", "True/StanzaCreated", "True/RepoBackupComplete"]);
    }
}
