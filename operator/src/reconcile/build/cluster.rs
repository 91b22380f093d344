//! The `PerconaPGCluster` of a server, as it is created once.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{metadata, server_name};
use crate::api::percona::{
    Backups, Configuration, InstanceSet, KeyToPath, PerconaPGClusterSpec, PgBackRest, PgBouncer, ProjectedSecret,
    Proxy, Repo, S3, Schedules, User,
};
use crate::api::spec::{Backup, Percona};
use crate::api::{DittoServer, PerconaPGCluster, names};

/// Name of the CA file in `/etc/pgbackrest/conf.d`. It must not end in `.conf`: pgBackRest would read it as options.
const CA_FILE: &str = "s3-ca.crt";

/// Builds the cluster that `percona` asks for.
///
/// There is no `crVersion`: Percona fills in its own, and any other one changes the images of its init containers.
pub fn cluster(server: &DittoServer, percona: &Percona) -> PerconaPGCluster {
    let name = names::cluster(server_name(server));
    let spec = PerconaPGClusterSpec {
        postgres_version: percona.postgres_version,
        image: Some(percona.images.postgres.clone().unwrap_or_else(|| postgres_image(percona.postgres_version))),
        instances: vec![InstanceSet {
            name: "instance1".to_owned(),
            replicas: percona.replicas,
            data_volume_claim_spec: PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                storage_class_name: percona.storage_class_name.clone(),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(percona.storage_size.clone()))])),
                    ..VolumeResourceRequirements::default()
                }),
                ..PersistentVolumeClaimSpec::default()
            },
        }],
        users: vec![User { name: names::DATABASE_USER.to_owned(), databases: vec![percona.database_name.clone()] }],
        proxy: Some(Proxy { pg_bouncer: PgBouncer { replicas: 1, image: Some(percona.images.pgbouncer.clone()) } }),
        backups: match percona.backup.as_ref().filter(|backup| backup.enabled) {
            Some(backup) => backups(server, percona, backup),
            None => Backups { enabled: Some(false), pgbackrest: None },
        },
    };
    PerconaPGCluster { metadata: metadata(server, name), spec, status: None }
}

