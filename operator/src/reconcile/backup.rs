//! What `BackupReady` says. It follows Percona's `ReadyForBackup` and the stanza of each repository, nothing else: Percona
//! never changes its other conditions (contract.md 1.7). Pure.

use super::gate::{Cluster, Facts, Verdict};
use super::status::Word;
use crate::api::DittoServer;
use crate::api::percona::PerconaPGClusterStatus;
use crate::api::spec::Backup;

/// What `BackupReady` says, when backups are on.
pub(super) fn ready(server: &DittoServer, facts: &Facts, verdict: &Verdict) -> Option<Word> {
    let percona = server.spec.percona.as_ref().filter(|percona| percona.enabled)?;
    let backup = percona.backup.as_ref().filter(|backup| backup.enabled)?;
    let Cluster::Ours(cluster) = &facts.cluster else {
        return Some((false, verdict.reason, verdict.message.clone()));
    };
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    // A cluster without backups keeps the conditions of the time when it had some (observed.md 1.5).
    if cluster.spec.backups.enabled == Some(false) {
        let message = format!("backups are off in PerconaPGCluster {name}, which is created once: turn them on there");
        return Some((false, "BackupsOffInCluster", message));
    }
    Some(backups_of(name, backup, &cluster.status.clone().unwrap_or_default(), facts.missing_backup_secret.as_deref()))
}

fn backups_of(cluster: &str, backup: &Backup, status: &PerconaPGClusterStatus, missing: Option<&str>) -> Word {
    let secret = backup.credentials_secret_ref.as_ref().map(|secret| secret.name.as_str()).unwrap_or_default();
    let repos = status.pgbackrest.as_ref().map(|pgbackrest| pgbackrest.repos.as_slice()).unwrap_or_default();
    let stanza = !repos.is_empty() && repos.iter().all(|repo| repo.stanza_created);
    let overall = status.conditions.iter().find(|condition| condition.type_ == "ReadyForBackup");
    match (overall.map(|condition| (condition.status.as_str(), condition.reason.as_str())), missing) {
        (Some(("True", _)), _) if stanza => {
            (true, "ReadyForBackup", "the stanza exists and the first backup is made".to_owned())
        }
        (_, Some(missing)) => (
            false,
            "CredentialsSecretMissing",
            format!("Secret {missing} does not exist: PostgreSQL itself cannot start without it"),
        ),
        _ if status.state != "ready" => {
            (false, "WaitingForPostgreSQL", format!("PerconaPGCluster {cluster} is not ready"))
        }
        _ if !stanza => (
            false,
            "StanzaNotCreated",
            format!(
                "pgBackRest could not create its stanza in repo1: check bucket, endpoint and the keys in Secret {secret}; the events of PostgresCluster {cluster} say what S3 answered"
            ),
        ),
        (Some((_, "PGBackRestRepoHostReady")), _) => {
            (false, "RepoHostNotReady", "the repository host is not ready".to_owned())
        }
        _ => (false, "WaitingForFirstBackup", "the first backup is not finished".to_owned()),
    }
}
