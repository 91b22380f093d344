//! Servers, clusters and Secrets for tests, written as a user would write them.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{DittoServer, PerconaPGCluster, names};

mod api;

pub(crate) use api::{ApiServer, failure};

/// The `DittoServer` `demo` in `team-a`, generation 3, with `spec` (YAML) besides its storage.
pub(crate) fn server(spec: &str) -> DittoServer {
    let spec = spec.replace('\n', "\n  ");
    let text = format!(
        "apiVersion: dittofs.dittofs.com/v1alpha1\nkind: DittoServer\n\
         metadata: {{name: demo, namespace: team-a, uid: uid-of-demo, generation: 3}}\n\
         spec:\n  storage: {{metadataSize: 1Gi}}\n  {spec}"
    );
    serde_yaml::from_str(&text).expect("a DittoServer")
}

/// Spec of a server with everything from Percona, backups too.
pub(crate) const BACKED_UP: &str = "percona:
  enabled: true
  backup:
    enabled: true
    credentialsSecretRef: {name: s3-keys}
    bucket: backups
    endpoint: minio.minio.svc:9000";

/// Percona's cluster of the server in [`server`], with `rest` (YAML) besides its metadata.
pub(crate) fn cluster(rest: &str) -> PerconaPGCluster {
    let text = format!(
        "apiVersion: pgv2.percona.com/v2\nkind: PerconaPGCluster\n\
         metadata:\n  name: demo-postgres\n  namespace: team-a\n  ownerReferences:\n  \
         - {{apiVersion: dittofs.dittofs.com/v1alpha1, kind: DittoServer, name: demo, uid: uid-of-demo, controller: true}}\n\
         spec: {{}}\n{rest}"
    );
    serde_yaml::from_str(&text).expect("a PerconaPGCluster")
}

/// A Secret with these values.
pub(crate) fn secret(values: &[(&str, &str)]) -> Secret {
    let data: BTreeMap<_, _> =
        values.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
    Secret { data: Some(data), ..Secret::default() }
}

/// A list with a pod of the StatefulSet whose uid is `w`: its init container gave up on the database.
pub(crate) fn gave_up() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PodList", "metadata": {},
        "items": [{
            "metadata": { "name": "demo-0", "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "demo", "uid": "w", "controller": true },
            ] },
            "status": { "initContainerStatuses": [{
                "name": names::INIT_CONTAINER, "image": "", "imageID": "", "ready": false, "restartCount": 1,
                "state": { "terminated": { "exitCode": 1, "message": "gave up" } },
            }] },
        }],
    })
}

/// An object as the API server sends it.
pub(crate) fn as_json(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("JSON")
}

/// The values of a complete user Secret.
pub(crate) const CREDENTIALS: [(&str, &str); 7] = [
    ("host", "demo-postgres-primary.team-a.svc"),
    ("port", "5432"),
    ("user", "dittofs"),
    ("password", "hunter2"),
    ("dbname", "dittofs"),
    ("uri", "postgresql://dittofs:hunter2@demo-postgres-primary.team-a.svc:5432/dittofs"),
    ("verifier", "SCRAM-SHA-256$4096:x"),
];
