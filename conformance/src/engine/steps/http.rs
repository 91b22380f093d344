//! `http`: what a Service of the workload answers.

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::again::Again;
use super::expect::mismatched;
use crate::engine::context::Context;
use crate::engine::deadline::Deadline;
use crate::engine::trouble::{Failure, Subject, Trouble};
use crate::engine::watch::Kind;
use crate::scenario::expression::evaluate_text;
use crate::scenario::operations::Http;
use crate::scenario::pattern::Pattern;

/// Asks until status and body are right.
pub async fn http(http: &Http, context: &mut Context, deadline: &Deadline) -> Result<Value, Trouble> {
    let service = evaluate_text(&http.service, &context.bindings)?;
    let path = evaluate_text(&http.path, &context.bindings)?;
    let body = http.body.as_ref().map(|body| Pattern::resolve(body, &context.bindings)).transpose()?;
    let host = format!("{service}.{}.svc", context.namespace);
    let mut again = Again::until(deadline);
    loop {
        let attempt = look(http, &service, &host, &path, body.as_ref(), context);
        if let Some(outcome) = again.attempt(attempt).await {
            return outcome;
        }
    }
}

async fn look(
    http: &Http,
    service: &str,
    host: &str,
    path: &str,
    body: Option<&Pattern>,
    context: &Context,
) -> Result<Value, Trouble> {
    let (status, answer) = ask(context, host, http.port, path).await?;
    let failure = |message: String| Failure::new(format!("GET http://{host}:{}{path} {message}", http.port));
    if status != http.status {
        return Err(failure(format!("answered {status} {answer}, expected {}", http.status)).into());
    }
    let found = body.map(|body| body.mismatches(Some(&answer))).unwrap_or_default();
    if !found.is_empty() {
        let subject = Subject {
            kind: Kind::new("v1", "Service"),
            namespace: Some(context.namespace.clone()),
            name: Some(service.to_owned()),
        };
        let mismatches = mismatched(&subject, &answer, found);
        return Err(Failure { mismatches, ..failure(format!("answered {answer}")) }.into());
    }
    Ok(json!({"status": status, "body": answer}))
}

async fn ask(context: &Context, host: &str, port: u16, path: &str) -> Result<(u16, Value), Failure> {
    let failure =
        |what: &str, error: &dyn std::fmt::Display| Failure::new(format!("http://{host}:{port} {what}: {error}"));
    let stream = context.site.connect(host, port).await.map_err(|error| failure("cannot be reached", &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failure("speaks no HTTP", &error))?;
    let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let request = hyper::Request::get(path)
        .header("host", host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| failure("cannot be asked", &error))?;
    let response = sender.send_request(request).await.map_err(|error| failure("did not answer", &error))?;
    let status = response.status().as_u16();
    let bytes =
        response.into_body().collect().await.map_err(|error| failure("broke off its answer", &error))?.to_bytes();
    drop(driver);
    let text = String::from_utf8_lossy(&bytes);
    Ok((status, serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))))
}
