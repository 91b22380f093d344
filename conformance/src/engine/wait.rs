//! Waits until the objects of a watch are as they should be.
//!
//! The watch says when to look again; a slow direct read beside it is the safety net.

use std::time::Duration;

use super::deadline::Deadline;
use super::trouble::{Failure, Trouble};
use super::watch::{Feed, GRACE, Hub, Phase, Record};

/// How often a pending wait reads beside its watch.
const REREAD: Duration = Duration::from_secs(5);

/// Looks at `feed` now and after every change, until `look` is content or the deadline is over. Then the last thing
/// that `look` missed is the failure, unless the watch itself never worked.
pub async fn until<T>(
    hub: &Hub,
    feed: &Feed,
    deadline: &Deadline,
    mut look: impl FnMut(&Record) -> Result<T, Failure>,
) -> Result<T, Trouble> {
    let mut changes = feed.changes();
    let mut reread = tokio::time::interval(REREAD);
    reread.reset();
    loop {
        let (phase, seen) = feed.read(|record| (record.phase(), look(record)));
        // Before the present state is known, nothing is: not even that nothing is there.
        let missed = match seen {
            Ok(content) if phase != Phase::Starting => return Ok(content),
            Ok(_) => None,
            Err(missed) => Some(missed),
        };
        tokio::select! {
            woken = changes.changed() => if woken.is_err() {
                return Err(Trouble::broken(format!("the watch of {} has ended", feed.kind())));
            },
            // A read that is not answered must not hold up the end.
            _ = reread.tick() => drop(deadline.bound(hub.reread(feed)).await),
            () = deadline.reached() => {
                // A watch that goes on after an error says nothing until the next event.
                if feed.read(|record| record.trouble().is_some()) {
                    hub.catch_up(feed, GRACE).await;
                }
                return Err(over(feed, deadline, missed));
            }
        }
    }
}

/// Waits until the watch has delivered all that was written before this call, for whoever concludes something from what is not
/// there.
///
/// # Errors
/// It stays behind, or the API server does not say how far it is.
pub async fn up_to_date(hub: &Hub, feed: &Feed, deadline: &Deadline) -> Result<(), Trouble> {
    if hub.catch_up(feed, deadline.remaining()).await {
        return Ok(());
    }
    Err(Trouble::broken(format!("the watch of {} did not catch up with the API server within {deadline}", feed.kind())))
}

fn over(feed: &Feed, deadline: &Deadline, missed: Option<Failure>) -> Trouble {
    let broken = feed.read(|record| match (record.phase(), record.trouble()) {
        (_, Some(error)) => Some(format!("the watch of {} does not work: {error}", feed.kind())),
        (Phase::Starting, None) => Some(format!("the watch of {} was not answered", feed.kind())),
        (Phase::NotServed | Phase::Live, None) => None,
    });
    match (broken, missed) {
        (Some(reason), _) => Trouble::broken(format!("{reason}, until the end of {deadline}")),
        (None, missed) => {
            let mut failure = missed.unwrap_or_default();
            failure.message = format!("{} at the end of {deadline}", failure.message);
            Trouble::Failed(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::client::Body;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::engine::watch::Kind;

    /// A hub whose API server answers nothing: the feeds are fed by hand.
    fn hub() -> Arc<Hub> {
        let silent =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>());
        Hub::new(kube::Client::new(silent, "default"))
    }

    fn pod(phase: &str, version: &str) -> kube::api::DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": "x", "namespace": "a", "uid": "x", "resourceVersion": version},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn running(record: &Record) -> Result<(), Failure> {
        match record.objects().values().next() {
            Some(object) if object["status"]["phase"] == "Running" => Ok(()),
            Some(object) => Err(Failure::new(format!("phase is {}", object["status"]["phase"]))),
            None => Err(Failure::new("there is no pod")),
        }
    }

    #[tokio::test]
    async fn an_event_ends_the_wait() {
        let (hub, feed) = (hub(), Arc::new(Feed::new(Kind::new("v1", "Pod"), Some("a".to_owned()))));
        let deadline = Deadline::after("assert", Duration::from_mins(1));
        let waiting = tokio::spawn({
            let feed = feed.clone();
            async move { until(&hub, &feed, &deadline, running).await }
        });
        for event in
            [Event::Init, Event::InitDone, Event::Apply(pod("Pending", "1")), Event::Apply(pod("Running", "2"))]
        {
            feed.observe(event);
        }
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn at_the_end_the_last_thing_that_was_missed_is_told() {
        let (hub, feed) = (hub(), Feed::new(Kind::new("v1", "Pod"), Some("a".to_owned())));
        for event in [Event::Init, Event::InitDone, Event::Apply(pod("Pending", "1"))] {
            feed.observe(event);
        }
        let trouble = until(&hub, &feed, &Deadline::after("assert", Duration::ZERO), running).await;
        let Err(Trouble::Failed(failure)) = trouble else { panic!("{trouble:?}") };
        assert_eq!(failure.message, r#"phase is "Pending" at the end of assert (0s)"#);
    }

    #[tokio::test]
    async fn a_watch_that_does_not_work_is_no_verdict() {
        let (hub, feed) = (hub(), Feed::new(Kind::new("v1", "Pod"), Some("a".to_owned())));
        let trouble = until(&hub, &feed, &Deadline::after("assert", Duration::ZERO), |_| Ok(())).await;
        assert_eq!(
            trouble,
            Err(Trouble::broken("the watch of Pod (v1) was not answered, until the end of assert (0s)"))
        );
        feed.failed("connection refused".to_owned());
        let trouble = until(&hub, &feed, &Deadline::after("assert", Duration::ZERO), running).await;
        assert!(
            matches!(&trouble, Err(Trouble::Broken(reason)) if reason.contains("connection refused")),
            "{trouble:?}"
        );
    }
}
