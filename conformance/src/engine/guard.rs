//! Guards: what must be so, or must never be so, in every version of an object between two operations.
//!
//! A guard judges while the scenario goes on, so that a violation ends the scenario at once. When it is released, it
//! first makes sure that the watch has delivered everything that was written before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::requests::{Allowance, Tail};
use super::trouble::{Failure, Mismatched, Subject, Trouble};
use super::watch::{Feed, Hub, Observation, resource_version};

/// Judges one version of an object; the failure says what is wrong with it.
pub type Judge = Box<dyn Fn(&Value) -> Result<(), Vec<Mismatched>> + Send>;

/// What a guard demands.
pub struct Demand {
    /// How the scenario calls it.
    pub name: String,
    /// `never` or `holds`.
    pub word: &'static str,
    /// The objects that it is about.
    pub subject: Subject,
    /// Whether the object must exist throughout (`holds`).
    pub must_exist: bool,
    /// The verdict on one version.
    pub judge: Judge,
}

/// The guards of a scenario that are in force.
pub struct Guards {
    active: BTreeMap<String, Active>,
    /// Those that count requests: judged when they are released, because nothing tells of a request as it is made.
    counting: BTreeMap<String, (Tail, Allowance)>,
    violations: watch::Sender<Option<Failure>>,
}

struct Active {
    feed: Arc<Feed>,
    finish: oneshot::Sender<()>,
    task: AbortOnDropHandle<Judged>,
}

/// What a guard has to say at its end.
struct Judged {
    violation: Option<Failure>,
    gap: Option<String>,
    versions: u64,
}

impl Default for Guards {
    fn default() -> Self {
        Self { active: BTreeMap::new(), counting: BTreeMap::new(), violations: watch::Sender::new(None) }
    }
}

impl Guards {
    /// Puts a guard in force. Returns once the present state is known, which is then the first that is judged.
    pub async fn begin(&mut self, feed: Arc<Feed>, demand: Demand) {
        feed.known().await;
        let (finish, finished) = oneshot::channel();
        let name = demand.name.clone();
        let task = judge(demand, feed.subscribe(), finished, self.violations.clone());
        self.active.insert(name, Active { feed, finish, task: AbortOnDropHandle::new(tokio::spawn(task)) });
    }

    /// Counts the requests in `log` from where it stands until the guard is released.
    pub fn count(&mut self, log: Tail, allowance: Allowance) {
        self.counting.insert(allowance.name.clone(), (log, allowance));
    }

