//! Drives the pipeline: one reconciliation at a time for each server, several servers at once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, Unit};
use kube::api::DynamicObject;
use kube::runtime::controller::{Action, Config, Error as ControllerError, ReconcileRequest};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::apply::{self, Applied, ApplyError};
use super::build::statefulset::PodOptions;
use super::deadline::{self, Wait};
use super::gate::{self, Cluster, Facts, Source};
use super::status::{self, Failure, Notice, Seen};
use super::triggers::Queue;
use super::validate::validate;
use super::{dereference, events};
use crate::api::{DittoServer, DittoServerStatus, Phase};
use crate::serve::Metrics;

/// What every reconciliation uses.
pub struct Context {
    client: Client,
    pods: PodOptions,
    /// How long a server may wait for its database before the status says what to look at.
    progress_deadline: Duration,
    /// This process, in events.
    instance: String,
    metrics: Metrics,
    applied: Applied,
    /// How often in a row the reconciliation of a server failed.
    failures: Mutex<HashMap<ObjectRef<DittoServer>, u32>>,
}

/// A reconciliation failed and is tried again.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] kube::Error);

impl Context {
    /// Collects what every reconciliation uses.
    pub fn new(
        client: Client,
        pods: PodOptions,
        progress_deadline: Duration,
        instance: String,
        metrics: Metrics,
    ) -> Self {
        let (applied, failures) = (Applied::default(), Mutex::default());
        Self { client, pods, progress_deadline, instance, metrics, applied, failures }
    }

    /// Forgets a server that is gone.
    fn forget(&self, gone: &ObjectRef<DynamicObject>) {
        let server = ObjectRef::new(&gone.name).within(gone.namespace.as_deref().unwrap_or_default());
        self.failures(server.clone(), false);
        self.applied.forget(&server);
    }

    /// Counts one more failure, or forgets all.
    fn failures(&self, server: ObjectRef<DittoServer>, failed: bool) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            failures.remove(&server);
            return 0;
        }
        let count = failures.entry(server).or_default();
        *count += 1;
        *count
    }
}

/// Reconciles until `shutdown`, then finishes what is under way.
pub async fn run(context: Arc<Context>, store: Store<DittoServer>, queue: Queue, shutdown: CancellationToken) {
    let queue = queue.map(|server| Ok::<_, Infallible>(ReconcileRequest::from(server)));
    kube::runtime::applier(
        |server, context| measured(server, context).boxed(),
        |server, error, context| {
            let count = context.failures(ObjectRef::from_obj(&*server), true);
            let delay = backoff(count);
            let (name, namespace) = (server.name_any(), server.namespace().unwrap_or_default());
            tracing::warn!(%error, server = %name, %namespace, count, ?delay, "reconciliation failed");
            Action::requeue(delay)
        },
        context.clone(),
        store,
        queue.take_until(shutdown.cancelled_owned()).boxed(),
        Config::default().concurrency(16),
    )
    .for_each(async |result| {
        match result {
            Err(ControllerError::RunnerError(error)) => tracing::error!(%error, "the controller's store is gone"),
            Err(ControllerError::ObjectNotFound(gone)) => context.forget(&gone),
            // A failure is logged by the policy above.
            _ => {}
        }
    })
    .await;
}

/// Half a second, doubling up to a minute.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis(500 << failures.saturating_sub(1).min(7)).min(Duration::from_mins(1))
}

