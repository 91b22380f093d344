//! How containers are stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::node::slot::Role;
use crate::process::{Process, Signal};

/// How long a container has to end when nobody says otherwise: `terminationGracePeriodSeconds` has this default.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// What a sidecar has at least to end, though the main containers have used up the pod's grace: the kubelet's own value.
const LEAST_GRACE: Duration = Duration::from_secs(2);

impl Worker {
    pub(super) fn grace(&self) -> Duration {
        let seconds = self.pod.metadata.deletion_grace_period_seconds;
        let seconds = seconds.or(self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds));
        seconds.and_then(|seconds| seconds.try_into().ok()).map_or(DEFAULT_GRACE, Duration::from_secs)
    }

    pub(super) fn stop(&mut self, index: usize, grace: Duration) {
        let Some(running) = self.running.get_mut(&index).filter(|running| !running.stopping) else { return };
        running.stopping = true;
        running.probes.abort_all();
        let process = Arc::clone(&running.process);
        self.tasks.spawn(async move { end(&process, grace).await });
    }

    /// The main containers at once, then what served them. They share one grace.
    pub(super) fn stop_all(&mut self) {
        let grace = self.grace();
        let (mut main, mut serving) = (Vec::new(), Vec::new());
        for (index, running) in &mut self.running {
            running.stopping = true;
            running.probes.abort_all();
            let is_main = self.lifecycle.slots[*index].role == Role::Main;
            if is_main { &mut main } else { &mut serving }.push(Arc::clone(&running.process));
        }
        self.tasks.spawn(async move {
            let begin = Instant::now();
            end_all(&main, grace).await;
            end_all(&serving, left(grace, begin.elapsed())).await;
        });
    }
}

/// What sidecars have to end when the main containers have taken `used` of the pod's grace.
fn left(grace: Duration, used: Duration) -> Duration {
    grace.saturating_sub(used).max(LEAST_GRACE)
}

async fn end_all(processes: &[Arc<Process>], grace: Duration) {
    futures::future::join_all(processes.iter().map(|process| end(process, grace))).await;
}

/// SIGTERM to the first process alone, as a container runtime sends it, and SIGKILL to all that is left after the grace.
async fn end(process: &Process, grace: Duration) {
    if let Err(error) = process.signal(Signal::SIGTERM) {
        tracing::warn!(process = process.name(), %error, "cannot send SIGTERM");
    }
    if tokio::time::timeout(grace, process.wait()).await.is_err() {
        process.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::all_of_it(30, 0, 30)]
    #[case::the_rest(30, 12, 18)]
    #[case::at_least_a_little(30, 30, 2)]
    #[case::even_when_it_took_longer(30, 31, 2)]
    fn sidecars_have_what_the_main_containers_leave(#[case] grace: u64, #[case] used: u64, #[case] expected: u64) {
        assert_eq!(left(Duration::from_secs(grace), Duration::from_secs(used)), Duration::from_secs(expected));
    }
}
