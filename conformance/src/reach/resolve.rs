//! What is behind a host name.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// Names of hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a port of a pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The port on which a container listens.
        port: u16,
    },
    /// To a Service, by its address: it has to be resolved in turn.
    Service {
        /// Its address in the cluster.
        address: IpAddr,
        /// Its port.
        port: u16,
    },
    /// To an address outside of the cluster.
    Outside(SocketAddr),
}

/// Reads a host name.
pub fn name(host: &str) -> Option<Name> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host.strip_suffix(".cluster.local").unwrap_or(host).strip_suffix(".svc")?;
    let owned = |text: &&str| (*text).to_owned();
    match host.split('.').collect::<Vec<_>>().as_slice() {
        [name, namespace] => Some(Name::Service { namespace: owned(namespace), name: owned(name) }),
        [pod, _service, namespace] => Some(Name::Pod { namespace: owned(namespace), name: owned(pod) }),
        _ => None,
    }
}

/// The first ready endpoint of a Service, for connections to its `port`. The address of a Service is recognized by `services`,
/// that of a pod by `pods`, and those of this machine by `is_here`.
///
/// # Errors
/// Says why there is none.
pub fn target(
    service: &Service,
    port: u16,
    slices: &[EndpointSlice],
    services: &[Service],
    pods: &[Pod],
    is_here: impl Fn(IpAddr) -> bool,
) -> Result<Target, String> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).map(Vec::as_slice).unwrap_or_default();
    let offered = ports.iter().find(|offered| offered.port == i32::from(port));
    let headless = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    if offered.is_none() && !headless {
        let known: Vec<String> = ports.iter().map(|offered| offered.port.to_string()).collect();
        return Err(format!("it has no port {port}, but {}", known.join(", ")));
    }
    let port_name = offered.and_then(|offered| offered.name.as_deref()).unwrap_or_default();
    let ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true);
    let found = slices.iter().find_map(|slice| {
        let endpoint = slice.endpoints.iter().find(ready)?;
        let ports = slice.ports.as_deref().unwrap_or_default();
        let behind = ports.iter().find(|behind| behind.name.as_deref().unwrap_or_default() == port_name);
        // The name of a headless Service leads to its endpoints at the port that was asked for.
        let port = if headless { Some(port) } else { behind?.port.and_then(|port| u16::try_from(port).ok()) };
        Some((endpoint, port?))
    });
    let Some((endpoint, port)) = found else { return Err("it has no ready endpoint".to_owned()) };
    let address = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok());
    let address = address.ok_or_else(|| "its endpoint has no address".to_owned())?;
    // Before anything else: a pod may be run by this machine itself.
    if is_here(address) {
        return Ok(Target::Outside(SocketAddr::new(address, port)));
    }
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    if let Some(pod) = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod")) {
        return Ok(Target::Pod { namespace, name: pod.name.clone().unwrap_or_default(), port });
    }
    let text = address.to_string();
    if services.iter().any(|other| other.spec.as_ref().and_then(|spec| spec.cluster_ip.as_ref()) == Some(&text)) {
        return Ok(Target::Service { address, port });
    }
    let with_address = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()) == Some(&text);
    Ok(match pods.iter().find(with_address) {
        Some(pod) => Target::Pod { namespace, name: pod.metadata.name.clone().unwrap_or_default(), port },
        None => Target::Outside(SocketAddr::new(address, port)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(cluster_ip: &str, port: &Value) -> Service {
        serde_json::from_value(json!({ "metadata": { "namespace": "a", "name": "s" },
            "spec": { "clusterIP": cluster_ip, "ports": [port] } }))
        .unwrap()
    }

    fn slice(endpoint: &Value, port: u16) -> Vec<EndpointSlice> {
        let slice = json!({ "metadata": {}, "addressType": "IPv4", "endpoints": [endpoint],
            "ports": [{ "name": "main", "port": port }] });
        vec![serde_json::from_value(slice).unwrap()]
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": { "podIP": "10.244.0.7" } })).unwrap()
    }

    fn main_port(port: u16) -> Value {
        json!({ "name": "main", "port": port })
    }

    fn resolved(service: &Service, port: u16, slices: &[EndpointSlice]) -> Result<Target, String> {
        let services = [self::service("10.96.0.9", &main_port(5432))];
        target(service, port, slices, &services, &[pod()], |address| address.to_string() == "172.18.0.1")
    }

    #[rstest::rstest]
    #[case("demo-api.a.svc", Some(Name::Service { namespace: "a".into(), name: "demo-api".into() }))]
    #[case("demo-api.a.svc.cluster.local", Some(Name::Service { namespace: "a".into(), name: "demo-api".into() }))]
    #[case("demo-0.demo.a.svc", Some(Name::Pod { namespace: "a".into(), name: "demo-0".into() }))]
    #[case("example.com", None)]
    #[case("a.svc", None)]
    fn host_names_are_those_of_the_cluster_s_dns(#[case] host: &str, #[case] expected: Option<Name>) {
        assert_eq!(name(host), expected);
    }

    #[rstest::rstest]
    #[case::of_a_pod(json!({ "addresses": ["10.244.0.7"], "targetRef": { "kind": "Pod", "name": "p" } }),
        Ok(Target::Pod { namespace: "a".into(), name: "p".into(), port: 8080 }))]
    #[case::of_a_pod_by_its_address(json!({ "addresses": ["10.244.0.7"] }),
        Ok(Target::Pod { namespace: "a".into(), name: "p".into(), port: 8080 }))]
    #[case::of_a_pod_on_this_machine(json!({ "addresses": ["172.18.0.1"], "targetRef": { "kind": "Pod", "name": "p" } }),
        Ok(Target::Outside("172.18.0.1:8080".parse().unwrap())))]
    #[case::of_another_service(json!({ "addresses": ["10.96.0.9"] }),
        Ok(Target::Service { address: "10.96.0.9".parse().unwrap(), port: 8080 }))]
    #[case::elsewhere(json!({ "addresses": ["172.18.0.3"] }), Ok(Target::Outside("172.18.0.3:8080".parse().unwrap())))]
    #[case::not_ready(json!({ "addresses": ["10.244.0.7"], "conditions": { "ready": false } }),
        Err("it has no ready endpoint".into()))]
    fn an_endpoint_is_a_pod_a_service_or_something_else(
        #[case] endpoint: Value,
        #[case] expected: Result<Target, String>,
    ) {
        assert_eq!(resolved(&service("10.96.0.1", &main_port(80)), 80, &slice(&endpoint, 8080)), expected);
    }

    #[test]
    fn a_port_must_be_offered_unless_the_service_is_headless() {
        let endpoint = json!({ "addresses": ["10.244.0.7"] });
        let refused = resolved(&service("10.96.0.1", &main_port(80)), 81, &slice(&endpoint, 8080));
        assert_eq!(refused.unwrap_err(), "it has no port 81, but 80");
        let pod = Target::Pod { namespace: "a".into(), name: "p".into(), port: 81 };
        assert_eq!(resolved(&service("None", &main_port(80)), 81, &slice(&endpoint, 8080)), Ok(pod));
    }
}
