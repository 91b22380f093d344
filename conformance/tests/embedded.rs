//! The embedded environment with a stand-in for an operator: a program that serves a health endpoint and nothing else.

use std::path::Path;

use conformance::embedded::Settings;
use conformance::environment::{Environment as _, Fault, Isolation, LeaseRequest};
use conformance::supervisor::{Plan, Supervised};
use conformance::tools::{self, Display};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

const IMPLEMENTATION: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Implementation
name: stand-in
version: 1.2.3
manifests: [file: manifests.yaml]
serviceAccount: { namespace: stand-in, name: stand-in }
start:
  command: ['PROBE', '--address=127.0.0.1', '--default-port=${healthPort}']
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

fn plan(directory: &Path) -> Plan {
    let implementation = directory.join("implementation.yaml");
    let probe = env!("CARGO_BIN_EXE_dittofs-probe");
    std::fs::write(&implementation, IMPLEMENTATION.replace("PROBE", probe)).unwrap();
    std::fs::write(directory.join("manifests.yaml"), MANIFESTS).unwrap();
    let settings = Settings::new(env!("CARGO_BIN_EXE_conformance").into(), implementation);
    Plan::Embedded(Settings { tools: tools::Options::from_environment(), ..settings })
}

fn request(isolation: Isolation) -> LeaseRequest {
    LeaseRequest { scenario: "a/test".to_owned(), isolation, needs: [].into(), aside: false }
}

#[tokio::test]
async fn an_environment_is_leased_and_leaves_nothing_behind() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let environment =
        Supervised::start(plan(directory.path()), &Display::stderr(), &CancellationToken::new()).await.unwrap();
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
    let map = serde_json::from_value(serde_json::json!({ "metadata": { "name": "here" } })).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(Api::<ConfigMap>::default_namespaced(client).get_opt("here").await.unwrap().is_none());

    // What a run that was killed has left in a cluster that stays.
    let kubeconfig = own.kubeconfig().unwrap();
    let namespaces: Api<Namespace> = Api::all(Client::try_from(own.config()).unwrap());
    let labels = serde_json::json!({ "conformance.dittofs.com/run": "killed" });
    for (name, labels) in [("left", labels), ("of-somebody-else", serde_json::json!({}))] {
        let namespace = serde_json::json!({ "metadata": { "name": name, "labels": labels } });
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
