//! What the webhook answers, given what it knows. Pure.

use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::credentials;
use crate::api::spec::{Percona, SecretKeyRef};
use crate::api::{DittoServer, names};
use crate::reconcile::validate::{FieldError, validate};

/// What the webhook knows about the cluster around a server.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Whether Percona's CRD is installed.
    pub percona_installed: bool,
    /// The Secret with the backup credentials, when the server names one and it exists.
    pub backup_secret: Option<Secret>,
    /// The Secret with the CA of the S3 service, likewise.
    pub ca_secret: Option<Secret>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Why it is denied; none when it is allowed.
    pub errors: Vec<FieldError>,
    /// What the user should know all the same.
    pub warnings: Vec<String>,
}

/// What has to be looked up before [`answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Questions<'a> {
    /// Whether Percona's CRD is installed.
    pub percona: bool,
    /// The Secret with the backup credentials.
    pub backup_secret: Option<&'a str>,
    /// The Secret with the CA of the S3 service, and the key in it.
    pub ca: Option<&'a SecretKeyRef>,
}

/// What [`answer`] needs to know; `None` when the request is allowed unseen, so that nothing ever keeps a server from being deleted
/// or losing a finalizer, nor from changing its metadata under a spec that was fine once.
pub fn questions<'a>(new: &'a DittoServer, old: Option<&DittoServer>) -> Option<Questions<'a>> {
    if new.metadata.deletion_timestamp.is_some() || old.is_some_and(|old| old.spec == new.spec) {
        return None;
    }
    let backup = percona(new).and_then(|percona| percona.backup.as_ref()).filter(|backup| backup.enabled);
    Some(Questions {
        percona: percona(new).is_some() && old.and_then(percona).is_none(),
        backup_secret: backup.and_then(|backup| backup.credentials_secret_ref.as_ref()).map(|secret| &*secret.name),
        ca: backup.and_then(|backup| backup.ca_secret_ref.as_ref()),
    })
}

/// Judges `new`, which is to replace `old`.
pub fn answer(new: &DittoServer, old: Option<&DittoServer>, around: &Surroundings) -> Answer {
    let Some(questions) = questions(new, old) else { return Answer::default() };
    let mut answer = Answer::default();
    if questions.percona && !around.percona_installed {
        answer.errors.push(FieldError {
            path: "spec.percona.enabled",
            message: format!(
                "the CRD {} is not installed: install the Percona Operator for PostgreSQL 2.8 \
                 (https://docs.percona.com/percona-operator-for-postgresql/), or set it to false",
                names::PERCONA_CRD
            ),
        });
    }
    answer.errors.extend(validate(&new.spec));
    if percona(new).is_some() && new.spec.database.postgres_secret_ref.is_some() {
        answer.warnings.push(
            "spec.database is ignored: spec.percona.enabled wins over spec.database.postgresSecretRef".to_owned(),
        );
    }
    if let Some(name) = questions.backup_secret
        && let Some(complaint) = credentials::complaint(around.backup_secret.as_ref())
    {
        answer.warnings.push(format!("spec.percona.backup.credentialsSecretRef: Secret {name} {complaint}"));
    }
    if let Some(SecretKeyRef { name, key }) = questions.ca
        && let Some(complaint) = credentials::ca_complaint(around.ca_secret.as_ref(), key)
    {
        answer.warnings.push(format!("spec.percona.backup.caSecretRef: Secret {name} {complaint}"));
    }
    if let Some(old) = old {
        answer.warnings.extend(unseen(new, old));
    }
    answer
}

fn percona(server: &DittoServer) -> Option<&Percona> {
    server.spec.percona.as_ref().filter(|percona| percona.enabled)
}

