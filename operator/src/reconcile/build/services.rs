//! The two Services of a server.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, selector, server_name};
use crate::api::{DittoServer, names};

/// The Service that governs the StatefulSet: a name for the pod, ready or not.
pub fn headless(server: &DittoServer) -> Service {
    service(
        server,
        names::headless_service(server_name(server)),
        ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        },
    )
}

/// The Service of the control plane's API.
pub fn api(server: &DittoServer) -> Service {
    service(server, names::api_service(server_name(server)), ServiceSpec::default())
}

fn service(server: &DittoServer, name: String, spec: ServiceSpec) -> Service {
    Service {
        metadata: metadata(server, name),
        spec: Some(ServiceSpec {
            selector: Some(selector(server_name(server))),
            ports: Some(vec![ServicePort {
                name: Some("api".to_owned()),
                port: server.spec.control_plane.port,
                target_port: Some(IntOrString::String("api".to_owned())),
                ..ServicePort::default()
            }]),
            ..spec
        }),
        ..Service::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::server;

    #[test]
    fn both_services() {
        let server = server("controlPlane: {port: 9000}");
        insta::assert_yaml_snapshot!((super::headless(&server), super::api(&server)));
    }
}
