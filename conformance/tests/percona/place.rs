//! A namespace with a cluster `demo`, and what tests do with it.

use std::time::Duration;

use base64::Engine as _;
use conformance::percona::Kind;
use conformance::postgres::{Session, Target, Trust};
use futures::TryStreamExt as _;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::wait::{Condition, await_condition};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use crate::support::Lab;

/// Bounds every wait; only a defect lets one reach it.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// The Secret of the only user.
pub const SECRET: &str = "demo-pguser-app";

/// A namespace of a test on the shared control plane.
pub struct Place<'a> {
    pub lab: &'a Lab,
    pub client: kube::Client,
    namespace: &'static str,
}

impl<'a> Place<'a> {
    pub async fn new(lab: &'a Lab, namespace: &'static str) -> Self {
        let client = kube::Client::try_from(lab.plane.config()).unwrap();
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let all: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        all.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        Self { lab, client, namespace }
    }

    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.namespace, &kind.resource())
    }

    pub async fn create(&self) {
        self.create_as(|_| {}).await;
    }

    /// Makes the cluster, after a change of the object.
    pub async fn create_as(&self, change: impl FnOnce(&mut Value)) {
        let volume = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
        let mut object = json!({
            "apiVersion": "pgv2.percona.com/v2", "kind": "PerconaPGCluster", "metadata": { "name": "demo" },
            "spec": {
                "postgresVersion": 16, "image": "postgres", "users": [{ "name": "app", "databases": ["app"] }],
                "instances": [{ "name": "instance1", "replicas": 1, "dataVolumeClaimSpec": volume }],
                "proxy": { "pgBouncer": { "image": "pgbouncer" } }, "backups": { "enabled": false },
            },
        });
        change(&mut object);
        let object = serde_json::from_value(object).unwrap();
        self.api(Kind::CLUSTER).create(&PostParams::default(), &object).await.unwrap();
    }

    /// Changes the cluster by a JSON patch.
    pub async fn edit(&self, patch: Value) {
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        self.api(Kind::CLUSTER).patch("demo", &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn until(&self, what: &str, kind: Kind, name: &str, holds: impl Condition<DynamicObject>) {
        let done = tokio::time::timeout(DEADLINE, await_condition(self.api(kind), name, holds)).await;
        done.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}")).unwrap();
    }

    pub async fn until_state(&self, state: &'static str) {
        let is =
            move |object: Option<&DynamicObject>| object.is_some_and(|object| object.data["status"]["state"] == state);
        self.until(state, Kind::CLUSTER, "demo", is).await;
    }

    pub async fn state(&self) -> Value {
        self.api(Kind::CLUSTER).get("demo").await.unwrap().data["status"]["state"].clone()
    }

    pub async fn secret(&self) -> Option<Vec<String>> {
        let secret = self.api(Kind::SECRET).get_opt(SECRET).await.unwrap()?;
        Some(secret.data["data"].as_object().unwrap().keys().cloned().collect())
    }

    /// The one pod with this label of the inner controller.
    pub async fn only_pod(&self, label: &str) -> String {
        let selector = ListParams::default().labels(&format!("postgres-operator.crunchydata.com/{label}"));
        let pods = self.api(Kind::POD).list(&selector).await.unwrap().items;
        assert_eq!(pods.len(), 1, "{label}");
        pods[0].name_any()
    }

    /// The message of the first Event with this reason.
    pub async fn event(&self, reason: &str) -> String {
        let only = watcher::Config::default().fields(&format!("reason={reason}"));
        let mut events = std::pin::pin!(watcher(self.api(Kind::EVENT), only).applied_objects());
        let first = tokio::time::timeout(DEADLINE, events.try_next()).await;
        let event = first.unwrap_or_else(|_| panic!("no Event {reason} within {DEADLINE:?}")).unwrap().unwrap();
        event.data["message"].as_str().unwrap().to_owned()
    }

    /// Logs in as soon as that is possible.
    pub async fn logged_in(&self) -> Session {
        self.until_login(SECRET).await
    }

    /// Logs in with another Secret as soon as that is possible.
    pub async fn until_login(&self, secret: &str) -> Session {
        let attempts = async {
            let mut interval = tokio::time::interval(Duration::from_millis(50));
            loop {
                interval.tick().await;
                if let Some(session) = self.try_login(secret).await {
                    return session;
                }
            }
        };
        tokio::time::timeout(DEADLINE, attempts).await.expect("a login")
    }

    pub async fn login(&self) -> Session {
        self.try_login(SECRET).await.expect("a login")
    }

    pub async fn try_login(&self, secret: &str) -> Option<Session> {
        let secret = self.api(Kind::SECRET).get(secret).await.unwrap();
        let uri =
            base64::engine::general_purpose::STANDARD.decode(secret.data["data"]["uri"].as_str().unwrap()).unwrap();
        let target: Target = String::from_utf8(uri).unwrap().parse().unwrap();
        target.dial(Some(self.lab.hosts.path()), &Trust::Any).await.ok()
    }
}
