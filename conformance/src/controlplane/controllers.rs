//! kube-controller-manager.

use std::path::Path;

use crate::process::Launch;

/// The controllers that run. Missing on purpose: all that judge nodes (the doubles send no heartbeats), that provision
/// or bind volumes (the node double does) or that need a cloud.
const CONTROLLERS: [&str; 18] = [
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
];

/// The controller manager. It serves no port, and its client is not throttled: scenarios should wait for the operator
/// under test, not for a rate limit.
pub(super) fn launch(binary: &Path, directory: &Path) -> Launch {
    let file = |name: &str| directory.join(name).display().to_string();
    Launch::new("kube-controller-manager", binary)
        .arg(format!("--kubeconfig={}", file("controllers.kubeconfig")))
        .arg(format!("--root-ca-file={}", file("pki/ca.crt")))
        .arg(format!("--service-account-private-key-file={}", file("pki/service-account.key")))
        .arg(format!("--controllers={}", CONTROLLERS.join(",")))
        .arg("--leader-elect=false")
        .arg("--secure-port=0")
        .arg("--profiling=false")
        .arg("--kube-api-qps=1000")
        .arg("--kube-api-burst=2000")
        .arg("--concurrent-gc-syncs=20")
        .arg("--concurrent-namespace-syncs=20")
        .envs(super::memory::collect_rarely(200))
        .directory(directory)
        .log(directory.join("kube-controller-manager.log"))
}
