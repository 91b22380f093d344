//! The node of the clusters' pods: there is no machine behind it.
//!
//! Pods on a node that does not exist are removed by kube-controller-manager, and those on one that gives no sign of life
//! are evicted. So the double registers a node and renews its Lease, as a kubelet does. It is cordoned, and has none of
//! the labels that `DaemonSet`s ask for: nobody else's pods come to it.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;

use super::context::{Context, Kind};
use super::names::NODE;

/// Field manager of the node and its Lease.
const MANAGER: &str = "percona-double";
/// Where nodes keep their Leases.
const LEASES: &str = "kube-node-lease";
/// How often the Lease is renewed, and how long it is good: a kubelet's numbers.
const RENEWAL: Duration = Duration::from_secs(10);
const GOOD_FOR: u64 = 40;

/// Registers the node.
pub(super) async fn register(context: &Context) -> kube::Result<()> {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": {
        "name": NODE, "labels": { "kubernetes.io/hostname": NODE } }, "spec": { "unschedulable": true } });
    let status = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE }, "status": {
        "conditions": [{ "type": "Ready", "status": "True", "reason": "Double", "message": "run by the Percona double" }],
    } });
    let api = context.api(Kind::NODE, "");
    let params = PatchParams::apply(MANAGER).force();
    api.patch(NODE, &params, &Patch::Apply(node)).await?;
    api.patch_status(NODE, &params, &Patch::Apply(status)).await?;
    Ok(())
}

/// Renews the node's Lease until the task is aborted.
pub(super) fn keep_alive(context: std::sync::Arc<Context>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let api = context.api(Kind::LEASE, LEASES);
        let params = PatchParams::apply(MANAGER).force();
        let mut due = tokio::time::interval(RENEWAL);
        loop {
            due.tick().await;
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "namespace": LEASES, "name": NODE },
                "spec": { "holderIdentity": NODE, "leaseDurationSeconds": GOOD_FOR, "renewTime": now },
            });
            if let Err(error) = api.patch(NODE, &params, &Patch::Apply(lease)).await {
                tracing::debug!(%error, "the Lease of the Percona double's node could not be renewed");
            }
        }
    })
}
