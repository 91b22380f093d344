//! What the Services and pods of this node are called. Pure.
//!
//! A Service is its name here: the name maps to one ready pod behind it. Nothing is proxied, so that a Service's port
//! must be the port on which its pods listen.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};

use super::address::loopback;

/// The addresses of all names, from every pod of the node and every Service.
pub(super) fn names<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    services: impl IntoIterator<Item = &'a Service>,
) -> BTreeMap<String, IpAddr> {
    let pods: Vec<&Pod> = pods.into_iter().collect();
    let services: Vec<&Service> = services.into_iter().collect();
    let of_pods = pods.iter().filter_map(|pod| Some((pod_name(pod, &services)?, address(pod)?)));
    let of_services = services.iter().filter_map(|service| {
        let mut behind = pods.iter().copied().filter(|pod| selects(service, pod));
        Some((service_name(service)?, behind.find_map(address)?))
    });
    of_pods
        .chain(of_services)
        .flat_map(|(name, address)| [(format!("{name}.cluster.local"), address), (name, address)])
        .collect()
}

/// `<hostname>.<subdomain>.<namespace>.svc`, for pods that have such a name. It comes from the endpoints of the Service that
/// is called as the subdomain, and so is not known without it.
fn pod_name(pod: &Pod, services: &[&Service]) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let (host, subdomain) = (spec.hostname.as_ref()?, spec.subdomain.as_ref()?);
    let governs = |service: &&Service| service.metadata.name.as_ref() == Some(subdomain) && selects(service, pod);
    Some(format!("{host}.{}", service_name(services.iter().copied().find(governs)?)?))
}

fn service_name(service: &Service) -> Option<String> {
    Some(format!("{}.{}.svc", service.metadata.name.as_ref()?, service.metadata.namespace.as_ref()?))
}

fn address(pod: &Pod) -> Option<IpAddr> {
    loopback(pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?)
}

/// Whether traffic to the Service goes to the pod.
fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(spec) = &service.spec else { return false };
    let labels = pod.metadata.labels.as_ref();
    let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
    service.metadata.namespace == pod.metadata.namespace
        && spec.selector.as_ref().is_some_and(|selector| !selector.is_empty() && selector.iter().all(has))
        && (spec.publish_not_ready_addresses == Some(true) || is_ready(pod))
}

fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "JSON literals read better without a reference")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "demo-0", "namespace": "a", "labels": {"app": "demo", "x": "y"}},
            "spec": {"containers": [], "hostname": "demo-0", "subdomain": "demo-headless"},
            "status": {"podIP": "10.64.0.9", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        json_patch::merge(&mut pod, &change);
        serde_json::from_value(pod).unwrap()
    }

    fn service(change: Value) -> Service {
        let mut service = json!({
            "metadata": {"name": "demo-api", "namespace": "a"},
            "spec": {"selector": {"app": "demo"}},
        });
        json_patch::merge(&mut service, &change);
        serde_json::from_value(service).unwrap()
    }

    #[test]
    fn a_ready_pod_has_its_own_name_and_that_of_its_service() {
        let headless = service(json!({"metadata": {"name": "demo-headless"}}));
        let found = names(&[pod(json!({}))], &[service(json!({})), headless]);
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            [
                "demo-0.demo-headless.a.svc",
                "demo-0.demo-headless.a.svc.cluster.local",
                "demo-api.a.svc",
                "demo-api.a.svc.cluster.local",
                "demo-headless.a.svc",
                "demo-headless.a.svc.cluster.local",
            ]
        );
        let listen: IpAddr = "127.64.0.9".parse().unwrap();
        assert!(found.values().all(|address| *address == listen));
    }

    #[rstest]
    #[case::unready(json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}), json!({}), false)]
    #[case::unready_but_published(
        json!({"status": {"conditions": []}}), json!({"spec": {"publishNotReadyAddresses": true}}), true)]
    #[case::going(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), json!({}), false)]
    #[case::other_namespace(json!({}), json!({"metadata": {"namespace": "b"}}), false)]
    #[case::other_label(json!({}), json!({"spec": {"selector": {"app": "other"}}}), false)]
    #[case::one_label_of_two(json!({}), json!({"spec": {"selector": {"z": "z"}}}), false)]
    #[case::no_selector(json!({}), json!({"spec": {"selector": null}}), false)]
    #[case::empty_selector(json!({}), json!({"spec": {"selector": {"app": null}}}), false)]
    #[case::no_address(json!({"status": {"podIP": null}}), json!({}), false)]
    #[case::an_address_of_another_node(json!({"status": {"podIP": "192.168.0.1"}}), json!({}), false)]
    fn a_service_is_reachable_when_a_pod_serves_it(#[case] p: Value, #[case] s: Value, #[case] reachable: bool) {
        let namespace = s.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("a").to_owned();
        let found = names(&[pod(p)], &[service(s)]);
        assert_eq!(found.contains_key(&format!("demo-api.{namespace}.svc")), reachable);
    }

    #[rstest]
    #[case::as_it_should_be(json!({}), json!({}), true)]
    #[case::no_such_service(json!({}), json!({"metadata": {"name": "other"}}), false)]
    #[case::of_another_namespace(json!({}), json!({"metadata": {"namespace": "b"}}), false)]
    #[case::it_selects_others(json!({}), json!({"spec": {"selector": {"app": "other"}}}), false)]
    #[case::unready(json!({"status": {"conditions": []}}), json!({}), false)]
    #[case::unready_but_published(
        json!({"status": {"conditions": []}}), json!({"spec": {"publishNotReadyAddresses": true}}), true)]
    #[case::another_hostname(json!({"spec": {"hostname": "other"}}), json!({}), false)]
    #[case::no_hostname(json!({"spec": {"hostname": null}}), json!({}), false)]
    #[case::no_subdomain(json!({"spec": {"subdomain": null}}), json!({}), false)]
    fn a_pod_has_a_name_when_its_service_leads_to_it(#[case] p: Value, #[case] s: Value, #[case] known: bool) {
        let mut change = json!({"metadata": {"name": "demo-headless"}});
        json_patch::merge(&mut change, &s);
        let found = names(&[pod(p)], &[service(change)]);
        assert_eq!(found.contains_key("demo-0.demo-headless.a.svc"), known);
    }

    #[test]
    fn the_first_ready_pod_serves() {
        let unready = pod(json!({"status": {"conditions": []}}));
        let ready = pod(json!({"metadata": {"name": "demo-1"}, "status": {"podIP": "10.64.0.10"}}));
        let found = names(&[unready, ready], &[service(json!({}))]);
        assert_eq!(found["demo-api.a.svc"], "127.64.0.10".parse::<IpAddr>().unwrap());
    }
}
