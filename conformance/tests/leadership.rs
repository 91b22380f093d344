//! Two processes of the bundled operator and one Lease: who leads, and that nobody else writes.
//!
//! The API server's audit log is the witness: each process has a service account of its own.

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use conformance::controlplane::ControlPlane;
use conformance::process::{Launch, Process, Spawner};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::Bench;

const NAMESPACE: &str = "dittofs-system";
/// Longer than a Lease of 15 s lasts, on a busy machine.
const TAKEN_OVER: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_writes_nothing_after_its_lease() {
    let bench = Bench::new().await;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let crds = [root.join("operator/manifests/crd.yaml"), root.join("conformance/assets/crds")];
    let plane = bench.control_plane(&crds).await;
    let client = Client::try_from(plane.config()).unwrap();
    prepare(&client).await;
    let program = build();

    let first = start("first", &program, &plane, &client, &bench.spawner).await;
    leads(&client, "first").await;
    serve(&client, "one").await;
    let second = start("second", &program, &plane, &client, &bench.spawner).await;

    first.signal(Signal::SIGSTOP).unwrap();
    // It has something to do as soon as it goes on.
    create(&client, "two").await;
    leads(&client, "second").await;
    let taken = Timestamp::now();
    served(&client, "two").await;
    first.signal(Signal::SIGCONT).unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(30), first.wait()).await.expect("it goes on leading");
    assert!(!exit.success(), "{exit}");

    let late: Vec<Value> = writes(&plane, "first").into_iter().filter(|write| received(write) > taken).collect();
    assert!(late.is_empty(), "the first one still wrote after {taken}: {late:#?}");
    assert!(!writes(&plane, "second").is_empty(), "the audit log shows nothing");

    // One that ends in order hands the Lease over at once.
    let third = start("third", &program, &plane, &client, &bench.spawner).await;
    let stopped = Timestamp::now();
    second.stop().await;
    leads(&client, "third").await;
    let waited = Timestamp::now().duration_since(stopped);
    assert!(waited.as_secs() < 10, "the Lease was not released: {waited:#}");
    serve(&client, "three").await;

    third.stop().await;
    plane.stop().await;
    bench.run.remove().unwrap();
}

/// Accounts that may do everything, and the namespace of the Lease.
async fn prepare(client: &Client) {
    let subjects: Vec<Value> = ["first", "second", "third"]
        .iter()
        .map(|name| json!({ "kind": "ServiceAccount", "name": name, "namespace": NAMESPACE }))
        .collect();
    let mut objects = vec![json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } })];
    objects.extend(["first", "second", "third"].iter().map(|name| {
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": NAMESPACE } })
    }));
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "operators" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": subjects,
    }));
    for object in objects {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let types = object.types.clone().unwrap();
        let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        api.create(&PostParams::default(), &object).await.unwrap();
    }
}

/// The operator of this workspace.
fn build() -> PathBuf {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--workspace", "--bin=dittofs-operator"]).stdin(Stdio::null());
    assert!(cargo.status().unwrap().success());
    PathBuf::from(env!("CARGO_BIN_EXE_conformance")).with_file_name("dittofs-operator")
}

async fn start(name: &str, program: &PathBuf, plane: &ControlPlane, client: &Client, spawner: &Spawner) -> Process {
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let request = accounts.create_token_request(name, &PostParams::default(), &TokenRequest::default()).await.unwrap();
    let access = plane.access().with_token(NAMESPACE, &request.status.unwrap().token);
    let directory = plane.audit_log().with_file_name(name);
    std::fs::create_dir(&directory).unwrap();
    access.write(&directory.join("kubeconfig")).unwrap();
    let launch = Launch::new(name, program)
        .args(["run", "--leader-elect", "--lease-namespace", NAMESPACE])
        .args(["--health-bind-address=0", "--metrics-bind-address=0"])
        .env("KUBECONFIG", directory.join("kubeconfig"))
        .env("POD_NAME", name)
        .log(directory.join("log"));
    spawner.spawn(&launch).await.unwrap()
}

/// Waits until `name` holds the Lease.
async fn leads(client: &Client, name: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let held = |lease: Option<&Lease>| {
        let holder = lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref());
        holder.is_some_and(|holder| holder.starts_with(&format!("{name}_")))
    };
    let awaited = tokio::time::timeout(TAKEN_OVER, await_condition(leases, "dittofs-operator", held)).await;
    awaited.unwrap_or_else(|_| panic!("{name} does not lead")).unwrap();
}

fn servers(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("dittofs.dittofs.com", "v1alpha1", "DittoServer");
    Api::namespaced_with(client.clone(), "default", &ApiResource::from_gvk(&kind))
}

async fn create(client: &Client, name: &str) {
    let server = json!({
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "metadata": { "name": name },
        "spec": { "storage": { "metadataSize": "1Gi" } },
    });
    servers(client).create(&PostParams::default(), &serde_json::from_value(server).unwrap()).await.unwrap();
}

/// Waits until the server `name` has a status.
async fn served(client: &Client, name: &str) {
    let told = |server: Option<&DynamicObject>| server.is_some_and(|server| server.data["status"]["phase"].is_string());
    let awaited = tokio::time::timeout(TAKEN_OVER, await_condition(servers(client), name, told)).await;
    awaited.unwrap_or_else(|_| panic!("{name} is not served")).unwrap();
}

async fn serve(client: &Client, name: &str) {
    create(client, name).await;
    served(client, name).await;
}

/// What an account has written, as the audit log has it; tries for the Lease are none.
fn writes(plane: &ControlPlane, account: &str) -> Vec<Value> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let log = std::fs::read_to_string(plane.audit_log()).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["user"]["username"] == user.as_str() && event["objectRef"]["resource"] != "leases")
        .filter(|event| ["create", "update", "patch", "delete"].iter().any(|verb| event["verb"] == *verb))
        .collect()
}

fn received(event: &Value) -> Timestamp {
    event["requestReceivedTimestamp"].as_str().unwrap().parse().unwrap()
}
