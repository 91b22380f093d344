//! Runs one pod: does what the [`lifecycle`](super::lifecycle) decides, and writes down what became of it.

mod ending;
mod preparing;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use super::address::Address;
use super::check::{self, Outcome, Purpose, Subject};
use super::lifecycle::Lifecycle;
use super::logs;
use super::slot::Termination;
use super::status::StatusWriter;
use super::{Context, FIELD_MANAGER, NODE_ADDRESS};
use crate::process::{Process, SpawnError};
use crate::redact::redact;

/// Until a write that the API server refused is tried again, unless the pod changes before.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Exit code and reason of a container whose program cannot be executed, as containerd gives them.
const START_ERROR: (i32, &str) = (128, "StartError");

enum Message {
    Ended { index: usize, status: ExitStatus },
    Asked { index: usize, run: u32, purpose: Purpose, outcome: Outcome },
}

/// A running container.
struct Running {
    run: u32,
    process: Arc<Process>,
    since: Timestamp,
    log: PathBuf,
    subject: Subject,
    stopping: bool,
    /// Its probes; they end with it.
    probes: JoinSet<()>,
}

pub(super) struct Worker {
    context: Arc<Context>,
    api: Api<Pod>,
    pod: Pod,
    address: Address,
    directory: PathBuf,
    lifecycle: Lifecycle,
    /// Why volumes could not be set up, as events have told.
    told: BTreeSet<String>,
    running: BTreeMap<usize, Running>,
    status: StatusWriter,
    written: Value,
    write_failed: bool,
    deleted: bool,
    messages: (mpsc::UnboundedSender<Message>, mpsc::UnboundedReceiver<Message>),
    configuration: broadcast::Receiver<String>,
    /// Waits for ends, and stops under way.
    tasks: JoinSet<()>,
}

