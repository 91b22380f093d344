//! `dittofs-operator run`: starts every part, and ends all of them in order.

use std::hash::{BuildHasher as _, RandomState};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, RunArgs};
use crate::fence::Fence;
use crate::leader::{Election, Held};
use crate::reconcile::build::statefulset::PodOptions;
use crate::reconcile::{controller, triggers};
use crate::serve::{self, Metrics, Readiness};
use crate::webhook::certificate::Certificate;
use crate::webhook::{handler, server};

/// How long parts may take to finish what is under way.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the operator until SIGTERM or SIGINT.
pub fn run(args: RunArgs) -> anyhow::Result<()> {
    log(args.log_format)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(start(args))
}

async fn start(args: RunArgs) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let config = config().await?;
    let client = Client::try_from(config.clone()).context("cannot use the cluster's configuration")?;
    let metrics = Metrics::default();
    let mut parts = JoinSet::new();
    let readiness = Readiness::waiting_for(["caches", "webhook"]);

    if args.health_bind_address != "0" {
        let listener = serve::listen("--health-bind-address", &args.health_bind_address).await?;
        parts.spawn(serve::serve(listener, serve::health(readiness.clone()), shutdown.clone()));
    }
    if args.metrics_bind_address != "0" {
        let listener = serve::listen("--metrics-bind-address", &args.metrics_bind_address).await?;
        parts.spawn(serve::serve(listener, serve::metrics(metrics.clone()), shutdown.clone()));
    }
    if let Some(directory) = &args.webhook_cert_dir {
        let certificate = Certificate::load(directory).context("cannot start the webhook (--webhook-cert-dir)")?;
        let listener = serve::listen("--webhook-bind-address", &args.webhook_bind_address).await?;
        let router = handler::router(client.clone(), metrics.clone());
        let shutdown = shutdown.clone();
        parts.spawn(async move {
            server::serve(listener, certificate, router, shutdown).await;
            Ok(())
        });
    }
    readiness.done("webhook");
    parts.spawn(lead(args, config, client, metrics, readiness, shutdown.clone()));

    let result = tokio::select! {
        _ = signals.0.recv() => Ok(()),
        _ = signals.1.recv() => Ok(()),
        Some(ended) = parts.join_next() => ended?.and_then(|()| bail!("a part of the operator ended by itself")),
    };
    tracing::info!("shutting down");
    shutdown.cancel();
    let drained = tokio::time::timeout(DRAIN, async {
        let mut result = result;
        while let Some(ended) = parts.join_next().await {
            result = result.and(ended?);
        }
        result
    });
    drained.await.unwrap_or_else(|_| bail!("not everything ended within {} s", DRAIN.as_secs()))
}

/// Waits for the lease if asked to, and reconciles while it is held.
async fn lead(
    args: RunArgs,
    config: Config,
    client: Client,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let instance = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| format!("pid-{}", std::process::id()));
    // Two processes of one name must not take each other for themselves.
    let identity = format!("{instance}_{:016x}", RandomState::new().hash_one(std::process::id()));
    let fence = Fence::default();
    let election = Election::new(client, &args.lease_namespace, identity, fence.clone());
    let client = fence.client(config).context("cannot use the cluster's configuration")?;
    let held = if args.leader_elect {
        // A candidate that stands by is as ready as it gets.
        readiness.done("caches");
        tracing::info!(namespace = args.lease_namespace, "waiting for the lease");
        tokio::select! {
            held = election.acquire() => Some(held),
            () = shutdown.cancelled() => return Ok(()),
        }
    } else {
        None
    };
    metrics.lead(true);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "reconciling");

    let (store, queue) = triggers::start(&client, move || readiness.done("caches"));
    let pods = PodOptions { init_image: args.init_image, database_wait: args.database_wait_timeout };
    let context = controller::Context::new(client, pods, args.progress_deadline, instance, metrics.clone());
    let context = Arc::new(context);
    let reconciling = controller::run(context, store, queue, shutdown.clone());
    let result = if let Some(held) = held {
        while_held(held, reconciling).await
    } else {
        reconciling.await;
        Ok(())
    };
    metrics.lead(false);
    result
}

/// Reconciles as long as the lease is held; a lost one ends the process at once, because another may reconcile already.
async fn while_held(mut held: Held<'_>, reconciling: impl Future<Output = ()>) -> anyhow::Result<()> {
    tokio::select! {
        reason = held.hold() => bail!("no longer the leader: {reason}"),
        () = reconciling => {}
    }
    held.release().await;
    Ok(())
}

async fn config() -> anyhow::Result<Config> {
    let mut config =
        Config::infer().await.context("no cluster: neither KUBECONFIG nor a service account leads to one")?;
    let agent = concat!("dittofs-operator/", env!("CARGO_PKG_VERSION")).parse()?;
    config.headers.push((axum::http::header::USER_AGENT, agent));
    Ok(config)
}

fn log(format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env()?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
