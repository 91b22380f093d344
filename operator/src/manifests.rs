//! What an installation applies: CRD, roles, webhook, Deployment. Pure.
//!
//! The roles hold what the code asks for and nothing else; each rule says where.

use serde_json::{Value, json};

use crate::api::{DittoServer, names};
use crate::leader::LEASE;
use crate::webhook::handler;
use kube::CustomResourceExt;

/// What the manifests depend on.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of the operator.
    pub namespace: String,
    /// Image of the operator.
    pub image: String,
    /// PEM of the CA that signed the webhook's certificate, in base64 as Kubernetes wants it.
    pub ca_bundle: Option<String>,
}

/// Name of the Secret (type `kubernetes.io/tls`) that holds the webhook's certificate.
const WEBHOOK_SECRET: &str = "dittofs-operator-webhook-tls";

/// Name of the Service in front of the webhook.
const WEBHOOK_SERVICE: &str = "dittofs-operator-webhook";

/// The CRD as YAML.
pub fn crd() -> anyhow::Result<String> {
    yaml(&serde_json::to_value(DittoServer::crd())?)
}

/// All manifests as YAML documents, in the order in which they are applied.
pub fn all(options: &Options) -> anyhow::Result<String> {
    let mut documents = vec![namespace(options), serde_json::to_value(DittoServer::crd())?];
    documents.extend(rbac(options));
    documents.extend([deployment(options), service(options), webhook(options)]);
    let texts: anyhow::Result<Vec<_>> = documents.iter().map(yaml).collect();
    Ok(texts?.join("---\n"))
}

fn yaml(value: &Value) -> anyhow::Result<String> {
    Ok(serde_yaml::to_string(value)?.trim_end().to_owned() + "\n")
}

fn labels() -> Value {
    json!({ "app.kubernetes.io/name": names::OPERATOR })
}

fn namespace(options: &Options) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": options.namespace,
            "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
        },
    })
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

fn named(mut rule: Value, name: &str) -> Value {
    rule["resourceNames"] = json!([name]);
    rule
}

/// What the operator may do in the whole cluster.
fn cluster_rules() -> Vec<Value> {
    vec![
        // triggers: list, watch; controller: get.
        rule("dittofs.dittofs.com", &["dittoservers"], &["get", "list", "watch"]),
        // apply::write_status.
        rule("dittofs.dittofs.com", &["dittoservers/status"], &["patch"]),
        // Owner references that block the owner's deletion, where OwnerReferencesPermissionEnforcement is on.
        rule("dittofs.dittofs.com", &["dittoservers/finalizers"], &["update"]),
        // Created once, never changed or deleted.
        rule("pgv2.percona.com", &["perconapgclusters"], &["get", "list", "watch", "create"]),
        // Server-side apply asks for create when the object is new, and for patch always.
        rule("apps", &["statefulsets"], &["get", "list", "watch", "create", "patch"]),
        rule("", &["services"], &["get", "list", "watch", "create", "patch"]),
        // triggers: pods that gave up on their database.
        rule("", &["pods"], &["list", "watch"]),
        // triggers see metadata only, but RBAC cannot tell that apart; dereference and webhook read those that are referenced.
        rule("", &["secrets"], &["get", "list", "watch"]),
        rule("events.k8s.io", &["events"], &["create"]),
        // Whether Percona is installed.
        named(
            rule("apiextensions.k8s.io", &["customresourcedefinitions"], &["get", "list", "watch"]),
            names::PERCONA_CRD,
        ),
    ]
}

/// What the operator may do in its own namespace: leader election. A create cannot be limited to a name.
fn namespace_rules() -> Vec<Value> {
    vec![
        rule("coordination.k8s.io", &["leases"], &["create"]),
        named(rule("coordination.k8s.io", &["leases"], &["get", "list", "watch", "update"]), LEASE),
    ]
}

