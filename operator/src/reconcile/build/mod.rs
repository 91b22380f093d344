//! Builds every object that belongs to a `DittoServer`. Pure: the same input gives the same bytes.

pub mod cluster;
pub mod services;
pub mod statefulset;
pub mod wait;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::api::{DittoServer, names};

/// Labels by which a server's Service and StatefulSet select its pods. They never change.
pub fn selector(server: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "dittofs".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), server.to_owned()),
    ])
}

/// Labels of every object that this operator makes.
pub fn labels(server: &str) -> BTreeMap<String, String> {
    let mut labels = selector(server);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), names::OPERATOR.to_owned());
    labels
}

/// Metadata of an object named `name` that `server` controls.
fn metadata(server: &DittoServer, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: server.metadata.namespace.clone(),
        labels: Some(labels(server_name(server))),
        owner_references: server
            .controller_owner_ref(&())
            .map(|owner| vec![OwnerReference { block_owner_deletion: Some(true), ..owner }]),
        ..ObjectMeta::default()
    }
}

fn server_name(server: &DittoServer) -> &str {
    server.metadata.name.as_deref().unwrap_or_default()
}
