//! A cluster of the real operator that does not get ready: an admission policy refuses the pods of its PostgreSQL.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::minio::apply;

/// How long the API server may take to learn of a policy.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(30);
/// How often that is tried: nothing tells.
const ASK: Duration = Duration::from_millis(100);
const CRUNCHY: &str = "postgres-operator.crunchydata.com";

/// What selects the pods of a cluster's PostgreSQL.
pub fn selector(cluster: &str) -> String {
    format!("{CRUNCHY}/cluster={cluster},{CRUNCHY}/data=postgres")
}

fn policy_name(namespace: &str, cluster: &str) -> String {
    format!("conformance.{namespace}.{cluster}")
}

/// Returns when no such pod can be made any more.
pub async fn forbid(client: &Client, namespace: &str, cluster: &str) -> anyhow::Result<()> {
    let name = policy_name(namespace, cluster);
    let label = |key: &str| format!("object.metadata.?labels['{CRUNCHY}/{key}'].orValue('')");
    let api_version = "admissionregistration.k8s.io/v1";
    apply(
        client,
        &json!({
            "apiVersion": api_version, "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name },
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                    "resourceRules": [{
                        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
                    }],
                },
                "validations": [{
                    "expression": format!("{} != '{cluster}' || {} != 'postgres'", label("cluster"), label("data")),
                    "message": "a fault of the conformance suite keeps this cluster from getting ready",
                }],
            },
        }),
    )
    .await?;
    apply(
        client,
        &json!({
            "apiVersion": api_version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
            "spec": { "policyName": name, "validationActions": ["Deny"] },
        }),
    )
    .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labels = json!({ format!("{CRUNCHY}/cluster"): cluster, format!("{CRUNCHY}/data"): "postgres" });
    let pod = json!({
        "metadata": { "name": "conformance-fault", "labels": labels },
        "spec": { "containers": [{ "name": "none", "image": "none" }] },
    });
    let pod: Pod = serde_json::from_value(pod)?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let refused = async {
        let mut interval = tokio::time::interval(ASK);
        loop {
            interval.tick().await;
            // Pod security may refuse it as well: only this policy's word counts.
            match pods.create(&dry, &pod).await {
                Err(kube::Error::Api(status)) if status.message.contains(&name) => return,
                _ => {}
            }
        }
    };
    if tokio::time::timeout(IN_FORCE_WITHIN, refused).await.is_err() {
        bail!("the policy {name} is not in force after {} s", IN_FORCE_WITHIN.as_secs());
    }
    Ok(())
}

/// Lets such pods be made again, now and not when their controller next tries.
pub async fn allow(client: &Client, namespace: &str, cluster: &str) -> anyhow::Result<()> {
    let name = policy_name(namespace, cluster);
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    bindings.delete(&name, &DeleteParams::default()).await.with_context(|| format!("deleting the binding {name}"))?;
    policies.delete(&name, &DeleteParams::default()).await.with_context(|| format!("deleting the policy {name}"))?;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let touch = Patch::Merge(json!({ "metadata": { "annotations": { "conformance.dittofs.com/released": name } } }));
    for set in sets.list(&ListParams::default().labels(&selector(cluster))).await? {
        sets.patch(&set.name_any(), &PatchParams::default(), &touch).await?;
    }
    Ok(())
}