/// Changes that have no effect where the user may expect one.
fn unseen(new: &DittoServer, old: &DittoServer) -> Vec<String> {
    let cluster = names::cluster(new.metadata.name.as_deref().unwrap_or_default());
    let mut warnings = Vec::new();
    match (percona(old), percona(new)) {
        (Some(before), Some(after)) => {
            let paths = differences("spec.percona", &json(before), &json(after));
            if !paths.is_empty() {
                let paths = paths.join(", ");
                warnings.push(format!("{paths}: PerconaPGCluster {cluster} is created once; change it there"));
            }
        }
        (Some(_), None) => {
            warnings.push(format!(
                "spec.percona: PerconaPGCluster {cluster} stays; delete it yourself to be rid of it and its data"
            ));
        }
        (None, _) => {}
    }
    let volumes = differences("spec.storage", &json(&old.spec.storage), &json(&new.spec.storage));
    if !volumes.is_empty() {
        warnings
            .push(format!("{}: Kubernetes cannot change the volumes of a StatefulSet that exists", volumes.join(", ")));
    }
    warnings
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Paths below `path` at which both differ.
fn differences(path: &str, before: &Value, after: &Value) -> Vec<String> {
    match (before, after) {
        _ if before == after => Vec::new(),
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<_> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            let value = |side: &serde_json::Map<String, Value>, key: &str| side.get(key).cloned().unwrap_or_default();
            keys.iter()
                .flat_map(|key| differences(&format!("{path}.{key}"), &value(left, key), &value(right, key)))
                .collect()
        }
        _ => vec![path.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::{BACKED_UP, secret, server};

    const PERCONA: &str = "percona: {enabled: true}";

    fn around(percona_installed: bool) -> Surroundings {
        let keys = secret(&[("s3.conf", "[global]\nrepo1-s3-key=A\nrepo1-s3-key-secret=B")]);
        Surroundings { percona_installed, backup_secret: Some(keys), ca_secret: None }
    }

    #[rstest]
    #[case::without_percona("", None, false, 0)]
    #[case::without_crd(PERCONA, None, false, 1)]
    #[case::with_crd(PERCONA, None, true, 0)]
    #[case::turned_on_without_crd(PERCONA, Some(""), false, 1)]
    #[case::on_already("percona: {enabled: true}\nreplicas: 0", Some(PERCONA), false, 0)]
    #[case::switched_off("percona: {enabled: false}", None, false, 0)]
    fn percona_needs_its_crd(
        #[case] new: &str,
        #[case] old: Option<&str>,
        #[case] installed: bool,
        #[case] errors: usize,
    ) {
        let answer = answer(&server(new), old.map(server).as_ref(), &around(installed));
        assert_eq!(answer.errors.len(), errors, "{answer:?}");
        assert!(
            answer.errors.iter().all(|error| error.message.contains("install the Percona Operator for PostgreSQL 2.8"))
        );
    }

    #[rstest]
    #[case::both("percona: {enabled: true}\ndatabase: {postgresSecretRef: {name: db, key: url}}", 1)]
    #[case::percona(PERCONA, 0)]
    #[case::external("database: {postgresSecretRef: {name: db, key: url}}", 0)]
    fn only_a_source_that_is_ignored_is_warned_of(#[case] spec: &str, #[case] warnings: usize) {
        assert_eq!(answer(&server(spec), None, &around(true)).warnings.len(), warnings);
    }

    #[test]
    fn everything_that_can_be_said() {
        let new = format!(
            "{}\n    fullSchedule: sometimes\n    caSecretRef: {{name: s3-ca, key: ca.crt}}\ndatabase: {{type: postgres, postgresSecretRef: {{name: db, key: url}}}}",
            BACKED_UP.replace("enabled: true\n  backup", "enabled: true\n  replicas: 3\n  backup")
        );
        let mut new = server(&new);
        new.spec.storage.metadata_size = "2Gi".to_owned();
        let around = Surroundings { percona_installed: true, ..Surroundings::default() };
        insta::assert_debug_snapshot!(answer(&new, Some(&server(BACKED_UP)), &around));
    }

    #[test]
    fn a_cluster_that_is_left_behind_is_named() {
        let answer = answer(&server("percona: {enabled: false}"), Some(&server(PERCONA)), &around(true));
        assert_eq!(answer.errors, []);
        assert!(answer.warnings[0].contains("demo-postgres stays"), "{answer:?}");
    }

    #[rstest]
    #[case::being_deleted(true, "replicas: 0")]
    #[case::metadata_only(false, "")]
    fn deletion_and_metadata_are_never_refused(#[case] deleting: bool, #[case] change: &str) {
        let bad = format!("{BACKED_UP}\n    fullSchedule: sometimes");
        let old = server(&bad);
        let mut new = server(&format!("{bad}\n{change}"));
        new.metadata.finalizers = Some(Vec::new());
        if deleting {
            new.metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-11-24T08:00:00Z\"").unwrap());
        }
        assert_eq!(questions(&new, Some(&old)), None);
        assert_eq!(answer(&new, Some(&old), &Surroundings::default()), Answer::default());
    }
}
