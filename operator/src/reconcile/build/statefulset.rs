//! The StatefulSet of a server.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction,
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::wait::{Login, script};
use super::{labels, metadata, selector, server_name};
use crate::api::spec::{Resources, SecretKeyRef};
use crate::api::{DittoServer, names};
use crate::reconcile::gate::Source;

/// A numeric uid, so that the kubelet can check `runAsNonRoot` without knowing the image. The `nonroot` of distroless images.
const UID: i64 = 65532;

/// What the operator's flags say about the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOptions {
    /// Image of the init container.
    pub init_image: String,
    /// How long one run of the init container waits for the database.
    pub database_wait: Duration,
}

/// Builds the StatefulSet; `digest` is that of the database credentials, where there are any.
///
/// Pods are managed in parallel: an ordered StatefulSet waits for ever for a stuck pod before it rolls out its cure.
pub fn statefulset(server: &DittoServer, options: &PodOptions, digest: Option<&str>) -> StatefulSet {
    let name = server_name(server);
    let source = Source::of(server);
    let annotations = digest.map(|digest| BTreeMap::from([(names::DIGEST_ANNOTATION.to_owned(), digest.to_owned())]));
    StatefulSet {
        metadata: metadata(server, name.to_owned()),
        spec: Some(StatefulSetSpec {
            replicas: Some(server.spec.replicas),
            service_name: Some(names::headless_service(name)),
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector { match_labels: Some(selector(name)), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels(name)), annotations, ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    automount_service_account_token: Some(false),
                    security_context: Some(PodSecurityContext {
                        run_as_non_root: Some(true),
                        run_as_user: Some(UID),
                        run_as_group: Some(UID),
                        fs_group: Some(UID),
                        seccomp_profile: Some(SeccompProfile {
                            type_: "RuntimeDefault".to_owned(),
                            ..SeccompProfile::default()
                        }),
                        ..PodSecurityContext::default()
                    }),
                    init_containers: init_container(server, &source, options).map(|container| vec![container]),
                    containers: vec![container(server, &source)],
                    volumes: Some(vec![Volume {
                        name: "tmp".to_owned(),
                        empty_dir: Some(EmptyDirVolumeSource::default()),
                        ..Volume::default()
                    }]),
                    ..PodSpec::default()
                }),
            },
            volume_claim_templates: Some(claims(server)),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// `wanted` with the volumes of `existing`, which cannot change: a volume that it does not have is not mounted.
pub fn with_volumes_of(existing: &StatefulSet, mut wanted: StatefulSet) -> StatefulSet {
    let claims = existing.spec.as_ref().and_then(|spec| spec.volume_claim_templates.clone()).unwrap_or_default();
    if let Some(spec) = &mut wanted.spec {
        let gone: Vec<_> = spec
            .volume_claim_templates
            .iter()
            .flatten()
            .map(|claim| claim.metadata.name.clone())
            .filter(|name| !claims.iter().any(|claim| claim.metadata.name == *name))
            .flatten()
            .collect();
        for container in spec.template.spec.iter_mut().flat_map(|pod| &mut pod.containers) {
            container.volume_mounts.iter_mut().for_each(|mounts| mounts.retain(|mount| !gone.contains(&mount.name)));
        }
        spec.volume_claim_templates = Some(claims);
    }
    wanted
}

/// The digest in the template of `existing`, when its pods have their database from where those of `wanted` would have it.
pub fn kept_digest(existing: &StatefulSet, server: &DittoServer) -> Option<String> {
    let template = &existing.spec.as_ref()?.template;
    let env = template.spec.as_ref()?.containers.iter().find(|one| one.name == names::CONTAINER)?.env.as_ref()?;
    let url = env.iter().find(|one| one.name == "DATABASE_URL")?;
    if Some(url) != database_url(server, &Source::of(server)).as_ref() {
        return None;
    }
    template.metadata.as_ref()?.annotations.as_ref()?.get(names::DIGEST_ANNOTATION).cloned()
}

fn container(server: &DittoServer, source: &Source<'_>) -> Container {
    let port = server.spec.control_plane.port;
    let mut env = vec![text("DITTOFS_CONTROLPLANE_PORT", port.to_string())];
    match database_url(server, source) {
        Some(url) => env.extend([text("DITTOFS_DATABASE_TYPE", "postgres"), url]),
        None => env.extend([
            text("DITTOFS_DATABASE_TYPE", "sqlite"),
            text("DITTOFS_DATABASE_SQLITE_PATH", server.spec.database.sqlite.path.clone()),
        ]),
    }
    let mut mounts = vec![mount("metadata", "/data/metadata"), mount("tmp", "/tmp")];
    if server.spec.storage.content_size.is_some() {
        mounts.push(mount("content", "/data/content"));
    }
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(server.spec.image.clone()),
        env: Some(env),
        ports: Some(vec![ContainerPort {
            name: Some("api".to_owned()),
            container_port: port,
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(probe("/health", 10)),
        // Often, because what waits for the server waits for this probe.
        readiness_probe: Some(probe("/health/ready", 2)),
        resources: server.spec.resources.as_ref().map(resources),
        security_context: Some(restricted()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn init_container(server: &DittoServer, source: &Source<'_>, options: &PodOptions) -> Option<Container> {
    let (login, env) = match source {
        Source::Sqlite => return None,
        Source::External(_) => (Login::Url, database_url(server, source).into_iter().collect()),
        Source::Percona => {
            let secret = names::user_secret(server_name(server));
            let keys = [
                ("PGHOST", "host"),
                ("PGPORT", "port"),
                ("PGUSER", "user"),
                ("PGPASSWORD", "password"),
                ("PGDATABASE", "dbname"),
            ];
            (Login::Percona, keys.into_iter().map(|(name, key)| from_secret(name, &secret, key)).collect())
        }
    };
    Some(Container {
        name: names::INIT_CONTAINER.to_owned(),
        image: Some(options.init_image.clone()),
        command: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script(login, options.database_wait)]),
        env: Some(env),
        security_context: Some(restricted()),
        // The last words of the script become the message of `PostgreSQLFailed`.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    })
}

/// `DATABASE_URL`, never optional: a pod without its database must not start.
fn database_url(server: &DittoServer, source: &Source<'_>) -> Option<EnvVar> {
    match source {
        Source::Percona => Some(from_secret("DATABASE_URL", &names::user_secret(server_name(server)), "uri")),
        Source::External(SecretKeyRef { name, key }) => Some(from_secret("DATABASE_URL", name, key)),
        Source::Sqlite => None,
    }
}

fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: None }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn text(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), ..EnvVar::default() }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn probe(path: &str, period_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("api".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// What the `restricted` pod security standard asks of a container.
fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        ..SecurityContext::default()
    }
}

fn resources(resources: &Resources) -> ResourceRequirements {
    ResourceRequirements {
        limits: Some(resources.limits.clone()).filter(|limits| !limits.is_empty()),
        requests: Some(resources.requests.clone()).filter(|requests| !requests.is_empty()),
        ..ResourceRequirements::default()
    }
}

fn claims(server: &DittoServer) -> Vec<PersistentVolumeClaim> {
    let storage = &server.spec.storage;
    let claim = |name: &str, size: &str| PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels(server_name(server))),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size.to_owned()))])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    };
    let metadata = Some(claim("metadata", &storage.metadata_size));
    metadata.into_iter().chain(storage.content_size.iter().map(|size| claim("content", size))).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::server;

    fn options() -> PodOptions {
        PodOptions { init_image: "postgres:16-alpine".to_owned(), database_wait: Duration::from_mins(5) }
    }

    fn built(spec: &str, digest: Option<&str>) -> StatefulSet {
        let mut built = statefulset(&server(spec), &options(), digest);
        // The script has snapshots of its own.
        let pod = built.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        for container in pod.init_containers.iter_mut().flatten() {
            container.command.as_mut().unwrap()[2] = "(script)".to_owned();
        }
        built
    }

    #[test]
    fn a_server_on_percona() {
        insta::assert_yaml_snapshot!(built("percona: {enabled: true}", Some("abc")));
    }

    #[test]
    fn a_server_with_everything() {
        let spec = "image: dittofs:2\nreplicas: 0\ncontrolPlane: {port: 9000}\n\
                    resources: {limits: {cpu: 2, memory: 1Gi}, requests: {cpu: 500m}}\n\
                    database: {type: postgres, postgresSecretRef: {name: db, key: url}}";
        let mut server = server(spec);
        server.spec.storage.content_size = Some("5Gi".to_owned());
        server.spec.storage.storage_class_name = Some("fast".to_owned());
        let built = statefulset(&server, &options(), Some("abc"));
        insta::assert_yaml_snapshot!(built, { ".spec.template.spec.initContainers[].command[2]" => "(script)" });
    }

    #[test]
    fn a_server_on_sqlite_waits_for_nothing() {
        let pod = built("", None).spec.unwrap().template;
        assert_eq!(pod.metadata.unwrap().annotations, None);
        let pod = pod.spec.unwrap();
        assert_eq!(pod.init_containers, None);
        insta::assert_yaml_snapshot!(pod.containers[0].env);
    }

    #[rstest]
    #[case("percona: {enabled: true}")]
    #[case("database: {postgresSecretRef: {name: db, key: url}}")]
    fn no_credential_is_optional(#[case] spec: &str) {
        let text = serde_json::to_string(&built(spec, Some("abc"))).unwrap();
        assert!(text.contains("secretKeyRef"));
        assert!(!text.contains("optional"));
    }

    #[rstest]
    #[case::same("percona: {enabled: true}", Some("abc"))]
    #[case::other("database: {postgresSecretRef: {name: db, key: url}}", None)]
    #[case::none("", None)]
    fn a_digest_is_kept_for_the_same_database_only(#[case] before: &str, #[case] kept: Option<&str>) {
        let existing = built(before, Some("abc"));
        assert_eq!(kept_digest(&existing, &server("percona: {enabled: true}")).as_deref(), kept);
    }

    #[test]
    fn percona_hides_the_other_database() {
        let both = "percona: {enabled: true}\ndatabase: {postgresSecretRef: {name: db, key: url}}";
        assert_eq!(built(both, Some("abc")), built("percona: {enabled: true}", Some("abc")));
    }
}
