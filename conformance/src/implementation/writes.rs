//! What of an operator's requests is a write, and of what.

use http::Method;
use tokio::time::Instant;

/// A write that the API server has carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// When it was asked for.
    pub at: Instant,
    /// Method and path.
    pub what: String,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// By which one of several processes leads.
    Lease,
    /// Which tells of a state and is none.
    Event,
    Object,
}

/// What a request writes; none when it is no write.
pub(super) fn target(method: &Method, path: &str) -> Option<Target> {
    [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method).then(|| match resource(path) {
        Some("leases") => Target::Lease,
        Some("events") => Target::Event,
        _ => Target::Object,
    })
}

/// The resource in a path of the Kubernetes API.
fn resource(path: &str) -> Option<&str> {
    let mut parts = path.trim_start_matches('/').split('/');
    // The version, and before it the group, which `/api` has none of.
    let before = 1 + usize::from(parts.next()? != "api");
    match parts.nth(before)? {
        "namespaces" => parts.nth(1).or(Some("namespaces")),
        resource => Some(resource),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("POST", "/api/v1/namespaces/a/events", Some(Target::Event))]
    #[case("POST", "/apis/events.k8s.io/v1/namespaces/a/events", Some(Target::Event))]
    #[case("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/operator", Some(Target::Lease))]
    #[case("PATCH", "/apis/apps/v1/namespaces/a/statefulsets/leases", Some(Target::Object))]
    #[case("DELETE", "/api/v1/namespaces/events", Some(Target::Object))]
    #[case("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", Some(Target::Object))]
    #[case("GET", "/apis/coordination.k8s.io/v1/namespaces/a/leases/operator", None)]
    fn a_write_has_a_target(#[case] method: &str, #[case] path: &str, #[case] expected: Option<Target>) {
        assert_eq!(target(&method.parse().unwrap(), path), expected);
    }
}
