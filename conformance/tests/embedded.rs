//! The embedded environment with a stand-in for an operator: a program that serves a health endpoint and nothing else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::embedded::Settings;
use conformance::environment::{Environment as _, EnvironmentError, Fault, Isolation, LeaseRequest};
use conformance::process::list;
use conformance::supervisor::{Plan, Supervised};
use conformance::tools::{self, Display};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const IMPLEMENTATION: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Implementation
name: stand-in
version: 1.2.3
manifests: [file: manifests.yaml]
serviceAccount: { namespace: stand-in, name: stand-in }
start: START
ready: http://127.0.0.1:${healthPort}/health
images: { workload: [] }
";

const MANIFESTS: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: { name: stand-in, namespace: stand-in }
---
apiVersion: v1
kind: Namespace
metadata: { name: stand-in }
";

/// Where the operator below is to listen, and the kubeconfig that tells it which control plane is its own.
const ADDRESS: &str = "DITTOFS_TEST_ADDRESS";
const KUBECONFIG: &str = "DITTOFS_TEST_KUBECONFIG";

/// Bounds how long killed processes need to disappear.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How often a state that nothing announces is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// An environment whose operator is started so.
fn plan(directory: &Path, start: &Value) -> Plan {
    let implementation = directory.join("implementation.yaml");
    // JSON is YAML.
    std::fs::write(&implementation, IMPLEMENTATION.replace("START", &start.to_string())).unwrap();
    std::fs::write(directory.join("manifests.yaml"), MANIFESTS).unwrap();
    let settings = Settings::new(env!("CARGO_BIN_EXE_conformance").into(), implementation);
    Plan::Embedded(Settings { tools: tools::Options::from_environment(), ..settings })
}

fn request(isolation: Isolation) -> LeaseRequest {
    LeaseRequest { scenario: "a/test".to_owned(), isolation, needs: [].into(), aside: false }
}

#[tokio::test]
async fn an_environment_is_leased_and_leaves_nothing_behind() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let probe = env!("CARGO_BIN_EXE_dittofs-probe");
    let start = json!({ "command": [probe, "--address=127.0.0.1", "--default-port=${healthPort}"] });
    let started = std::time::Instant::now();
    let environment =
        Supervised::start(plan(directory.path(), &start), &Display::stderr(), &CancellationToken::new()).await.unwrap();
    eprintln!("up after {:?}", started.elapsed());
    assert_eq!(environment.description().implementation, "stand-in");

    let site = environment.lease(request(Isolation::Operator)).await.unwrap();
    let client = Client::try_from(site.config()).unwrap();
    let namespaces = Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    assert!(namespaces.items.iter().any(|namespace| namespace.name_any() == "stand-in"));
    assert!(site.operator().await.unwrap().running);
    let fault = site.inject("default", &Fault::StopOperator {}).await.unwrap();
    assert!(!site.operator().await.unwrap().running);
    site.clear(&fault).await.unwrap();
    let state = site.operator().await.unwrap();
    assert!(state.running);
    assert_eq!(state.unexpected_exits, 0);

    // A fault that is still there when the lease ends is undone.
    site.inject("default", &Fault::StopOperator {}).await.unwrap();
    drop(site);
    let site = environment.lease(request(Isolation::Namespace)).await.unwrap();
    assert!(site.operator().await.unwrap().running);

    // A control plane of its own is another one.
    let own = environment.lease(request(Isolation::Cluster)).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(Client::try_from(own.config()).unwrap());
    let map = serde_json::from_value(json!({ "metadata": { "name": "here" } })).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(Api::<ConfigMap>::default_namespaced(client).get_opt("here").await.unwrap().is_none());

    // What a run that was killed has left in a cluster that stays.
    let kubeconfig = own.kubeconfig().unwrap();
    let namespaces: Api<Namespace> = Api::all(Client::try_from(own.config()).unwrap());
    let labels = json!({ "conformance.dittofs.com/run": "killed" });
    for (name, labels) in [("left", labels), ("of-somebody-else", json!({}))] {
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    }
    let mut clean = tokio::process::Command::new(env!("CARGO_BIN_EXE_conformance"));
    clean.args(["clean", "--namespaces", "--kubeconfig"]).arg(kubeconfig);
    let cleaned = clean.output().await.unwrap();
    let said = String::from_utf8_lossy(&cleaned.stdout);
    assert!(cleaned.status.success() && said.contains("removed 1 namespace(s) of"), "{cleaned:?}");
    assert!(namespaces.get_opt("left").await.unwrap().is_none());
    assert!(namespaces.get_opt("of-somebody-else").await.unwrap().is_some());

    let log = state.log;
    assert!(log.exists());
    drop((site, own));
    let ended = std::time::Instant::now();
    environment.close().await.unwrap();
    eprintln!("down after {:?}", ended.elapsed());
    assert!(!log.exists(), "the directory of the run is still there");
}

