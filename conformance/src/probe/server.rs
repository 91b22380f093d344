//! The HTTP surface: `/health`, `/health/ready`, `/identity`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::database::{Connection, Database, DatabaseError};

/// `None` when no `DATABASE_URL` was given: the workload is always ready then, and `/identity` says `sqlite`.
type Shared = Option<Arc<Database>>;

/// The answer of `/identity`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Identity {
    Sqlite {},
    Postgres(Box<Connection>),
}

pub(super) fn routes(database: Shared) -> Router {
    Router::new()
        .route("/health", get(async || "alive\n"))
        .route("/health/ready", get(ready))
        .route("/identity", get(identity))
        .with_state(database)
}

async fn ready(State(database): State<Shared>) -> Result<&'static str, DatabaseError> {
    if let Some(database) = database {
        database.check().await?;
    }
    Ok("ready\n")
}

async fn identity(State(database): State<Shared>) -> Result<Json<Identity>, DatabaseError> {
    Ok(Json(match database {
        Some(database) => Identity::Postgres(Box::new(database.identity().await?)),
        None => Identity::Sqlite {},
    }))
}

impl IntoResponse for DatabaseError {
    /// Also says it on the log, where a person looks first when a pod is not ready.
    fn into_response(self) -> Response {
        println!("the database does not answer: {self}");
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use rstest::rstest;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(database: Option<&str>, path: &str) -> (u16, String) {
        let database = database.map(|url| Arc::new(Database::new(url, None).unwrap()));
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes(database).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[rstest]
    #[case("/health", "alive\n")]
    #[case("/health/ready", "ready\n")]
    #[case("/identity", r#"{"type":"sqlite"}"#)]
    #[tokio::test]
    async fn without_a_database_everything_answers(#[case] path: &str, #[case] body: &str) {
        assert_eq!(get(None, path).await, (200, body.to_owned()));
    }

    #[tokio::test]
    async fn without_its_database_it_is_alive_and_not_ready_and_says_why() {
        // The listener is gone at once, so the port refuses.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("postgresql://ditto:hunter2hunter2@127.0.0.1:{port}/ditto");
        assert_eq!(get(Some(&url), "/health").await.0, 200);
        for path in ["/health/ready", "/identity"] {
            let (status, body) = get(Some(&url), path).await;
            assert_eq!(status, 503);
            assert!(body.starts_with("cannot reach 127.0.0.1:") && !body.contains("hunter2"), "{body}");
        }
    }
}
