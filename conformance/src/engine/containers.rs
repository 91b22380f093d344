//! The containers of a scenario's namespace that were seen since it began: of pods that are gone, the logs may be there.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::watch::{Feed, Observation};
use crate::environment::Container;

/// See the module.
pub struct Containers {
    /// Every version of the pods since the last look.
    versions: UnboundedReceiver<Observation>,
    /// Pods and containers by name.
    seen: BTreeSet<(String, String)>,
}

impl Containers {
    /// Those of the pods that `feed` tells of.
    pub fn of(feed: &Feed) -> Self {
        Self { versions: feed.subscribe(), seen: BTreeSet::new() }
    }

    /// All of them until now; `listed` are the pods as they are, which the watch may not have told yet.
    pub fn seen(&mut self, namespace: &str, listed: &[Value]) -> Vec<Container> {
        while let Ok(observation) = self.versions.try_recv() {
            if let Observation::Version(pod) | Observation::Deleted(pod) = observation {
                self.note(&pod);
            }
        }
        for pod in listed {
            self.note(pod);
        }
        let container = |(pod, container): &(String, String)| Container {
            namespace: namespace.to_owned(),
            pod: pod.clone(),
            container: container.clone(),
        };
        self.seen.iter().map(container).collect()
    }

    fn note(&mut self, pod: &Value) {
        for status in statuses(pod) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            self.seen.insert((text(&pod["metadata"]["name"]), text(&status["name"])));
        }
    }
}

/// The container statuses of a pod, init containers first.
pub fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    lists.into_iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::engine::watch::Kind;

    fn pod(name: &str, containers: &[&str]) -> Value {
        let statuses: Vec<_> = containers.iter().map(|name| json!({"name": name})).collect();
        json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": "1"},
            "status": {"initContainerStatuses": [{"name": "wait"}], "containerStatuses": statuses},
        })
    }

    #[test]
    fn pods_that_are_gone_are_remembered() {
        let feed = Feed::new(Kind::new("v1", "Pod"), Some("a".to_owned()));
        let mut containers = Containers::of(&feed);
        let gone = || serde_json::from_value(pod("gone", &["main"])).unwrap();
        for event in [Event::Init, Event::InitApply(gone()), Event::InitDone, Event::Delete(gone())] {
            feed.observe(event);
        }
        let names = |containers: Vec<Container>| {
            containers.into_iter().map(|one| format!("{}/{}", one.pod, one.container)).collect::<Vec<_>>()
        };
        assert_eq!(names(containers.seen("a", &[])), ["gone/main", "gone/wait"]);
        assert_eq!(names(containers.seen("a", &[pod("new", &[])])), ["gone/main", "gone/wait", "new/wait"]);
    }
}