impl Worker {
    /// Fails when the pod can have no address or no directory.
    pub(super) fn new(context: Arc<Context>, pod: Pod) -> anyhow::Result<Self> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let spec = pod.spec.clone().unwrap_or_default();
        let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
        let ports: Vec<u16> = ports.filter_map(|port| port.container_port.try_into().ok()).collect();
        let address = context
            .addresses
            .take(&ports)
            .ok_or_else(|| anyhow::anyhow!("no loopback address from 127.64.0.0/10 is free for ports {ports:?}"))?;
        let directory = logs::pod_directory(&context.directory, &namespace, &name, &pod.uid().unwrap_or_default());
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            std::fs::create_dir_all(directory.join(&container.name))?;
        }
        let now = Timestamp::now();
        Ok(Self {
            api: Api::namespaced(context.client.clone(), &namespace),
            lifecycle: Lifecycle::new(&spec, context.back_off),
            status: StatusWriter::new(address.pod(), now),
            configuration: context.configuration.subscribe(),
            context,
            pod,
            address,
            directory,
            told: BTreeSet::new(),
            running: BTreeMap::new(),
            written: Value::Null,
            write_failed: false,
            deleted: false,
            messages: mpsc::unbounded_channel(),
            tasks: JoinSet::new(),
        })
    }

    /// Runs the pod until it is gone from the API server or the node stops; then nothing of it runs any more.
    pub(super) async fn run(mut self, mut pods: watch::Receiver<Pod>) {
        let shutdown = self.context.shutdown.clone();
        loop {
            let Some(wake) = shutdown.run_until_cancelled(self.advance()).await else { break };
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(message) = self.messages.1.recv() => self.note(message).await,
                changed = pods.changed() => {
                    let Ok(()) = changed else { break };
                    self.pod = pods.borrow_and_update().clone();
                }
                change = self.configuration.recv(), if self.lifecycle.wants_configuration() => {
                    // A message that was missed may have been the one that counts.
                    if change.is_err() || change.ok() == self.pod.namespace() {
                        self.lifecycle.configuration_changed();
                    }
                }
                Some(_) = self.tasks.join_next() => (),
                () = tokio::time::sleep(wake.unwrap_or(Duration::MAX)), if wake.is_some() => (),
            }
        }
        // Without a pod object there is nothing to be graceful for: the API server waited, or was told not to.
        for container in self.running.values() {
            container.process.kill().await;
        }
    }

    /// Does what is due, writes the status, and says when something will be due next.
    async fn advance(&mut self) -> Option<Duration> {
        if self.pod.metadata.deletion_timestamp.is_some() && !self.lifecycle.is_terminating() {
            self.lifecycle.terminate();
            self.stop_all();
        }
        let plan = loop {
            let plan = self.lifecycle.plan(Timestamp::now());
            if plan.set_up {
                self.set_up_volumes().await;
            }
            for &index in &plan.start {
                self.start(index).await;
            }
            if plan.start.is_empty() && !plan.set_up {
                break plan;
            }
        };
        for index in plan.stop {
            self.stop(index, self.grace());
        }
        self.write_status().await;
        if self.lifecycle.is_terminating() && self.lifecycle.is_over() && !self.write_failed && !self.deleted {
            self.delete().await;
        }
        let due = plan.wake.map(|wake| Duration::try_from(wake - Timestamp::now()).unwrap_or_default());
        let again = self.write_failed.then_some(WRITE_AGAIN);
        [due, again].into_iter().flatten().min()
    }

    async fn start(&mut self, index: usize) {
        let now = Timestamp::now();
        let container = self.lifecycle.slots[index].spec.clone();
        let reference = container.image.clone().unwrap_or_default();
        let Some(image) = self.context.images.find(&reference).cloned() else {
            self.lifecycle.lacks_image(index, now);
            return self.warn("Failed", format!("Failed to pull image {reference:?}: no local program stands for it"));
        };
        let surroundings = match self.surroundings(&container, &image).await {
            Ok(surroundings) => surroundings,
            Err(message) => {
                self.warn("Failed", format!("Error: {message}"));
                return self.lifecycle.lacks_configuration(index, message, now);
            }
        };
        let run = self.lifecycle.slots[index].starts;
        let log = self.directory.join(&container.name).join(format!("{run}.log"));
        let name = format!("{}/{}/{}", self.pod.namespace().unwrap_or_default(), self.pod.name_any(), container.name);
        let line = surroundings.command_line(&container, &image).unwrap_or_default();
        let process = self.context.spawner.spawn(&surroundings.launch(name, &line).log(&log)).await;
        self.lifecycle.has_started(index, Timestamp::now());
        match process {
            Ok(process) => {
                let spawner = self.context.spawner.clone();
                let subject = Subject { container, address: self.address.listen(), surroundings, spawner };
                self.supervise(index, run, process, log, subject);
            }
            Err(error) => self.could_not_start(index, &error),
        }
    }

    fn supervise(&mut self, index: usize, run: u32, process: Process, log: PathBuf, subject: Subject) {
        let (mut exit, messages) = (process.exit(), self.messages.0.clone());
        let running = Running {
            run,
            process: Arc::new(process),
            since: Timestamp::now(),
            log,
            subject,
            stopping: false,
            probes: JoinSet::new(),
        };
        self.running.insert(index, running);
        self.tasks.spawn(async move {
            let status = exit.wait().await;
            // Nobody listens when the worker has ended.
            let _ = messages.send(Message::Ended { index, status });
        });
        if self.lifecycle.slots[index].started {
            self.probe(index, &[Purpose::Readiness, Purpose::Liveness]);
        } else {
            self.probe(index, &[Purpose::Startup]);
        }
    }

    fn probe(&mut self, index: usize, purposes: &[Purpose]) {
        let Some(running) = self.running.get_mut(&index) else { return };
        for &purpose in purposes {
            let container = &running.subject.container;
            let probe = match purpose {
                Purpose::Startup => &container.startup_probe,
                Purpose::Readiness => &container.readiness_probe,
                Purpose::Liveness => &container.liveness_probe,
            };
            if let Some(probe) = probe.clone() {
                let (subject, run, messages) = (running.subject.clone(), running.run, self.messages.0.clone());
                running.probes.spawn(async move {
                    let tell = |outcome| {
                        let _ = messages.send(Message::Asked { index, run, purpose, outcome });
                    };
                    check::watch(&probe, purpose, &subject, tell).await;
                });
            }
        }
    }

    fn could_not_start(&mut self, index: usize, error: &SpawnError) {
        let now = Timestamp::now();
        let (exit_code, reason) = START_ERROR;
        let message = Some(redact(&error.to_string()));
        self.warn("Failed", format!("Error: {}", message.as_deref().unwrap_or_default()));
        self.lifecycle.has_ended(index, Termination { exit_code, reason, message, started: now, finished: now });
    }

    async fn note(&mut self, message: Message) {
        match message {
            Message::Ended { index, status } => {
                let Some(running) = self.running.remove(&index) else { return };
                let exit_code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
                let message = self.termination_message(&running, exit_code).await;
                let end = Termination {
                    exit_code,
                    reason: if exit_code == 0 { "Completed" } else { "Error" },
                    message,
                    started: running.since,
                    finished: Timestamp::now(),
                };
                self.lifecycle.has_ended(index, end);
            }
            Message::Asked { index, run, purpose, outcome } => {
                if self.running.get(&index).is_some_and(|running| running.run == run && !running.stopping) {
                    self.judge(index, purpose, &outcome);
                }
            }
        }
    }

    fn judge(&mut self, index: usize, purpose: Purpose, outcome: &Outcome) {
        if let Some(failure) = &outcome.failure {
            self.warn("Unhealthy", format!("{} probe failed: {}", purpose.name(), redact(failure)));
        }
        let Some(success) = outcome.verdict else { return };
        match (purpose, success) {
            (Purpose::Readiness, _) => self.lifecycle.set_ready(index, success),
            (Purpose::Startup, true) => {
                self.lifecycle.is_up(index);
                self.probe(index, &[Purpose::Readiness, Purpose::Liveness]);
            }
            (Purpose::Liveness, true) => (),
            (Purpose::Startup | Purpose::Liveness, false) => {
                let name = &self.lifecycle.slots[index].spec.name;
                let kind = purpose.name().to_lowercase();
                self.warn("Killing", format!("Container {name} failed {kind} probe, will be restarted"));
                self.stop(index, self.grace());
            }
        }
    }

    async fn termination_message(&self, running: &Running, exit_code: i32) -> Option<String> {
        let policy = running.subject.container.termination_message_policy.as_deref();
        if exit_code == 0 || policy != Some("FallbackToLogsOnError") {
            return None;
        }
        let log = tokio::fs::read(&running.log).await.ok()?;
        Some(redact(&logs::tail(&String::from_utf8_lossy(&log))))
    }

    async fn write_status(&mut self) {
        self.write_failed = false;
        let status = self.status.render(&self.pod, &self.lifecycle, NODE_ADDRESS, Timestamp::now());
        if status == self.written {
            return;
        }
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        // The uid makes sure that it is this pod and not a later one of the same name.
        let patch = json!({"metadata": {"uid": self.pod.metadata.uid}, "status": status});
        let result = self.api.patch_status(&self.pod.name_any(), &parameters, &Patch::Strategic(patch)).await;
        self.write_failed = result.is_err() && !is_gone(&result);
        match result {
            Ok(_) => self.written = status,
            Err(error) => tracing::debug!(pod = self.pod.name_any(), %error, "cannot write a pod's status"),
        }
    }

    /// The last step of a deletion: nothing of the pod runs any more.
    async fn delete(&mut self) {
        let preconditions = Preconditions { uid: self.pod.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let result = self.api.delete(&self.pod.name_any(), &parameters).await;
        self.deleted = result.is_ok() || is_gone(&result);
        self.write_failed = !self.deleted;
        if let Err(error) = result {
            tracing::debug!(pod = self.pod.name_any(), %error, "cannot delete a pod");
        }
    }

    fn warn(&self, reason: &'static str, note: String) {
        self.context.events.warn(&self.pod, reason, note);
    }
}

/// The pod is not there any more, or is another one by now; the watch will say so.
fn is_gone<T>(result: &kube::Result<T>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409)
}
