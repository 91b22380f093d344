//! Implementations that cannot be judged, or that do what none should: the run ends in time, with the right exit code, and
//! with a report that says what happened.
//!
//! The operators are this program itself (`fake MODE ADDRESS`), behind a shell where that makes them worse. The scenarios
//! are two of the test's own: one that needs nothing of the operator, and one that it cannot pass.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

/// Far above what a run takes, far below what a test may.
const WITHIN: Duration = Duration::from_mins(4);

const RUN: &[&str] = &["run", "--report-dir", "reports"];

const SCENARIO: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Scenario
claim: It holds.
steps:
  - name: once
    try:
      - apply:
          resource: OBJECT
      - assert:
          timeout: 3s
          resource: EXPECTED
";

const STOPS: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Scenario
claim: The operator can be stopped.
isolation: operator
needs: [operatorControl]
steps:
  - name: once
    try:
      - fault:
          name: stopped
          inject:
            stopOperator: {}
      - release:
          fault: stopped
";

const MANIFESTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: { name: fake }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: fake, namespace: fake }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: fake }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects: [{ kind: ServiceAccount, name: fake, namespace: fake }]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: dittoservers.dittofs.dittofs.com }
spec:
  group: dittofs.dittofs.com
  scope: Namespaced
  names: { kind: DittoServer, plural: dittoservers, singular: dittoserver }
  versions:
    - name: v1alpha1
      served: true
      storage: true
      subresources: { status: {} }
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
";

/// It is namespaced, and that cannot be changed.
const CONFLICT: &str = "\
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: perconapgclusters.pgv2.percona.com }
spec:
  group: pgv2.percona.com
  scope: Cluster
  names: { kind: PerconaPGCluster, plural: perconapgclusters, singular: perconapgcluster }
  versions:
    - name: v2
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [fake, mode, address] = words.as_slice()
        && fake == "fake"
    {
        return operate(mode, address);
    }
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let this = std::env::current_exe().unwrap().display().to_string();
    let mode = |mode: &str| json!([this, "fake", mode, "127.0.0.1:${healthPort}"]);
    let stubborn = "trap '' TERM; exec \"$0\" fake idle \"$1\"";
    let never = Never::Begun;
    let trials = [
        case("a_missing_program", Fake::starting(json!(["bin/absent"])), never, "bin/absent"),
        case("a_build_that_fails", Fake::built_by("echo 'no such header' >&2; exit 3"), never, "no such header"),
        case(
            "one_that_exits_at_once",
            Fake::starting(json!(["sh", "-c", "echo no licence; exit 7"])),
            never,
            "no licence",
        ),
        case("one_that_never_becomes_ready", Fake::starting(mode("silent")), never, "it was not ready within 30 s"),
        case("one_with_a_conflicting_crd", Fake { conflict: true, ..Fake::starting(mode("idle")) }, never, "immutable"),
        judged("one_that_writes_garbage_to_its_status", Fake::starting(mode("garbage"))),
        judged(
            "one_that_ignores_sigterm",
            Fake::starting(json!(["sh", "-c", stubborn, this, "127.0.0.1:${healthPort}"])),
        ),
        judged("one_that_floods_the_api_server", Fake::starting(mode("flood"))),
        Trial::test("a_file_that_cannot_be_read", unreadable),
        Trial::test("what_failed_is_annotated_paused_at_and_runs_again", {
            let fake = Fake::starting(mode("idle"));
            move || again(&fake)
        }),
    ];
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// How an implementation is described.
struct Fake {
    build: Vec<Value>,
    start: Value,
    conflict: bool,
}

/// No scenario was begun.
#[derive(Clone, Copy)]
enum Never {
    Begun,
}

impl Fake {
    fn starting(start: Value) -> Self {
        Self { build: Vec::new(), start, conflict: false }
    }

    fn built_by(script: &str) -> Self {
        Self { build: vec![json!(["sh", "-c", script])], ..Self::starting(json!(["true"])) }
    }

    /// Runs the two scenarios.
    fn run(&self) -> Result<Ended, Failed> {
        suite(self.write()?.path(), &[RUN, &["--scenarios", "scenarios", "--implementation", "fake.yaml"]].concat())
    }