fn rbac(options: &Options) -> Vec<Value> {
    let rbac = "rbac.authorization.k8s.io";
    let version = format!("{rbac}/v1");
    let metadata = json!({ "name": names::OPERATOR, "labels": labels() });
    let local = json!({ "name": names::OPERATOR, "namespace": options.namespace, "labels": labels() });
    let subjects = json!([{ "kind": "ServiceAccount", "name": names::OPERATOR, "namespace": options.namespace }]);
    let role_ref = |kind: &str| json!({ "apiGroup": rbac, "kind": kind, "name": names::OPERATOR });
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": local }),
        json!({ "apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": cluster_rules() }),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": role_ref("ClusterRole"), "subjects": subjects,
        }),
        json!({ "apiVersion": version, "kind": "Role", "metadata": local, "rules": namespace_rules() }),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": local,
            "roleRef": role_ref("Role"), "subjects": subjects,
        }),
    ]
}

fn deployment(options: &Options) -> Value {
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": "health" }, "periodSeconds": 5 });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": names::OPERATOR, "namespace": options.namespace, "labels": labels() },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels() },
            "template": {
                "metadata": { "labels": labels() },
                "spec": {
                    "serviceAccountName": names::OPERATOR,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "operator",
                        "image": options.image,
                        "args": ["run", "--leader-elect", "--webhook-cert-dir=/tls", "--log-format=json"],
                        "env": [
                            { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                            { "name": "POD_NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
                        ],
                        "ports": [
                            { "name": "webhook", "containerPort": 9443 },
                            { "name": "health", "containerPort": 8081 },
                            { "name": "metrics", "containerPort": 8080 },
                        ],
                        "livenessProbe": probe("/healthz"),
                        "readinessProbe": probe("/readyz"),
                        "resources": { "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "memory": "128Mi" } },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                        "volumeMounts": [{ "name": "tls", "mountPath": "/tls", "readOnly": true }],
                    }],
                    "volumes": [{ "name": "tls", "secret": { "secretName": WEBHOOK_SECRET } }],
                },
            },
        },
    })
}

fn service(options: &Options) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": WEBHOOK_SERVICE, "namespace": options.namespace, "labels": labels() },
        "spec": { "selector": labels(), "ports": [{ "name": "webhook", "port": 443, "targetPort": "webhook" }] },
    })
}

/// The registration. The API server itself passes by what is being deleted, so that a webhook that is down keeps no server
/// from losing its finalizers.
fn webhook(options: &Options) -> Value {
    let mut client_config = json!({
        "service": { "name": WEBHOOK_SERVICE, "namespace": options.namespace, "path": handler::PATH, "port": 443 },
    });
    if let Some(bundle) = &options.ca_bundle {
        client_config["caBundle"] = json!(bundle);
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": names::OPERATOR, "labels": labels() },
        "webhooks": [{
            "name": "dittoservers.dittofs.dittofs.com",
            "clientConfig": client_config,
            "rules": [{
                "apiGroups": ["dittofs.dittofs.com"],
                "apiVersions": ["v1alpha1"],
                "resources": ["dittoservers"],
                "operations": ["CREATE", "UPDATE"],
                "scope": "Namespaced",
            }],
            "matchConditions": [{
                "name": "not-being-deleted",
                "expression": "!has(object.metadata.deletionTimestamp)",
            }],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            namespace: "dittofs-system".to_owned(),
            image: "operator:1".to_owned(),
            ca_bundle: Some("Q0E=".to_owned()),
        }
    }

    #[test]
    fn the_operator_may_do_this() {
        insta::assert_yaml_snapshot!(rbac(&options()));
    }

    #[test]
    fn the_operator_runs_like_this() {
        insta::assert_yaml_snapshot!((deployment(&options()), service(&options()), webhook(&options())));
    }

    #[test]
    fn the_crd_can_be_read_again() {
        let text = crd().unwrap();
        let read: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(read, serde_json::to_value(DittoServer::crd()).unwrap());
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
    }

    #[test]
    fn all_documents_are_there_and_none_is_empty() {
        let text = all(&options()).unwrap();
        let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
        let expected = "Namespace CustomResourceDefinition ServiceAccount ClusterRole ClusterRoleBinding Role RoleBinding \
                        Deployment Service ValidatingWebhookConfiguration";
        assert_eq!(kinds.join(" "), expected);
        assert_eq!(text.matches("\n---\n").count(), kinds.len() - 1);
    }

    #[test]
    fn the_certificate_authority_is_optional() {
        let options = Options { ca_bundle: None, ..options() };
        assert_eq!(webhook(&options)["webhooks"][0]["clientConfig"].get("caBundle"), None);
    }
}
