//! What the operations of one scenario share.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::containers::Containers;
use super::deadline::Deadline;
use super::differences::Differences;
use super::guard::Guards;
use super::missing::Missing;
use super::permissions::Permissions;
use super::trouble::{Subject, Trouble};
use super::watch::{Feed, Hub, Kind};
use crate::environment::{FaultId, Site};
use crate::scenario::expression::Bindings;

/// See the module. One per run of a scenario.
pub struct Context {
    /// The control plane.
    pub site: Arc<dyn Site>,
    /// Talks to its API server under the scenario's name.
    pub client: Client,
    /// The watches.
    pub hub: Arc<Hub>,
    /// The scenario's namespace.
    pub namespace: String,
    /// What marks the namespaces of this run of the scenario.
    pub marks: BTreeMap<String, String>,
    /// More namespaces that the scenario has made: they go with its own.
    pub more_namespaces: Vec<String>,
    /// Field manager of everything that the scenario writes.
    pub manager: String,
    /// What expressions may refer to.
    pub bindings: Bindings,
    /// The guards in force.
    pub guards: Guards,
    /// The faults in force, by the scenario's names for them.
    pub faults: BTreeMap<String, FaultId>,
    /// The containers that were seen since the scenario began.
    pub containers: Containers,
    /// What the operator has used of its roles in this run.
    pub permissions: Arc<Permissions>,
    /// What is missing of the whole run.
    pub missing: Missing,
    /// Warnings of the API server and of the engine, for the report.
    pub warnings: Vec<String>,
    /// What was waited for and seen, for the report.
    pub sightings: Vec<Sighting>,
    /// Where the implementation declares to differ.
    pub differences: Arc<Differences>,
    /// Completes the clusters of the namespace, where that is declared.
    pub completion: Option<AbortOnDropHandle<()>>,
}

/// An object's version that ended a wait.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    /// Its resourceVersion, which the audit log ties to a write.
    pub resource_version: String,
    /// Kind of the object.
    pub kind: String,
    /// When the wait began. An object that had been as it should be before took no waiting.
    pub since: jiff::Timestamp,
    /// When the verdict was reached.
    pub at: jiff::Timestamp,
}

/// How the API server names a kind.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its names.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Context {
    /// The watch of `kind` in `namespace` (by default the scenario's own).
    pub fn feed(&self, kind: &Kind, namespace: Option<&str>) -> Arc<Feed> {
        self.hub.feed(kind, Some(namespace.unwrap_or(&self.namespace)))
    }

    /// Waits until the API server serves the feed's kind. Its watch is open by then, so that the timeline of an object
    /// that is written next begins with its creation.
    pub async fn served(&self, feed: &Feed, deadline: &Deadline) -> Result<Served, Trouble> {
        let mut changes = feed.changes();
        let serving = async {
            loop {
                if let Some((resource, namespaced)) = feed.resource() {
                    feed.known().await;
                    return Served { resource, namespaced };
                }
                // The hub keeps the sender for as long as the feed lives.
                let _ = changes.changed().await;
            }
        };
        deadline.bound(serving).await.ok_or_else(|| {
            let why = feed.read(|record| record.trouble().map(str::to_owned));
            let why = why.unwrap_or_else(|| "it is not installed".to_owned());
            Trouble::broken(format!(
                "the API server does not serve {}: {why}, until the end of {deadline}",
                feed.kind()
            ))
        })
    }

    /// The object that `value` (an object or a part of one) is about.
    pub fn subject(&self, value: &Value) -> Subject {
        let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
        let namespace = text("namespace").unwrap_or_else(|| self.namespace.clone());
        Subject { kind: Kind::of(value), namespace: Some(namespace), name: text("name") }
    }

    /// Notes that `object` ended a wait that began at `since`.
    pub fn sighted(&mut self, object: &Value, since: jiff::Timestamp) {
        self.sightings.push(Sighting {
            resource_version: object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
            kind: object["kind"].as_str().unwrap_or_default().to_owned(),
            since,
            at: jiff::Timestamp::now(),
        });
    }
}
