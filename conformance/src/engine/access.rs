//! Requests to the API server of which the whole answer matters: status, body, and warnings.
//!
//! `kube`'s own `Api` drops the `Warning` headers, and warnings are part of what is judged.

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::core::{ApiResource, Status};
use serde_json::Value;

use super::secrets;

/// What the API server answered to a request that reached it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The object, or the refusal.
    pub result: Result<Value, Box<Status>>,
    /// The texts of its `Warning` headers.
    pub warnings: Vec<String>,
}

/// Sends `request`.
///
/// # Errors
/// The API server cannot be reached, or its answer cannot be read.
pub async fn send(client: &Client, request: http::Request<Vec<u8>>) -> Result<Answer, kube::Error> {
    let response = client.send(request.map(Body::from)).await?;
    let (head, body) = response.into_parts();
    let warnings = head
        .headers
        .get_all(http::header::WARNING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(|value| warning_text(value).unwrap_or_else(|| value.to_owned()))
        .collect();
    let bytes = body.collect().await?.to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let result = if head.status.is_success() {
        secrets::register(&value);
        Ok(value)
    } else {
        // Not everything in front of an API server answers with a Status.
        Err(Box::new(serde_json::from_value(value).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            Status::failure(&text, "").with_code(head.status.as_u16())
        })))
    };
    Ok(Answer { result, warnings })
}

/// The path of the collection that holds objects of `resource`; `namespace` counts only for namespaced ones.
pub fn collection(resource: &ApiResource, namespaced: bool, namespace: &str) -> String {
    let prefix = if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
    let namespace = if namespaced { format!("/namespaces/{namespace}") } else { String::new() };
    format!("{prefix}/{}{namespace}/{}", resource.version, resource.plural)
}

/// The text of a `Warning` header: `299 - "text"`, with `\` before quotes (RFC 7234, 5.5); a date may follow.
fn warning_text(header: &str) -> Option<String> {
    let mut characters = header.splitn(3, ' ').nth(2)?.strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(r#"299 - "unknown field \"spec.x\"""#, Some(r#"unknown field "spec.x""#))]
    #[case(r#"299 - "deprecated" "Tue, 15 Nov 1994 08:12:31 GMT""#, Some("deprecated"))]
    #[case("garbage", None)]
    fn warnings_are_read_from_their_header(#[case] header: &str, #[case] text: Option<&str>) {
        assert_eq!(warning_text(header).as_deref(), text);
    }

    #[test]
    fn core_kinds_live_under_api() {
        let resource = |group: &str, plural: &str| {
            let version = kube::core::GroupVersionKind::gvk(group, "v1", "X");
            ApiResource::from_gvk_with_plural(&version, plural)
        };
        assert_eq!(collection(&resource("", "secrets"), true, "a"), "/api/v1/namespaces/a/secrets");
        assert_eq!(collection(&resource("apps", "xs"), true, "a"), "/apis/apps/v1/namespaces/a/xs");
        assert_eq!(collection(&resource("", "nodes"), false, "a"), "/api/v1/nodes");
    }
}