    /// Waits for the first violation of any guard.
    pub fn violated(&self) -> impl Future<Output = Failure> + use<> {
        let mut violations = self.violations.subscribe();
        async move {
            let violation =
                violations.wait_for(Option::is_some).await.map(|failure| failure.clone().unwrap_or_default());
            match violation {
                Ok(failure) => failure,
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Ends the guard `name`, judged up to this moment. `limit` bounds how long the watch may take to catch up.
    pub async fn release(&mut self, hub: &Hub, name: &str, limit: Duration) -> Result<(), Trouble> {
        if let Some((mut log, allowance)) = self.counting.remove(name) {
            return Ok(allowance.judge(&log.read().await?)?);
        }
        let Some(active) = self.active.remove(name) else {
            return Err(Trouble::broken(format!("there is no guard {name} in force")));
        };
        let caught_up = hub.catch_up(&active.feed, limit).await;
        // The task may have ended by itself, with a violation.
        let _ = active.finish.send(());
        let judged = active.task.await.map_err(|error| Trouble::broken(format!("guard {name}: {error}")))?;
        tracing::debug!(guard = name, versions = judged.versions, "released");
        match judged {
            Judged { violation: Some(failure), .. } => Err(failure.into()),
            Judged { gap: Some(why), .. } => Err(Trouble::broken(format!("guard {name} is inconclusive: {why}"))),
            _ if !caught_up => Err(Trouble::broken(format!(
                "guard {name} is inconclusive: its watch did not catch up with the API server"
            ))),
            _ => Ok(()),
        }
    }

    /// Ends all guards that are left, judged up to this moment.
    pub async fn release_all(&mut self, hub: &Hub, limit: Duration) -> Result<(), Trouble> {
        while let Some(name) = self.active.keys().chain(self.counting.keys()).next().cloned() {
            self.release(hub, &name, limit).await?;
        }
        Ok(())
    }
}

async fn judge(
    demand: Demand,
    mut versions: mpsc::UnboundedReceiver<Observation>,
    mut finished: oneshot::Receiver<()>,
    violations: watch::Sender<Option<Failure>>,
) -> Judged {
    let mut judged = Judged { violation: None, gap: None, versions: 0 };
    let mut exists = false;
    loop {
        let observation = tokio::select! {
            // What was delivered before the end is judged before the end.
            biased;
            observation = versions.recv() => observation,
            _ = &mut finished => break,
        };
        let violation = match observation {
            None => break,
            Some(Observation::Gap(why)) => {
                judged.gap.get_or_insert(why);
                None
            }
            Some(Observation::Version(object)) if concerns(&demand.subject, &object) => {
                exists = true;
                judged.versions += 1;
                (demand.judge)(&object).err().map(|mismatches| (mismatches, Some(resource_version(&object))))
            }
            Some(Observation::Deleted(object)) if concerns(&demand.subject, &object) && demand.must_exist => {
                Some((Vec::new(), None))
            }
            Some(Observation::Version(_) | Observation::Deleted(_)) => None,
        };
        if let Some((mismatches, version)) = violation {
            return violated(&demand, mismatches, version, &violations, judged);
        }
    }
    if demand.must_exist && !exists {
        return violated(&demand, Vec::new(), None, &violations, judged);
    }
    judged
}

fn violated(
    demand: &Demand,
    mismatches: Vec<Mismatched>,
    version: Option<u64>,
    violations: &watch::Sender<Option<Failure>>,
    mut judged: Judged,
) -> Judged {
    let Demand { name, word, subject, .. } = demand;
    let how = match version {
        // What must never be is there, and has no mismatches: else nobody knows.
        Some(version) if !demand.must_exist && !mismatches.is_empty() => {
            format!("{subject} at resourceVersion {version} cannot be judged")
        }
        Some(version) => format!("{subject} at resourceVersion {version}"),
        None => format!("{subject} does not exist"),
    };
    let failure = Failure {
        message: format!("guard {name} ({word}) was violated at {}: {how}", Timestamp::now().strftime("%H:%M:%S%.3f")),
        mismatches,
        subjects: vec![subject.clone()],
    };
    violations.send_replace(Some(failure.clone()));
    judged.violation = Some(failure);
    judged
}

fn concerns(subject: &Subject, object: &Value) -> bool {
    subject.name.as_deref().is_none_or(|name| object["metadata"]["name"] == *name)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::engine::watch::Kind;

    fn object(name: &str, version: &str, replicas: i64) -> kube::api::DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": version},
            "spec": {"replicas": replicas},
        }))
        .unwrap()
    }

    fn demand(must_exist: bool) -> Demand {
        Demand {
            name: "one_replica".to_owned(),
            word: if must_exist { "holds" } else { "never" },
            subject: Subject {
                kind: Kind::new("apps/v1", "StatefulSet"),
                namespace: Some("a".to_owned()),
                name: Some("x".to_owned()),
            },
            must_exist,
            judge: Box::new(|object| if object["spec"]["replicas"] == 1 { Ok(()) } else { Err(Vec::new()) }),
        }
    }

    async fn judged(must_exist: bool, events: Vec<Event<kube::api::DynamicObject>>) -> Judged {
        let feed = Feed::new(Kind::new("apps/v1", "StatefulSet"), Some("a".to_owned()));
        feed.observe(Event::Init);
        feed.observe(Event::InitDone);
        let (finish, finished) = oneshot::channel();
        let versions = feed.subscribe();
        for event in events {
            feed.observe(event);
        }
        finish.send(()).unwrap();
        judge(demand(must_exist), versions, finished, watch::Sender::new(None)).await
    }

    #[tokio::test]
    async fn one_bad_version_between_two_good_ones_is_a_violation() {
        let events = [1, 2, 1].into_iter().zip(["1", "2", "3"]);
        let judged = judged(true, events.map(|(n, version)| Event::Apply(object("x", version, n))).collect()).await;
        let message = judged.violation.unwrap().message;
        assert!(message.ends_with("StatefulSet x at resourceVersion 2"), "{message}");
    }

    #[tokio::test]
    async fn other_objects_are_not_judged() {
        let judged = judged(false, vec![Event::Apply(object("y", "1", 2)), Event::Apply(object("x", "2", 1))]).await;
        assert_eq!((judged.violation, judged.versions), (None, 1));
    }

    #[tokio::test]
    async fn what_must_hold_must_exist() {
        assert!(judged(true, vec![]).await.violation.is_some());
        assert!(judged(false, vec![]).await.violation.is_none());
        let gone = vec![Event::Apply(object("x", "1", 1)), Event::Delete(object("x", "2", 1))];
        assert!(judged(true, gone).await.violation.is_some());
    }

    #[tokio::test]
    async fn a_gap_is_remembered() {
        let judged = judged(false, vec![Event::Init, Event::InitApply(object("x", "5", 1)), Event::InitDone]).await;
        assert_eq!((judged.violation, judged.gap), (None, Some("the watch had to list again".to_owned())));
    }
}
