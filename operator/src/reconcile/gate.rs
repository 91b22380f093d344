//! The gate: whether the pods may have their database yet, and what `DatabaseReady` says about it. Pure.

use k8s_openapi::api::core::v1::Secret;
use percent_encoding::percent_decode_str;

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
    /// The API server does not let it be created: a quota, a policy, a missing permission. Its answer is here.
    Refused(String),
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
    /// The Secret of the backups (credentials, CA) that is missing; none when that was not worth asking.
    pub missing_backup_secret: Option<String>,
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
    /// Whether a pod that is replaced now finds its credentials.
    pub credentials: bool,
}

impl Verdict {
    fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, reason, message: message.into(), digest: None, credentials: false }
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
            credentials: true,
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
            credentials: true,
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
        Cluster::Refused(why) => {
            return Verdict::waiting(
                "PerconaPGClusterRefused",
                format!("the API server refuses PerconaPGCluster {name}: {why}"),
            );
        }
        Cluster::Foreign(whose) => {
            return Verdict::waiting(
                "ClusterNotOurs",
                format!("PerconaPGCluster {name} {whose}; it is left alone: delete or rename one of the two"),
            );
        }
        Cluster::Ours(cluster) => cluster,
    };
    let lacks = |secret: &Secret| CREDENTIAL_KEYS.into_iter().filter(|key| value(secret, key).is_none()).collect();
    let missing: Option<Vec<_>> = facts.secret.as_ref().map(lacks);
    let credentials = missing.as_ref().is_some_and(Vec::is_empty);
    let waiting = |what: String| Verdict { credentials, ..Verdict::waiting("WaitingForPostgreSQL", what) };
    if cluster.metadata.deletion_timestamp.is_some() {
        return waiting(format!("PerconaPGCluster {name} is being deleted"));
    }
    match cluster.status.as_ref().map_or("", |status| status.state.as_str()) {
        "ready" => {}
        "" => return waiting(format!("PerconaPGCluster {name} has no state yet")),
        state => return waiting(format!("PerconaPGCluster {name} is {state}")),
    }
    let secret_name = names::user_secret(server);
    let (Some(secret), Some(missing)) = (&facts.secret, missing) else {
        // Percona does not see that a Secret was deleted (observed.md, f).
        let remedy = format!("any change of PerconaPGCluster {name}, such as an annotation, makes Percona write it");
        return Verdict::waiting("WaitingForCredentials", format!("Secret {secret_name} does not exist; {remedy}"));
    };
    if !missing.is_empty() {
        return Verdict::waiting("WaitingForCredentials", format!("Secret {secret_name} lacks {}", missing.join(", ")));
    }
    // A user who sets a password changes one key; Percona changes the URI a moment later. One rotation is one rollout.
    if value(secret, "uri").and_then(password_in).is_some_and(|password| Some(&*password) != value(secret, "password"))
    {
        return Verdict::waiting(
            "WaitingForCredentials",
            format!("the uri in Secret {secret_name} does not hold the password beside it yet"),
        );
    }
    let values = CREDENTIAL_KEYS.into_iter().filter_map(|key| Some((key, value(secret, key)?)));
    Verdict {
        ready: true,
        reason: "PostgreSQLReady",
        message: format!("PerconaPGCluster {name} is ready and Secret {secret_name} is complete"),
        digest: Some(digest(uid, values)),
        credentials: true,
    }
}

/// The password in a connection URI, decoded; none when there is none or the URI cannot be read.
fn password_in(uri: &[u8]) -> Option<Vec<u8>> {
    let authority = std::str::from_utf8(uri).ok()?.split_once("://")?.1.split('/').next()?;
    let (_, password) = authority.rsplit_once('@')?.0.split_once(':')?;
    Some(percent_decode_str(password).collect())
}

