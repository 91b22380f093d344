//! The gate: whether the pods may have their database yet, and what `DatabaseReady` says about it. Pure.

use k8s_openapi::api::core::v1::Secret;

use super::digest::digest;
use crate::api::names;
use crate::api::spec::SecretKeyRef;
use crate::api::{DittoServer, PerconaPGCluster};

/// What the pods need of Percona's Secret, and what the digest covers. Never its labels, never its other keys.
pub const CREDENTIAL_KEYS: [&str; 6] = ["host", "port", "user", "password", "dbname", "uri"];

/// Where a server's database comes from. Percona wins over `database` altogether.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A `PerconaPGCluster` made for the server.
    Percona,
    /// A URI in somebody's Secret.
    External(&'a SecretKeyRef),
    /// A file of the metadata volume.
    Sqlite,
}

impl<'a> Source<'a> {
    /// The source that `server` asks for.
    pub fn of(server: &'a DittoServer) -> Self {
        match (&server.spec.percona, &server.spec.database.postgres_secret_ref) {
            (Some(percona), _) if percona.enabled => Self::Percona,
            (_, Some(reference)) => Self::External(reference),
            _ => Self::Sqlite,
        }
    }
}

/// The `PerconaPGCluster` of the server's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Cluster {
    /// The API server does not know the kind.
    NotInstalled,
    /// There is none.
    NotFound,
    /// It belongs to somebody else, who is named here.
    Foreign(String),
    /// It is the server's own.
    Ours(Box<PerconaPGCluster>),
}

/// What was read for the gate.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Meaningful only with [`Source::Percona`].
    pub cluster: Cluster,
    /// The Secret of the source, where it was worth reading.
    pub secret: Option<Secret>,
    /// Whether the Secret with the backup credentials is missing; `false` when that was not worth asking.
    pub backup_secret_missing: bool,
}

/// What `DatabaseReady` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Status of the condition.
    pub ready: bool,
    /// Its reason.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
    /// Digest of the credentials, when the database is ready and has some.
    pub digest: Option<String>,
}

impl Verdict {
    fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, reason, message: message.into(), digest: None }
    }
}

/// Judges the facts.
pub fn judge(server: &DittoServer, facts: &Facts) -> Verdict {
    let uid = server.metadata.uid.as_deref().unwrap_or_default();
    match Source::of(server) {
        Source::Sqlite => Verdict {
            ready: true,
            reason: "SQLite",
            message: "the database is a file of the metadata volume".into(),
            digest: None,
        },
        Source::External(reference) => external(uid, reference, facts.secret.as_ref()),
        Source::Percona => percona(uid, server.metadata.name.as_deref().unwrap_or_default(), facts),
    }
}

fn external(uid: &str, reference: &SecretKeyRef, secret: Option<&Secret>) -> Verdict {
    let SecretKeyRef { name, key } = reference;
    let Some(secret) = secret else {
        return Verdict::waiting("ExternalSecretMissing", format!("Secret {name} does not exist"));
    };
    match value(secret, key) {
        Some(uri) => Verdict {
            ready: true,
            reason: "ExternalDatabase",
            message: format!("the URI comes from key {key} of Secret {name}"),
            digest: Some(digest(uid, [("uri", uri)])),
        },
        None => Verdict::waiting("ExternalSecretMissing", format!("Secret {name} has no key {key}, or an empty one")),
    }
}

fn percona(uid: &str, server: &str, facts: &Facts) -> Verdict {
    let name = names::cluster(server);
    let cluster = match &facts.cluster {
        Cluster::NotInstalled => {
            return Verdict::waiting(
                "PerconaPGClusterNotFound",
                format!("the CRD {} is not installed: install Percona Operator for PostgreSQL 2.8", names::PERCONA_CRD),
            );
        }
        Cluster::NotFound => {
            return Verdict::waiting("PerconaPGClusterNotFound", format!("PerconaPGCluster {name} does not exist"));
        }
        Cluster::Foreign(whose) => {
            return Verdict::waiting(
                "ClusterNotOurs",
                format!("PerconaPGCluster {name} {whose}; it is left alone: delete or rename one of the two"),
            );
        }
        Cluster::Ours(cluster) => cluster,
    };
    let waiting = |what: String| Verdict::waiting("WaitingForPostgreSQL", what);
    if cluster.metadata.deletion_timestamp.is_some() {
        return waiting(format!("PerconaPGCluster {name} is being deleted"));
    }
    match cluster.status.as_ref().map_or("", |status| status.state.as_str()) {
        "ready" => {}
        "" => return waiting(format!("PerconaPGCluster {name} has no state yet")),
        state => return waiting(format!("PerconaPGCluster {name} is {state}")),
    }
    let secret_name = names::user_secret(server);
    let Some(secret) = &facts.secret else {
        return Verdict::waiting("WaitingForCredentials", format!("Secret {secret_name} does not exist"));
    };
    let missing: Vec<_> = CREDENTIAL_KEYS.into_iter().filter(|key| value(secret, key).is_none()).collect();
    if !missing.is_empty() {
        return Verdict::waiting("WaitingForCredentials", format!("Secret {secret_name} lacks {}", missing.join(", ")));
    }
    let values = CREDENTIAL_KEYS.into_iter().filter_map(|key| Some((key, value(secret, key)?)));
    Verdict {
        ready: true,
        reason: "PostgreSQLReady",
        message: format!("PerconaPGCluster {name} is ready and Secret {secret_name} is complete"),
        digest: Some(digest(uid, values)),
    }
}

/// The non-empty value of `key`.
fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    (!bytes.is_empty()).then_some(bytes.as_slice())
}