    /// Writes the implementation file and the two scenarios.
    fn write(&self) -> Result<tempfile::TempDir, Failed> {
        let directory = tempfile::Builder::new().prefix("fake").tempdir_in("/tmp")?;
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("scenarios/fake"))?;
        let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {b: c}}";
        let server = "{apiVersion: dittofs.dittofs.com/v1alpha1, kind: DittoServer, metadata: {name: a}";
        let running = format!("{server}, status: {{phase: Running}}}}");
        for (name, object, expected) in [("works", map, map), ("serves", &format!("{server}}}"), &running)] {
            let text = SCENARIO.replace("OBJECT", object).replace("EXPECTED", expected);
            std::fs::write(at(&format!("scenarios/fake/{name}.yaml")), text)?;
        }
        std::fs::write(at("manifests.yaml"), MANIFESTS.to_owned() + if self.conflict { CONFLICT } else { "" })?;
        let file = json!({
            "apiVersion": "conformance.dittofs.com/v1alpha1",
            "kind": "Implementation",
            "name": "fake",
            "version": "0",
            "build": self.build,
            "manifests": [{"file": "manifests.yaml"}],
            "serviceAccount": {"namespace": "fake", "name": "fake"},
            "start": {"command": self.start, "env": {"KUBECONFIG": "${kubeconfig}"}},
            "ready": "http://127.0.0.1:${healthPort}/",
            "images": {"workload": ["example.com/none"]},
        });
        // JSON is YAML.
        std::fs::write(at("fake.yaml"), file.to_string())?;
        Ok(directory)
    }
}

/// What came of a run.
struct Ended {
    code: Option<i32>,
    said: String,
    report: Value,
}

impl Ended {
    /// The verdict on a scenario, and why.
    fn verdict(&self, scenario: &str) -> (&str, &str) {
        let outcomes = self.report["outcomes"].as_array().into_iter().flatten();
        let outcome = outcomes.into_iter().find(|outcome| outcome["scenario"] == scenario).unwrap_or(&Value::Null);
        (outcome["verdict"].as_str().unwrap_or_default(), outcome["reason"].as_str().unwrap_or_default())
    }
}

/// The program with `arguments` in `directory`.
fn suite(directory: &Path, arguments: &[&str]) -> Result<Ended, Failed> {
    let said = std::fs::File::create(directory.join("said"))?;
    let mut run = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("CONFORMANCE_ENV")
        .env("GITHUB_ACTIONS", "true")
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .spawn()?;
    // An end within the limit is part of what is claimed.
    let (done, ended) = std::sync::mpsc::channel();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(run.id())?);
    let watching = std::thread::spawn(move || {
        let late = ended.recv_timeout(WITHIN).is_err();
        if late {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        late
    });
    let status = run.wait()?;
    let _ = done.send(());
    let said = std::fs::read_to_string(directory.join("said"))?;
    if watching.join().unwrap_or(true) {
        return Err(format!("the run did not end within {WITHIN:?}:\n{said}").into());
    }
    let report = std::fs::read_to_string(directory.join("reports/report.json"))
        .map_err(|error| format!("no report ({error}); the suite said:\n{said}"))?;
    let report = serde_json::from_str(&report).map_err(|error| error.to_string())?;
    Ok(Ended { code: status.code(), said, report })
}

/// An implementation that cannot be started: exit code 11, and a report in which no scenario has a verdict and each says
/// why (`reason`).
fn case(name: &str, fake: Fake, _: Never, reason: &'static str) -> Trial {
    Trial::test(name, move || {
        let ended = fake.run()?;
        let told = ended.said.contains(reason) && ended.code == Some(11);
        let reported = ["fake/works", "fake/serves"].into_iter().all(|scenario| {
            let (verdict, why) = ended.verdict(scenario);
            verdict == "error" && why.contains(reason)
        });
        if told && reported && ended.report["environment"]["implementation"] == "fake" {
            return Ok(());
        }
        Err(format!("exit code {:?}, report {:#}\n{}", ended.code, ended.report, ended.said).into())
    })
}

/// An implementation that runs and does not do what it should: exit code 1, and a verdict on each scenario.
fn judged(name: &str, fake: Fake) -> Trial {
    Trial::test(name, move || {
        let ended = fake.run()?;
        let verdicts = ["fake/works", "fake/serves"].map(|scenario| ended.verdict(scenario).0);
        if ended.code == Some(1) && verdicts == ["passed", "failed"] && ended.report["state"] == "complete" {
            return Ok(());
        }
        Err(format!("exit code {:?}, report {:#}\n{}", ended.code, ended.report, ended.said).into())
    })
}