fn backups(server: &DittoServer, percona: &Percona, backup: &Backup) -> Backups {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut configuration = vec![Configuration {
        secret: ProjectedSecret {
            name: backup.credentials_secret_ref.as_ref().map(|secret| secret.name.clone()).unwrap_or_default(),
            items: Vec::new(),
        },
    }];
    let mut global: BTreeMap<String, String> = [
        ("repo1-path", repository_path(server)),
        ("repo1-s3-uri-style", "path".to_owned()),
        ("repo1-storage-verify-tls", if backup.verify_tls { "y" } else { "n" }.to_owned()),
        ("repo1-retention-full", backup.retention_days.to_string()),
        ("repo1-retention-full-type", "time".to_owned()),
        // Otherwise a backup waits up to two minutes for a spread checkpoint (observed.md, i).
        ("start-fast", "y".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(ca) = &backup.ca_secret_ref {
        configuration.push(Configuration {
            secret: ProjectedSecret {
                name: ca.name.clone(),
                items: vec![KeyToPath { key: ca.key.clone(), path: CA_FILE.to_owned() }],
            },
        });
        global.insert("repo1-storage-ca-file".to_owned(), format!("/etc/pgbackrest/conf.d/{CA_FILE}"));
    }
    Backups {
        enabled: Some(true),
        pgbackrest: Some(PgBackRest {
            image: Some(percona.images.pgbackrest.clone()),
            configuration,
            global,
            repos: vec![Repo {
                name: "repo1".to_owned(),
                schedules: Some(Schedules {
                    full: Some(backup.full_schedule.clone()),
                    incremental: Some(backup.incr_schedule.clone()),
                }),
                s3: Some(S3 {
                    bucket: text(&backup.bucket),
                    endpoint: text(&backup.endpoint),
                    region: backup.region.clone(),
                }),
            }],
        }),
    }
}

/// Path in the bucket. It holds the namespace: every cluster's stanza is named `db`, so two servers of one name
/// would write into each other's backups.
fn repository_path(server: &DittoServer) -> String {
    let namespace = server.metadata.namespace.as_deref().unwrap_or_default();
    format!("/pgbackrest/{namespace}/{}/repo1", server_name(server))
}

/// The image of Percona Operator 2.8.2 for a major version (its `e2e-tests/release_versions`; contract.md 4.2).
fn postgres_image(version: i32) -> String {
    let tag = match version {
        18 => "18.1-3",
        17 => "17.7-2",
        15 => "15.15-2",
        14 => "14.20-2",
        13 => "13.23-2",
        _ => "16.11-2",
    };
    format!("docker.io/percona/percona-distribution-postgresql:{tag}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::Value;

    use super::*;
    use crate::testing::{BACKED_UP, server};

    fn built(spec: &str) -> PerconaPGCluster {
        let server = server(spec);
        cluster(&server, server.spec.percona.as_ref().unwrap())
    }

    #[test]
    fn a_cluster_without_backups() {
        insta::assert_yaml_snapshot!(built("percona: {enabled: true}"));
    }

    #[test]
    fn a_cluster_with_everything() {
        let spec = format!(
            "{BACKED_UP}\n    verifyTLS: true\n    caSecretRef: {{name: s3-ca, key: ca.crt}}\n    retentionDays: 30\n  \
             replicas: 3\n  storageClassName: fast\n  postgresVersion: 17\n  databaseName: my_db"
        );
        insta::assert_yaml_snapshot!(built(&spec));
    }

    #[rstest]
    #[case(13, "13.23-2")]
    #[case(14, "14.20-2")]
    #[case(15, "15.15-2")]
    #[case(16, "16.11-2")]
    #[case(17, "17.7-2")]
    #[case(18, "18.1-3")]
    fn the_image_fits_the_version(#[case] version: i32, #[case] tag: &str) {
        let image = built(&format!("percona: {{enabled: true, postgresVersion: {version}}}")).spec.image;
        assert_eq!(image.as_deref(), Some(&*format!("docker.io/percona/percona-distribution-postgresql:{tag}")));
    }

    #[test]
    fn backups_that_are_off_leave_no_trace() {
        let spec = BACKED_UP.replace("backup:\n    enabled: true", "backup:\n    enabled: false");
        assert_eq!(built(&spec).spec.backups, Backups { enabled: Some(false), pgbackrest: None });
    }

    /// The real CRD is not part of this repository; where it lies is said by `PERCONA_CRDS`.
    #[test]
    fn percona_declares_every_field_that_is_sent() {
        let folder = std::env::var("PERCONA_CRDS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/percona/crds").to_owned());
        let file = Path::new(&folder).join(format!("{}.yaml", names::PERCONA_CRD));
        if !file.exists() {
            eprintln!("skipped: {} does not exist; PERCONA_CRDS names the folder of Percona's CRDs", file.display());
            return;
        }
        let crd: Value = serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let with_ca = format!("{BACKED_UP}\n    caSecretRef: {{name: s3-ca, key: ca.crt}}");
        for spec in ["percona: {enabled: true}", with_ca.as_str()] {
            let sent = serde_json::to_value(built(spec).spec).unwrap();
            assert_eq!(undeclared("spec", &sent, schema), Vec::<String>::new());
            for required in schema["required"].as_array().unwrap() {
                assert!(sent.get(required.as_str().unwrap()).is_some(), "{required} is required");
            }
        }
    }

    fn undeclared(path: &str, value: &Value, schema: &Value) -> Vec<String> {
        match value {
            Value::Object(fields) if schema.get("properties").is_some() => fields
                .iter()
                .flat_map(|(key, value)| match schema["properties"].get(key) {
                    Some(schema) => undeclared(&format!("{path}.{key}"), value, schema),
                    None => vec![format!("{path}.{key}")],
                })
                .collect(),
            Value::Object(fields) if schema.get("additionalProperties").is_none() => {
                fields.keys().map(|key| format!("{path}.{key}")).collect()
            }
            Value::Array(items) => items.iter().flat_map(|item| undeclared(path, item, &schema["items"])).collect(),
            _ => Vec::new(),
        }
    }
}
