//! kube-apiserver.

use std::path::Path;

use crate::process::Launch;

/// What the audit log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audit {
    /// Who did what when, but no bodies: such a log never holds the content of a Secret.
    #[default]
    Requests,
    /// Also what the API server answered to the writes of those kinds that scenarios wait for, so that a write can be
    /// tied to the version that a watch has shown. Secrets and `ConfigMap`s are not among them. For measurements: bodies
    /// cost time.
    Versions,
}

impl Audit {
    /// The policy file.
    ///
    /// Left out: health checks, and what the control plane reads to keep itself going. Its writes are kept.
    pub(super) fn policy(self) -> String {
        let versions = match self {
            Self::Requests => "",
            Self::Versions => VERSIONS,
        };
        format!("{HEAD}{versions}  - level: Metadata\n")
    }
}

const HEAD: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    nonResourceURLs: [/readyz*, /livez*, /healthz*, /version, /openapi*]
  - level: None
    users: [system:apiserver]
  - level: None
    users: [system:kube-controller-manager]
    verbs: [get, list, watch]
";

const VERSIONS: &str = "  \
  - level: RequestResponse
    omitManagedFields: true
    verbs: [create, update, patch]
    resources:
      - group: \"\"
        resources: [pods, pods/status, services, persistentvolumeclaims]
      - group: apps
      - group: dittofs.dittofs.com
      - group: pgv2.percona.com
";

/// The address range of Services; the addresses are given out and never used.
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// The API server on 127.0.0.1:`port`, with the files of [`super::plane`] in `directory`.
///
/// Slower and unneeded here: priority and fairness, profiling, the Endpoints of the `kubernetes` Service (the API server
/// refuses its own loopback address there).
pub(super) fn launch(binary: &Path, directory: &Path, port: u16) -> Launch {
    let file = |name: &str| directory.join(name).display().to_string();
    Launch::new("kube-apiserver", binary)
        .arg(format!("--etcd-servers=unix://{}", super::etcd::socket(directory).display()))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--secure-port={port}"))
        .arg(format!("--tls-cert-file={}", file("pki/server.crt")))
        .arg(format!("--tls-private-key-file={}", file("pki/server.key")))
        .arg(format!("--client-ca-file={}", file("pki/ca.crt")))
        .arg("--anonymous-auth=false")
        .arg("--authorization-mode=RBAC")
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!("--service-account-key-file={}", file("pki/service-account.pub")))
        .arg(format!("--service-account-signing-key-file={}", file("pki/service-account.key")))
        .arg(format!("--service-cluster-ip-range={SERVICE_RANGE}"))
        .arg("--endpoint-reconciler-type=none")
        .arg("--enable-priority-and-fairness=false")
        .arg("--profiling=false")
        .arg("--delete-collection-workers=8")
        .arg(format!("--audit-policy-file={}", file("audit-policy.yaml")))
        .arg(format!("--audit-log-path={}", file("audit.log")))
        // In MiB: never rotated, so that what has been read stays where it was.
        .arg("--audit-log-maxsize=1048576")
        .envs(super::memory::collect_rarely(700))
        .directory(directory)
        .log(directory.join("kube-apiserver.log"))
}