/// A scenario that stops the operator fails, and the others are judged.
fn ignores_sigterm(fake: &Fake) -> Result<(), Failed> {
    let directory = fake.write()?;
    std::fs::write(directory.path().join("scenarios/fake/stops.yaml"), STOPS)?;
    let same = ["--scenarios", "scenarios", "--implementation", "fake.yaml"];
    let ended = suite(directory.path(), &[RUN, &same].concat())?;
    let verdicts = ["fake/works", "fake/serves", "fake/stops"].map(|scenario| ended.verdict(scenario));
    let ([(works, _), (serves, _), (stops, why)], code) = (verdicts, ended.code);
    if (works, serves, stops, code) == ("passed", "failed", "failed", Some(1)) && why.contains("SIGTERM") {
        return Ok(());
    }
    Err(format!("exit code {code:?}, report {:#}\n{}", ended.report, ended.said).into())
}

/// A failure is told to GitHub with its place, and can be looked at; what failed last runs again, in the same way, and
/// nothing else does.
fn again(fake: &Fake) -> Result<(), Failed> {
    let directory = fake.write()?;
    let same = ["--scenarios", "scenarios", "--implementation", "fake.yaml"];
    let ended = suite(directory.path(), &[RUN, &same, &["--pause-on-failure"]].concat())?;
    let annotation = "::error file=scenarios/fake/serves.yaml,line=9,col=9,title=fake/serves::DittoServer a";
    for wanted in [annotation, "paused: fake/serves did not pass", "env shell --kubeconfig /", "going on"] {
        if ended.code != Some(1) || !ended.said.contains(wanted) {
            return Err(format!("exit code {:?}, not said: {wanted}\n{}", ended.code, ended.said).into());
        }
    }
    let rerun = ["rerun", "--report", "reports/report.json", "--report-dir", "reports", "--annotations", "none"];
    let ended = suite(directory.path(), &rerun)?;
    let alone = ended.report["outcomes"].as_array().map(Vec::len) == Some(1);
    if ended.code == Some(1) && alone && ended.verdict("fake/serves").0 == "failed" && !ended.said.contains("::error") {
        return Ok(());
    }
    Err(format!("exit code {:?}, report {:#}\n{}", ended.code, ended.report, ended.said).into())
}

/// What is wrong with the file is told before anything is started.
fn unreadable() -> Result<(), Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--implementation", "/nowhere/fake.yaml"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = said.contains("cannot read the implementation file /nowhere/fake.yaml");
    if output.status.code() == Some(2) && told { Ok(()) } else { Err(format!("{}: {said}", output.status).into()) }
}

/// The operator.
fn operate(mode: &str, address: &str) -> ExitCode {
    if mode == "silent" {
        loop {
            std::thread::park();
        }
    }
    let Ok(listener) = TcpListener::bind(address) else { return ExitCode::FAILURE };
    let mode = mode.to_owned();
    std::thread::spawn(move || {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(act(&mode)).expect("access to the API server");
    });
    for connection in listener.incoming() {
        let Ok(mut connection) = connection else { continue };
        let _ = connection.read(&mut [0; 1024]);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    ExitCode::SUCCESS
}

/// What it does besides being ready.
async fn act(mode: &str) -> Result<(), kube::Error> {
    use futures::StreamExt as _;
    use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
    use kube::core::{ApiResource, GroupVersionKind};
    use kube::runtime::watcher;

    let client = kube::Client::try_default().await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("dittofs.dittofs.com", "v1alpha1", "DittoServer"));
    match mode {
        "garbage" => {
            let servers: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            let mut events = std::pin::pin!(watcher(servers, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let Ok(watcher::Event::Apply(server)) = event else { continue };
                if !server.data["status"].is_null() {
                    continue;
                }
                let namespace = server.metadata.namespace.unwrap_or_default();
                let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
                let garbage = json!({"status": {
                    "phase": 42,
                    "observedGeneration": "yesterday",
                    "conditions": [null, "Ready", {"type": {"a": []}}, {"type": "Ready", "status": 1}],
                    "\u{0}\u{202e}": "\u{1b}[2J".repeat(1000),
                }});
                let name = server.metadata.name.unwrap_or_default();
                let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&garbage)).await;
            }
        }
        "flood" => {
            let flood = (0..8).map(|_| async {
                let all: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
                loop {
                    let _ = all.list(&ListParams::default()).await;
                }
            });
            futures::future::join_all(flood).await;
        }
        _ => std::future::pending().await,
    }
    Ok(())
}