async fn measured(server: Arc<DittoServer>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let result = Box::pin(reconcile(&server, &context)).await;
    context.metrics.reconciled(result.is_ok(), started.elapsed());
    let again = result?;
    context.failures(ObjectRef::from_obj(&*server), false);
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Brings one server to where it should be, and says when to look again though nothing changes.
async fn reconcile(cached: &DittoServer, context: &Context) -> Result<Option<Duration>, Error> {
    let client = &context.client;
    // Read again: a cache that lags would repeat events and move transition times.
    let servers: Api<DittoServer> = Api::namespaced(client.clone(), &cached.namespace().unwrap_or_default());
    let Some(server) = servers.get_opt(&cached.name_any()).await? else { return Ok(None) };
    if server.metadata.deletion_timestamp.is_some() {
        let status = status::halted(&server, Phase::Deleting, "Deleting", "the server is being deleted", &now());
        return finish(context, &server, status).await.map(|()| None);
    }
    let errors = validate(&server.spec);
    if !errors.is_empty() {
        let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let status = status::halted(&server, Phase::Failed, "InvalidSpec", &message, &now());
        return finish(context, &server, status).await.map(|()| None);
    }

    let mut facts = dereference::facts(client, &server).await?;
    let mut refused = create_missing(context, &server, &mut facts).await?;
    let verdict = gate::judge(&server, &facts);

    let mut failure = None;
    match apply::apply_services(client, &context.applied, &server).await {
        Ok(()) => {}
        Err(ApplyError::Api(error)) => return Err(error.into()),
        Err(ApplyError::Refused(why, error)) => (failure, refused) = (Some(why), Some(error)),
    }
    let existing = if verdict.ready { None } else { dereference::workload(client, &server).await? };
    let applied = apply::apply_workload(client, &context.applied, &server, &context.pods, &verdict, existing).await;
    let workload = match applied {
        Ok(workload) => workload,
        Err(ApplyError::Api(error)) => return Err(error.into()),
        Err(ApplyError::Refused(why, error)) => {
            (failure, refused) = (Some(why), Some(error));
            dereference::workload(client, &server).await?
        }
    };
    if let (Some(workload), None) = (&workload, &failure) {
        let gave_up = dereference::gave_up(client, &server, workload).await?;
        failure = gave_up.map(|message| Failure { reason: "PostgreSQLFailed", message });
    }

    let now = now();
    let wait = deadline::judge(&server, &facts, &verdict, context.progress_deadline, &now);
    let again = if let Some(Wait::Within(left)) = wait { Some(left) } else { None };
    let seen = Seen {
        server: &server,
        facts: &facts,
        verdict: &verdict,
        workload: workload.as_ref(),
        failure: failure.as_ref(),
        wait,
    };
    finish(context, &server, status::next(&seen, &now)).await?;
    // Tried again, less and less often: nothing tells when a quota has room.
    refused.map_or(Ok(again), |error| Err(error.into()))
}

/// Creates the cluster where it is missing. The result is the answer of an API server that refuses it.
async fn create_missing(
    context: &Context,
    server: &DittoServer,
    facts: &mut Facts,
) -> Result<Option<kube::Error>, Error> {
    let (Source::Percona, Cluster::NotFound, Some(percona)) =
        (Source::of(server), &facts.cluster, &server.spec.percona)
    else {
        return Ok(None);
    };
    match apply::create_cluster(&context.client, server, percona).await {
        Ok(created) => facts.cluster = created,
        Err(kube::Error::Api(response)) if apply::is_refused(&response) => {
            facts.cluster = Cluster::Refused(response.message.clone());
            return Ok(Some(kube::Error::Api(response)));
        }
        Err(error) => return Err(error.into()),
    }
    if matches!(facts.cluster, Cluster::Ours(_)) {
        report_recreated(context, server).await;
    }
    Ok(None)
}

/// A cluster that the status names was there before.
async fn report_recreated(context: &Context, server: &DittoServer) {
    let Some(name) = server.status.as_ref().and_then(|status| status.percona_cluster_name.as_ref()) else { return };
    let note = format!(
        "PerconaPGCluster {name} was gone and is created again; unless its volumes were deleted too, the data returns with them"
    );
    let notice = Notice { warning: true, reason: "PerconaPGClusterRecreated", note };
    events::publish(&context.client, &context.instance, server, &notice).await;
}

/// Writes the status when it changed, and publishes what the change means.
///
/// In this order: an event that is lost with the process is better than one that comes twice.
async fn finish(context: &Context, server: &DittoServer, after: DittoServerStatus) -> Result<(), Error> {
    if server.status.as_ref().is_some_and(|before| status::same(before, &after)) {
        return Ok(());
    }
    apply::write_status(&context.client, server, &after).await?;
    for notice in status::notices(server, &after) {
        events::publish(&context.client, &context.instance, server, &notice).await;
    }
    Ok(())
}

/// To the second, as Kubernetes writes times.
fn now() -> Time {
    let now = Timestamp::now();
    Time(now.round(Unit::Second).unwrap_or(now))
}

#[cfg(test)]
mod tests;
