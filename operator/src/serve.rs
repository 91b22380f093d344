//! Plain HTTP for the cluster: `/healthz`, `/readyz` and Prometheus' `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Counters = Family<[(&'static str, &'static str); 1], Counter<u64, AtomicU64>>;

/// The metrics of this process. Clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciliations: Counters,
    seconds: Histogram,
    admissions: Counters,
    leader: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dittofs_operator");
        let reconciliations = Counters::default();
        registry.register("reconciliations", "Reconciliations by result", reconciliations.clone());
        let seconds = Histogram::new(exponential_buckets(0.005, 2.0, 12));
        registry.register("reconciliation_seconds", "Duration of reconciliations", seconds.clone());
        let admissions = Counters::default();
        registry.register("admissions", "Admission reviews by verdict", admissions.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this process reconciles", leader.clone());
        Self { registry: Arc::new(registry), reconciliations, seconds, admissions, leader }
    }
}

impl Metrics {
    /// Counts a reconciliation.
    pub fn reconciled(&self, ok: bool, took: Duration) {
        self.reconciliations.get_or_create(&[("result", if ok { "ok" } else { "error" })]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts an admission review.
    pub fn admitted(&self, allowed: bool) {
        self.admissions.get_or_create(&[("verdict", if allowed { "allowed" } else { "denied" })]).inc();
    }

    /// Notes whether this process reconciles.
    pub fn lead(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Whether this process can do its work; shared between its parts.
#[derive(Clone, Default)]
pub struct Readiness(Arc<std::sync::RwLock<Vec<&'static str>>>);

impl Readiness {
    /// Ready once every one of `parts` is [`done`](Self::done).
    pub fn waiting_for(parts: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Arc::new(std::sync::RwLock::new(parts.into_iter().collect())))
    }

    /// Notes that `part` is ready.
    pub fn done(&self, part: &'static str) {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|one| *one != part);
    }

    fn missing(&self) -> Vec<&'static str> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Routes of the health server.
pub fn health(readiness: Readiness) -> Router {
    Router::new().route("/healthz", get(async || "ok")).route(
        "/readyz",
        get(async move || {
            let missing = readiness.missing();
            if missing.is_empty() {
                (StatusCode::OK, "ok".to_owned())
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}", missing.join(", ")))
            }
        }),
    )
}

/// Routes of the metrics server.
pub fn metrics(metrics: Metrics) -> Router {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Router::new().route(
        "/metrics",
        get(async move || match metrics.text() {
            Ok(text) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }),
    )
}

/// Opens `address`, named by `flag` in the error.
pub async fn listen(flag: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({flag})"))
}

/// Serves `router` until `shutdown`.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
    Ok(axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await?)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(router: Router, path: &str) -> (StatusCode, String) {
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_is_missing() {
        let readiness = Readiness::waiting_for(["caches", "webhook"]);
        let ask = async |path| get(health(readiness.clone()), path).await;
        assert_eq!(ask("/healthz").await.0, StatusCode::OK);
        assert_eq!(ask("/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "waiting for caches, webhook".to_owned()));
        readiness.done("caches");
        assert_eq!(ask("/readyz").await.1, "waiting for webhook");
        readiness.done("webhook");
        assert_eq!(ask("/readyz").await, (StatusCode::OK, "ok".to_owned()));
    }

    #[tokio::test]
    async fn metrics_count() {
        let counted = Metrics::default();
        counted.reconciled(true, Duration::from_millis(7));
        counted.admitted(false);
        counted.lead(true);
        let (status, text) = get(metrics(counted), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(text);
    }

    /// The page for those who run the operator names each metric.
    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/operator.md");
        let counted = Metrics::default();
        counted.reconciled(true, Duration::ZERO);
        counted.admitted(true);
        let text = counted.text().unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE dittofs_operator_")?.split(' ').next());
        let unnamed: Vec<_> = names.filter(|name| !page.contains(&format!("`{name}"))).collect();
        assert_eq!(unnamed, Vec::<&str>::new());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = listen("--a", "127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = listen("--health-bind-address", &address).await.unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on {address} (--health-bind-address)"));
    }

    #[tokio::test]
    async fn requests_are_served_until_the_shutdown() {
        let shutdown = CancellationToken::new();
        let listener = listen("--a", "127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, health(Readiness::waiting_for([])), shutdown.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with("\r\nok"), "{answer}");
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }
}
