//! The operator's chart, as Helm lints and renders it.
//!
//! Its cases are the files `operator/chart/ci/*-values.yaml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use conformance::chart::Staged;
use conformance::process::{Completed, Launch, Run, Spawner};
use conformance::tools::{self, Cache, Display, Options, Tool, Workshop};
use rstest::rstest;
use serde_json::{Value, json};

/// Bounds one call of Helm, which takes far less than a second; making an RSA key can take a few.
const HELM: Duration = Duration::from_mins(1);

const NAMESPACE: &str = "dittofs-system";

/// What Helm is told to render for; without a cluster it would take the version that it was built with.
const KUBERNETES: &str = "--kube-version=1.34.0";

struct Fixture {
    base: tempfile::TempDir,
    spawner: Spawner,
    helm: Tool,
    chart: Staged,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Fixture {
    /// `None`, and a message, where Helm cannot be had.
    async fn new() -> Option<Self> {
        let base = tempfile::tempdir().unwrap();
        let run = Arc::new(Run::create(&base.path().join("runs")).unwrap());
        let spawner = Spawner::new(run, Some(env!("CARGO_BIN_EXE_conformance").into())).unwrap();
        let cache = Cache::open(Cache::default_root().unwrap()).unwrap();
        let workshop = Workshop { cache, spawner: spawner.clone(), progress: Display::stderr().progress() };
        let helm = match tools::helm(&workshop, &Options::default()).await {
            Err(error) if error.is_unavailable() => {
                println!("skipped: {error}");
                return None;
            }
            helm => helm.unwrap(),
        };
        let chart = Staged::new(&repository().join("operator/chart"), base.path()).unwrap();
        Some(Self { base, spawner, helm, chart })
    }

    async fn helm(&self, arguments: &[&str]) -> Completed {
        // Neither the user's repositories nor plugins take part.
        let home = self.base.path().display().to_string();
        let launch =
            Launch::new("helm", &self.helm.path).args(arguments.iter().copied()).arg(KUBERNETES).env("HOME", home);
        self.spawner.complete(&launch, HELM).await.unwrap()
    }

    /// The objects that the chart makes of values in a file, or of `key=value`.
    async fn render(&self, values: &str) -> Result<Vec<Value>, String> {
        let chart = self.chart.path().display().to_string();
        let option = if values.contains('=') { "--set" } else { "--values" };
        let rendered = self.helm(&["template", "dittofs-operator", &chart, "-n", NAMESPACE, option, values]).await;
        if !rendered.status.success() {
            return Err(rendered.stderr);
        }
        Ok(documents(&rendered.stdout))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.spawner.run().remove().unwrap();
    }
}

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
    documents
        .map(|document| serde_yaml::from_str::<Value>(document).unwrap())
        .filter(|value| !value.is_null())
        .collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// What `dittofs-operator manifests` prints.
fn generated() -> Vec<Value> {
    documents(&std::fs::read_to_string(repository().join("operator/manifests/install.yaml")).unwrap())
}

fn values(case: &str) -> String {
    repository().join(format!("operator/chart/ci/{case}-values.yaml")).display().to_string()
}

#[rstest]
#[case("default")]
#[case("cert-manager")]
#[case("full")]
#[tokio::test(flavor = "multi_thread")]
async fn the_chart_is_linted_and_renders_as_it_did(#[case] case: &str) {
    let Some(fixture) = Fixture::new().await else { return };
    let chart = fixture.chart.path().display().to_string();
    let linted = fixture.helm(&["lint", "--strict", &chart, "--values", &values(case)]).await;
    assert!(linted.status.success(), "{}{}", linted.stdout, linted.stderr);

    let mut objects = fixture.render(&values(case)).await.unwrap();
    // The CRD has a snapshot of its own, and is compared below.
    objects.retain(|object| object["kind"] != "CustomResourceDefinition");
    // Versions of Helm put kinds that they do not know into different orders.
    objects.sort_by_key(|object| object["kind"].to_string());
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"LS0t[A-Za-z0-9+/=]{100,}", "(PEM)");
    settings.add_filter(r#"renew-after: "?\d+"?"#, "renew-after: (ten years less 90 days)");
    settings.bind(|| insta::assert_yaml_snapshot!(format!("chart_{case}"), objects));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_installs_what_the_operator_says() {
    let Some(fixture) = Fixture::new().await else { return };
    let (ours, theirs) = (fixture.render(&values("default")).await.unwrap(), generated());
    for kind in ["ClusterRole", "Role"] {
        assert_eq!(of_kind(&ours, kind)["rules"], of_kind(&theirs, kind)["rules"], "{kind}");
    }
    let crd = |objects| of_kind(objects, "CustomResourceDefinition")["spec"].clone();
    assert_eq!(crd(&ours), crd(&theirs));

    let webhook = |objects: &[Value]| {
        let mut webhooks = of_kind(objects, "ValidatingWebhookConfiguration")["webhooks"].clone();
        webhooks[0]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
        webhooks
    };
    assert_eq!(webhook(&ours), webhook(&theirs));

    // The pods of the chart are those of the plain manifests, but for what its values name.
    let pod = |objects: &[Value]| {
        let mut pod = of_kind(objects, "Deployment")["spec"]["template"]["spec"].clone();
        let container = pod["containers"][0].as_object_mut().unwrap();
        container.remove("imagePullPolicy");
        container["env"].as_array_mut().unwrap().retain(|variable| variable["name"] != "RUST_LOG");
        pod
    };
    assert_eq!(pod(&ours), pod(&theirs));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_is_called_with_the_certificate_authority_that_the_chart_made() {
    let Some(fixture) = Fixture::new().await else { return };
    let objects = fixture.render(&values("default")).await.unwrap();
    let secret = of_kind(&objects, "Secret");
    let webhook = &of_kind(&objects, "ValidatingWebhookConfiguration")["webhooks"][0];
    assert_eq!(webhook["clientConfig"]["caBundle"], secret["data"]["ca.crt"]);
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let volume = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["volumes"][0];
    assert_eq!(volume["secret"]["secretName"], secret["metadata"]["name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn percona_comes_with_the_chart_only_when_asked_for() {
    let Some(fixture) = Fixture::new().await else { return };
    if fixture.chart.stubs().is_empty() {
        let objects = fixture.render("percona.enabled=true").await.unwrap();
        assert_eq!(objects.iter().filter(|object| object["kind"] == "Deployment").count(), 2);
    } else {
        // The stub was reached.
        let error = fixture.render("percona.enabled=true").await.unwrap_err();
        assert!(error.contains("the chart pg-operator 2.8.2 is a stub that cannot be installed"), "{error}");
    }
}

#[rstest]
#[case("replica=2", "replica")]
#[case("replicas=-1", "replicas")]
#[case("image.repository=operator:1", "repository")]
#[case("webhook.certificate=self", "certificate")]
#[case("log.format=xml", "format")]
#[case("databaseWaitTimeout=soon", "databaseWaitTimeout")]
#[case("podLabels.a=1", "podLabels")]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_value_is_refused_by_its_name(#[case] value: &str, #[case] name: &str) {
    let Some(fixture) = Fixture::new().await else { return };
    let error = fixture.render(value).await.unwrap_err();
    assert!(error.contains(name) && error.contains("schema"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crd_stays_unless_the_values_say_otherwise() {
    let Some(fixture) = Fixture::new().await else { return };
    let policy = async |value: &str| {
        let objects = fixture.render(value).await.unwrap();
        of_kind(&objects, "CustomResourceDefinition")["metadata"]["annotations"].clone()
    };
    assert_eq!(policy("crds.keep=true").await, json!({ "helm.sh/resource-policy": "keep" }));
    assert_eq!(policy("crds.keep=false").await, Value::Null);
    let without = fixture.render("crds.install=false").await.unwrap();
    assert!(without.iter().all(|object| object["kind"] != "CustomResourceDefinition"));
}