/// Not a test by itself: this very program, as the operator of the next test. On the shared control plane it is ready for
/// ever, on the one beside it never; on another one it ends when it was ready once, and is never ready again.
#[test]
#[ignore = "the operator of another test"]
fn operator_that_lasts_only_on_the_shared_control_plane() {
    let (Ok(address), Ok(kubeconfig)) = (std::env::var(ADDRESS), std::env::var(KUBECONFIG)) else { return };
    let kubeconfig = PathBuf::from(kubeconfig);
    let is_on = |plane: &str| kubeconfig.components().any(|part| part.as_os_str() == plane);
    if is_on("aside") {
        return;
    }
    let shared = is_on("shared");
    let listener = TcpListener::bind(address).unwrap();
    if !shared {
        // Fails from the second time on.
        std::fs::create_dir(kubeconfig.with_file_name("was-ready")).unwrap();
    }
    loop {
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.read(&mut [0; 1024]);
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        // The one who asked hangs up when it knows.
        let _ = connection.read(&mut [0; 1024]);
        if !shared {
            return;
        }
    }
}

#[tokio::test]
async fn a_control_plane_ends_when_its_lease_cannot_be_made() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap().display().to_string();
    let operator = "operator_that_lasts_only_on_the_shared_control_plane";
    let start = json!({
        "command": [this, "--exact", operator, "--ignored", "--nocapture"],
        "env": { ADDRESS: "127.0.0.1:${healthPort}", KUBECONFIG: "${kubeconfig}" },
    });
    let environment =
        Supervised::start(plan(directory.path(), &start), &Display::stderr(), &CancellationToken::new()).await.unwrap();
    let site = environment.lease(request(Isolation::Namespace)).await.unwrap();
    let kubeconfig = site.kubeconfig().unwrap();
    let run = kubeconfig.ancestors().find(|path| path.ends_with("shared")).and_then(Path::parent).unwrap();

    let error = environment.lease(request(Isolation::Cluster)).await.err().unwrap().to_string();
    assert!(error.contains("the operator under test had ended by itself"), "{error}");
    // The second time it is only told again, and is the operator's fault all the same.
    for _ in 0..2 {
        let aside = LeaseRequest { aside: true, ..request(Isolation::Operator) };
        let error = environment.lease(aside).await.err().unwrap();
        let blamed = matches!(&error, EnvironmentError::Violated(why) if why.starts_with("a second control plane: "));
        assert!(blamed, "{error:?}");
    }

    let left = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left = left.filter(|name| name.starts_with("own-") || name == "aside");
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
    let servers = || {
        let runs = list(run.parent().unwrap()).unwrap();
        let state = runs.into_iter().find(|found| found.directory == run).unwrap().state.unwrap();
        state.children.iter().filter(|child| child.name == "etcd").count()
    };
    let one_is_left = async {
        while servers() != 1 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(GONE_WITHIN, one_is_left).await.expect("the control plane of the scenario still runs");
    drop(site);
    environment.close().await.unwrap();
}
