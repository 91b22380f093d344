//! What scenarios can do in a cluster that is there.
//!
//! Asking is separate from deciding, which is pure.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::environment::{Capabilities, Capability};

/// The CRD of the operator under test, and Percona's that it needs.
pub(super) const SERVERS: &str = "dittoservers.dittofs.dittofs.com";
const CLUSTERS: &str = "perconapgclusters.pgv2.percona.com";

/// What of the requisites is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent of each other")]
pub struct Seen {
    /// The CRD of the operator under test.
    pub servers: bool,
    /// Percona's CRD.
    pub percona: bool,
    /// A node that is ready.
    pub nodes: bool,
    /// A validating webhook for the operator's resource.
    pub webhook: bool,
}

impl Seen {
    /// Looks at the cluster.
    pub async fn look(client: &Client) -> kube::Result<Self> {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let nodes: Api<Node> = Api::all(client.clone());
        let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
        let every = ListParams::default();
        let (servers, percona, nodes, webhooks) = tokio::try_join!(
            definitions.get_metadata_opt(SERVERS),
            definitions.get_metadata_opt(CLUSTERS),
            nodes.list(&every),
            webhooks.list(&every),
        )?;
        let ready = |node: &Node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let validates = |configuration: &ValidatingWebhookConfiguration| {
            let rules = configuration.webhooks.iter().flatten().flat_map(|webhook| webhook.rules.iter().flatten());
            let mut groups = rules.flat_map(|rule| rule.api_groups.iter().flatten());
            groups.any(|group| SERVERS.ends_with(&format!(".{group}")))
        };
        Ok(Self {
            servers: servers.is_some(),
            percona: percona.is_some(),
            nodes: nodes.items.iter().any(ready),
            webhook: webhooks.items.iter().any(validates),
        })
    }

    /// What is absent, and why.
    pub fn capabilities(self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        let mut absent = |capability, reason: &str| drop(capabilities.absent.insert(capability, reason.to_owned()));
        if !self.percona {
            absent(Capability::Percona, "the cluster has no PerconaPGCluster: install the Percona Operator in it");
        }
        if !self.nodes {
            absent(Capability::Pods, "no node of the cluster is ready");
        }
        if !self.webhook {
            absent(Capability::Webhook, "the cluster has no validating webhook for DittoServers");
        }
        for capability in [Capability::S3, Capability::S3Control, Capability::Backups, Capability::Databases] {
            absent(capability, "nothing is started beside an existing cluster; use --env kind or embedded");
        }
        for capability in [Capability::OperatorControl, Capability::PerconaControl, Capability::ControlPlanes] {
            absent(capability, "nothing is stopped or removed in an existing cluster; use --env kind or embedded");
        }
        let direct =
            "the operator of an existing cluster talks to its API server without us in between; use --env embedded";
        absent(Capability::OperatorRequests, direct);
        absent(Capability::LeaderElection, direct);
        absent(
            Capability::PreviousRelease,
            "the operator of an existing cluster is the one that is in it; use --env embedded",
        );
        absent(Capability::AuditLog, "the audit log of an existing cluster is not reached through its API server");
        absent(Capability::NetworkPolicy, "whether the cluster's network enforces policies is not known");
        capabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent(percona: bool, nodes: bool, webhook: bool) -> Vec<Capability> {
        Seen { servers: true, percona, nodes, webhook }.capabilities().absent.into_keys().collect()
    }

    #[test]
    fn what_the_cluster_has_can_be_used_and_nothing_is_broken_in_it() {
        let never = [
            Capability::S3,
            Capability::Backups,
            Capability::Databases,
            Capability::OperatorControl,
            Capability::OperatorRequests,
            Capability::LeaderElection,
            Capability::PreviousRelease,
            Capability::PerconaControl,
            Capability::S3Control,
            Capability::ControlPlanes,
            Capability::AuditLog,
            Capability::NetworkPolicy,
        ];
        assert_eq!(absent(true, true, true), never);
        let (head, tail) = (absent(false, false, false), never);
        assert_eq!(head[..3], [Capability::Percona, Capability::Pods, Capability::Webhook]);
        assert_eq!(head[3..], tail);
    }
}
