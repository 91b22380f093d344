//! What every part of the double works with: the API server, and the few ways in which Percona writes to it.

use std::path::PathBuf;
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, Status};
use serde_json::{Value, json};

use super::backup::Program;
use super::events::Recorder;
use super::faults::Faults;
use super::machine::Machine;
use super::names::{INNER, Key, OUTER};
use super::registry::Registry;
use crate::hosts::Hosts;
use crate::postgres::Installation;
use crate::process::Spawner;

/// A kind of the API, without asking the server for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    group: &'static str,
    version: &'static str,
    name: &'static str,
    plural: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $group:literal $version:literal $kind:literal $plural:literal;)*) => {
        impl Kind {
            $($(#[$doc])* pub const $name: Self = Self { group: $group, version: $version, name: $kind, plural: $plural };)*
            const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    /// `PerconaPGCluster`: the outer object.
    CLUSTER = "pgv2.percona.com" "v2" "PerconaPGCluster" "perconapgclusters";
    /// `PerconaPGBackup`.
    BACKUP = "pgv2.percona.com" "v2" "PerconaPGBackup" "perconapgbackups";
    /// `PerconaPGRestore`.
    RESTORE = "pgv2.percona.com" "v2" "PerconaPGRestore" "perconapgrestores";
    /// `PostgresCluster`: the inner object.
    INNER = "postgres-operator.crunchydata.com" "v1beta1" "PostgresCluster" "postgresclusters";
    /// `Node`.
    NODE = "" "v1" "Node" "nodes";
    /// `Pod`.
    POD = "" "v1" "Pod" "pods";
    /// `Secret`.
    SECRET = "" "v1" "Secret" "secrets";
    /// `ConfigMap`.
    CONFIG_MAP = "" "v1" "ConfigMap" "configmaps";
    /// `Service`.
    SERVICE = "" "v1" "Service" "services";
    /// `ServiceAccount`.
    SERVICE_ACCOUNT = "" "v1" "ServiceAccount" "serviceaccounts";
    /// `Endpoints`.
    ENDPOINTS = "" "v1" "Endpoints" "endpoints";
    /// `PersistentVolumeClaim`.
    CLAIM = "" "v1" "PersistentVolumeClaim" "persistentvolumeclaims";
    /// `Event`.
    EVENT = "" "v1" "Event" "events";
    /// `Lease`.
    LEASE = "coordination.k8s.io" "v1" "Lease" "leases";
    /// `Role`.
    ROLE = "rbac.authorization.k8s.io" "v1" "Role" "roles";
    /// `RoleBinding`.
    ROLE_BINDING = "rbac.authorization.k8s.io" "v1" "RoleBinding" "rolebindings";
    /// `StatefulSet`.
    STATEFUL_SET = "apps" "v1" "StatefulSet" "statefulsets";
    /// `Deployment`.
    DEPLOYMENT = "apps" "v1" "Deployment" "deployments";
    /// `Job`.
    JOB = "batch" "v1" "Job" "jobs";
}

impl Kind {
    /// As kube wants it.
    pub fn resource(&self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group, self.version, self.name);
        ApiResource::from_gvk_with_plural(&gvk, self.plural)
    }

    /// As objects say it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn of(object: &Value) -> Self {
        let kind = object["kind"].as_str().unwrap_or_default();
        *Self::ALL.iter().find(|known| known.name == kind).unwrap_or_else(|| panic!("the double makes no {kind}"))
    }
}

/// Shared by all clusters of one double.
pub struct Context {
    /// Administrator's access to the API server.
    pub client: kube::Client,
    /// Starts PostgreSQL and pgBackRest.
    pub spawner: Spawner,
    /// Where the Services' names lead.
    pub hosts: Hosts,
    /// PostgreSQL's programs and template.
    pub installation: Installation,
    /// The `pgbackrest` program; `None` where there is none.
    pub pgbackrest: Option<Program>,
    /// A directory of the double's own.
    pub directory: PathBuf,
    /// What goes wrong on purpose.
    pub faults: Arc<Faults>,
    /// What goes wrong because of the machine.
    pub machine: Machine,
    /// The clusters' servers.
    pub registry: Registry,
    /// The Events written so far.
    pub recorder: Recorder,
}

impl Context {
    /// The objects of a kind in a namespace.
    pub fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        if kind == Kind::NODE {
            return Api::all_with(self.client.clone(), &kind.resource());
        }
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// The object, if it is there.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> kube::Result<Option<DynamicObject>> {
        self.api(kind, namespace).get_opt(name).await
    }

    /// The objects that `selector` selects; none of a kind that is not installed.
    pub async fn list(&self, kind: Kind, namespace: &str, selector: &str) -> kube::Result<Vec<DynamicObject>> {
        let list = self.api(kind, namespace).list(&ListParams::default().labels(selector)).await;
        Ok(ignore_absent(list)?.map(|list| list.items).unwrap_or_default())
    }

    /// Creates an object as the outer controller.
    pub async fn create(&self, object: Value) -> kube::Result<DynamicObject> {
        let api = self.api(Kind::of(&object), namespace(&object));
        let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        api.create(&PostParams { field_manager: Some(OUTER.to_owned()), ..PostParams::default() }, &object).await
    }

    /// Applies an object as the inner controller does: server-side, forced.
    pub async fn apply(&self, object: &Value) -> kube::Result<DynamicObject> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = self.api(Kind::of(object), namespace(object));
        api.patch(name, &PatchParams::apply(INNER).force(), &Patch::Apply(object)).await
    }

    /// Changes an object by merge patch, as the outer controller.
    pub async fn merge(&self, kind: Kind, namespace: &str, name: &str, patch: Value) -> kube::Result<DynamicObject> {
        self.api(kind, namespace).patch(name, &manager(OUTER), &Patch::Merge(patch)).await
    }

    /// Changes an object's finalizers. Those that others add or remove meanwhile stay as they are: what is written is
    /// refused when the object has changed since it was read, and it is then read again. `None` when it is gone.
    pub async fn finalizers(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Vec<String>),
    ) -> kube::Result<Option<DynamicObject>> {
        loop {
            let Some(object) = self.get(kind, namespace, name).await? else { return Ok(None) };
            let mut wanted = object.finalizers().to_vec();
            change(&mut wanted);
            if wanted == object.finalizers() {
                return Ok(Some(object));
            }
            let read = object.resource_version();
            let patch = json!({ "metadata": { "resourceVersion": read, "finalizers": wanted } });
            match ignore_absent(self.merge(kind, namespace, name, patch).await) {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                result => return result,
            }
        }
    }

    /// Replaces an object as the outer controller does: refused when it has changed since it was read.
    pub async fn replace(&self, kind: Kind, key: &Key, object: &DynamicObject) -> kube::Result<DynamicObject> {
        let params = PostParams { field_manager: Some(OUTER.to_owned()), ..PostParams::default() };
        self.api(kind, &key.namespace).replace(&key.name, &params, object).await
    }

    /// Where the data of a volume claim lies: by the claim's name, so that it outlives pods and clusters.
    ///
    /// # Errors
    /// The directory above it cannot be made.
    pub fn volume(&self, namespace: &str, claim: &str) -> std::io::Result<PathBuf> {
        let directory = self.directory.join("volumes").join(namespace);
        std::fs::create_dir_all(&directory)?;
        Ok(directory.join(claim))
    }

    /// Whether a volume claim has a PostgreSQL's data.
    pub fn has_data(&self, namespace: &str, claim: &str) -> bool {
        self.volume(namespace, claim).is_ok_and(|volume| volume.join("PG_VERSION").exists())
    }

    /// Removes the data of a volume whose claim is gone.
    pub fn forget_volume(&self, namespace: &str, claim: &str) {
        let path = self.volume(namespace, claim);
        let removed = path.and_then(|path| if path.exists() { std::fs::remove_dir_all(path) } else { Ok(()) });
        if let Err(error) = removed {
            tracing::info!(claim, %error, "the data of a volume is still in use");
        }
    }

    /// Replaces the whole status.
    pub async fn status(&self, kind: Kind, key: &Key, name: &str, status: &Value, by: &str) -> kube::Result<()> {
        let whole = json!([{ "op": "add", "path": "/status", "value": status }]);
        let patch = Patch::Json::<()>(serde_json::from_value(whole).map_err(kube::Error::SerdeError)?);
        ignore_absent(self.api(kind, &key.namespace).patch_status(name, &manager(by), &patch).await).map(drop)
    }

    /// Deletes an object in the background; one that is not there is no error.
    pub async fn delete(&self, kind: Kind, namespace: &str, name: &str) -> kube::Result<()> {
        ignore_absent(self.api(kind, namespace).delete(name, &DeleteParams::background()).await).map(drop)
    }

    /// Deletes this pod, and not a later one of the same name; one that is gone is no error.
    pub async fn delete_pod(&self, pod: &DynamicObject, grace: Option<u32>) -> kube::Result<()> {
        let params = DeleteParams {
            grace_period_seconds: grace,
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        let api = self.api(Kind::POD, &pod.namespace().unwrap_or_default());
        ignore_another(api.delete(&pod.name_any(), &params).await).map(drop)
    }
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

fn manager(name: &str) -> PatchParams {
    PatchParams { field_manager: Some(name.to_owned()), ..PatchParams::default() }
}

/// `None` instead of an error when the object is gone already.
pub fn ignore_absent<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None` instead of an error when the object is gone already, or another one has its name: what was to be deleted or
/// patched had a certain uid.
pub fn ignore_another<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match ignore_absent(result) {
        Err(kube::Error::Api(status)) if is_about_uid(&status) => Ok(None),
        result => result,
    }
}

/// Whether a request was refused because of the uid: as a precondition that does not hold, or as a field that cannot change.
fn is_about_uid(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    (status.code == 409 && status.message.contains("UID"))
        || (status.code == 422 && causes.any(|cause| cause.field == "metadata.uid"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::gone(404, "pods \"a\" not found", "", true)]
    #[case::deletion(409, "the UID in the precondition (1) does not match the UID in record (2)", "", true)]
    #[case::patch(422, "Pod \"a\" is invalid", "metadata.uid", true)]
    #[case::another_field(422, "Pod \"a\" is invalid", "spec", false)]
    #[case::changed(409, "the object has been modified", "", false)]
    #[case::forbidden(403, "no", "", false)]
    fn a_pod_of_another_uid_is_as_good_as_none(
        #[case] code: u16,
        #[case] message: &str,
        #[case] field: &str,
        #[case] ignored: bool,
    ) {
        let status = json!({ "code": code, "message": message, "details": { "causes": [{ "field": field }] } });
        let error = kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()));
        assert_eq!(matches!(ignore_another::<()>(Err(error)), Ok(None)), ignored);
    }
}