/// The non-empty value of `key`.
fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    (!bytes.is_empty()).then_some(bytes.as_slice())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rstest::rstest;

    use super::*;
    use crate::testing::{CREDENTIALS, cluster, secret, server};

    const PERCONA: &str = "percona: {enabled: true}";
    const EXTERNAL: &str = "database: {type: postgres, postgresSecretRef: {name: db, key: url}}";
    const READY: &str = "status: {state: ready}";

    fn ours(rest: &str) -> Cluster {
        Cluster::Ours(Box::new(cluster(rest)))
    }

    fn without(key: &str) -> Secret {
        secret(&CREDENTIALS.into_iter().filter(|(name, _)| *name != key).collect::<Vec<_>>())
    }

    fn with(key: &str, value: &str) -> Secret {
        let replaced = |(name, old)| if name == key { (name, value) } else { (name, old) };
        secret(&CREDENTIALS.map(replaced))
    }

    fn verdict(spec: &str, cluster: Cluster, secret: Option<Secret>) -> Verdict {
        judge(&server(spec), &Facts { cluster, secret, missing_backup_secret: None })
    }

    #[rstest]
    #[case::no_crd(Cluster::NotInstalled, None, "PerconaPGClusterNotFound", "is not installed: install Percona")]
    #[case::no_cluster(Cluster::NotFound, None, "PerconaPGClusterNotFound", "demo-postgres does not exist")]
    #[case::refused(Cluster::Refused("exceeded quota".into()), None, "PerconaPGClusterRefused", "exceeded quota")]
    #[case::foreign(Cluster::Foreign("belongs to Helm x".into()), None, "ClusterNotOurs", "belongs to Helm x")]
    #[case::no_status(ours(""), Some(without("")), "WaitingForPostgreSQL", "has no state yet")]
    #[case::empty_state(ours("status: {state: ''}"), Some(without("")), "WaitingForPostgreSQL", "has no state yet")]
    #[case::initializing(
        ours("status: {state: initializing}"),
        Some(without("")),
        "WaitingForPostgreSQL",
        "is initializing"
    )]
    #[case::paused(ours("status: {state: paused}"), Some(without("")), "WaitingForPostgreSQL", "is paused")]
    #[case::unknown(ours("status: {state: new-word}"), Some(without("")), "WaitingForPostgreSQL", "is new-word")]
    #[case::no_secret(ours(READY), None, "WaitingForCredentials", "demo-postgres-pguser-dittofs does not exist")]
    #[case::no_uri(ours(READY), Some(without("uri")), "WaitingForCredentials", "lacks uri")]
    #[case::no_password(ours(READY), Some(without("password")), "WaitingForCredentials", "lacks password")]
    #[case::empty_password(ours(READY), Some(with("password", "")), "WaitingForCredentials", "lacks password")]
    #[case::no_keys(
        ours(READY),
        Some(Secret::default()),
        "WaitingForCredentials",
        "host, port, user, password, dbname, uri"
    )]
    fn the_gate_stays_closed(
        #[case] cluster: Cluster,
        #[case] secret: Option<Secret>,
        #[case] reason: &str,
        #[case] message: &str,
    ) {
        let verdict = verdict(PERCONA, cluster, secret);
        assert!(!verdict.ready);
        assert_eq!(verdict.reason, reason);
        assert!(verdict.message.contains(message), "{}", verdict.message);
        assert_eq!(verdict.digest, None);
    }

    #[rstest]
    #[case::all(Some(without("")))]
    #[case::no_verifier(Some(without("verifier")))]
    fn the_gate_opens_with_six_keys(#[case] secret: Option<Secret>) {
        let verdict = verdict(PERCONA, ours(READY), secret);
        assert_eq!((verdict.ready, verdict.reason), (true, "PostgreSQLReady"));
        assert!(!verdict.message.contains("hunter2"), "{}", verdict.message);
        assert!(verdict.digest.is_some());
    }

    #[rstest]
    #[case::old_uri("new", "postgresql://u:old@h:5432/d", false)]
    #[case::same("new", "postgresql://u:new@h:5432/d", true)]
    #[case::escaped("a/b:c@d?e+f", "postgresql://u:a%2Fb%3Ac%40d%3Fe+f@h:5432/d", true)]
    #[case::no_password_in_it("new", "postgresql://h:5432/d", true)]
    fn the_uri_holds_the_password(#[case] password: &str, #[case] uri: &str, #[case] ready: bool) {
        let mut secret = with("uri", uri);
        secret.data.as_mut().unwrap().insert("password".to_owned(), ByteString(password.as_bytes().to_vec()));
        let verdict = verdict(PERCONA, ours(READY), Some(secret));
        assert_eq!(verdict.ready, ready, "{}", verdict.message);
    }

    #[rstest]
    #[case::uri("uri", true)]
    #[case::host("host", true)]
    #[case::verifier("verifier", false)]
    fn only_the_six_values_change_the_digest(#[case] key: &str, #[case] changes: bool) {
        let before = verdict(PERCONA, ours(READY), Some(without(""))).digest;
        let after = verdict(PERCONA, ours(READY), Some(with(key, "postgresql://dittofs:hunter2@other"))).digest;
        assert_eq!(before != after, changes);
    }

    #[test]
    fn a_cluster_that_is_being_deleted_is_not_ready() {
        let mut dying = cluster(READY);
        dying.metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-11-24T08:00:00Z\"").unwrap());
        let verdict = verdict(PERCONA, Cluster::Ours(Box::new(dying)), Some(without("")));
        assert_eq!((verdict.ready, verdict.reason), (false, "WaitingForPostgreSQL"));
    }

    #[rstest]
    #[case::no_secret(None, false, "ExternalSecretMissing")]
    #[case::no_key(Some(secret(&[("uri", "x")])), false, "ExternalSecretMissing")]
    #[case::empty(Some(secret(&[("url", "")])), false, "ExternalSecretMissing")]
    #[case::there(Some(secret(&[("url", "postgresql://x")])), true, "ExternalDatabase")]
    fn an_external_database_needs_its_key(#[case] secret: Option<Secret>, #[case] ready: bool, #[case] reason: &str) {
        let verdict = verdict(EXTERNAL, Cluster::NotFound, secret);
        assert_eq!((verdict.ready, verdict.reason), (ready, reason));
        assert_eq!(verdict.digest.is_some(), ready);
    }

    #[rstest]
    #[case::nothing("", "sqlite")]
    #[case::external(EXTERNAL, "external")]
    #[case::reference_alone("database: {postgresSecretRef: {name: db, key: url}}", "external")]
    #[case::percona(PERCONA, "percona")]
    #[case::both(&format!("{EXTERNAL}\n{PERCONA}"), "percona")]
    #[case::percona_off(&format!("{EXTERNAL}\npercona: {{enabled: false}}"), "external")]
    fn percona_wins(#[case] spec: &str, #[case] expected: &str) {
        let source = match Source::of(&server(spec)) {
            Source::Percona => "percona",
            Source::External(_) => "external",
            Source::Sqlite => "sqlite",
        };
        assert_eq!(source, expected);
    }
}
