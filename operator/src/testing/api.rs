//! An API server for tests of single requests: it keeps nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use kube::Client;
use serde_json::{Value, json};

/// Gives the answers that it was told, and remembers what it was asked. Without an answer nothing is found, a write is
/// answered with what was written, and one of a status with the object.
#[derive(Clone, Default)]
pub(crate) struct ApiServer {
    /// By `METHOD path`.
    answers: Arc<BTreeMap<&'static str, (u16, Value)>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl ApiServer {
    pub(crate) fn answering<const N: usize>(answers: [(&'static str, u16, Value); N]) -> Self {
        let answers = answers.map(|(request, code, body)| (request, (code, body)));
        Self { answers: Arc::new(answers.into()), asked: Arc::default() }
    }

    pub(crate) fn client(&self) -> Client {
        let answer = async |State(server): State<Self>, method: Method, uri: Uri, body: Bytes| {
            server.answer(&method, &uri, &body)
        };
        Client::new(Router::new().fallback(answer).with_state(self.clone()), "default")
    }

    /// What it was asked since the last call: `METHOD path?query`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.take().into_iter().map(|(request, _)| request).collect()
    }

    /// The same with what was sent.
    pub(crate) fn sent(&self) -> Vec<(String, Value)> {
        self.take().into_iter().filter(|(_, body)| !body.is_null()).collect()
    }

    /// Both, also of requests without a body.
    pub(crate) fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer(&self, method: &Method, uri: &Uri, body: &[u8]) -> Response {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let request = format!("{method} {uri}");
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((request, body.clone()));
        let of_object = uri.path().strip_suffix("/status").map(|path| format!("GET {path}"));
        let told = self.answers.get(&*format!("{method} {}", uri.path()));
        let (code, answer) = match told.or_else(|| self.answers.get(&*of_object?)) {
            Some((code, answer)) => (*code, answer.clone()),
            None if body.is_null() => (404, not_found()),
            None => (200, body),
        };
        (StatusCode::from_u16(code).expect("a status"), Json(answer)).into_response()
    }
}

/// What is answered about an object that does not exist.
fn not_found() -> Value {
    failure("NotFound", 404, "not found")
}

/// A `Status` of Kubernetes that tells of a failure.
pub(crate) fn failure(reason: &str, code: u16, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message })
}
