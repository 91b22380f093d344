//! A run of two small scenarios against an operator that is described here.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{Value, json};

/// Far above what a run takes, far below what a test may.
const WITHIN: Duration = Duration::from_mins(4);

pub const RUN: &[&str] = &["run", "--report-dir", "reports"];

/// The files that [`Fake::write`] writes.
pub const SAME: [&str; 4] = ["--scenarios", "scenarios", "--implementation", "fake.yaml"];

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

pub const STOPS: &str = "\
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

/// What an operator must do by our names, and completely.
pub const DIFFERS: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Scenario
claim: It is as it should be.
needs: [percona]
steps:
  - name: once
    try:
      - apply:
          resource:
            apiVersion: dittofs.dittofs.com/v1alpha1
            kind: DittoServer
            metadata: { name: a }
            spec: { percona: { enabled: true } }
      - assert:
          timeout: 5s
          resource:
            apiVersion: dittofs.dittofs.com/v1alpha1
            kind: DittoServer
            metadata: { name: a }
            status: { conditions: [{ type: DatabaseReady, reason: WaitingForPostgreSQL }] }
      - assert:
          timeout: databaseReady
          resource:
            apiVersion: pgv2.percona.com/v2
            kind: PerconaPGCluster
            metadata: { name: a-postgres }
            status: { state: ready }
      - delete:
          ref: { apiVersion: dittofs.dittofs.com/v1alpha1, kind: DittoServer, name: a }
      - error:
          timeout: deletion
          resource: { apiVersion: pgv2.percona.com/v2, kind: PerconaPGCluster, metadata: { name: a-postgres } }
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

/// How an implementation is described.
pub struct Fake {
    pub build: Vec<Value>,
    pub start: Value,
    pub conflict: bool,
    /// Further fields of the implementation file.
    pub declares: Value,
}

impl Fake {
    pub fn starting(start: Value) -> Self {
        Self { build: Vec::new(), start, conflict: false, declares: json!({}) }
    }

    pub fn built_by(script: &str) -> Self {
        Self { build: vec![json!(["sh", "-c", script])], ..Self::starting(json!(["true"])) }
    }

    /// Runs the two scenarios.
    pub fn run(&self) -> Result<Ended, Failed> {
        suite(self.write()?.path(), &[RUN, &SAME].concat())
    }

    /// Writes the implementation file and the two scenarios.
    pub fn write(&self) -> Result<tempfile::TempDir, Failed> {
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
        let mut file = json!({
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
        for (field, value) in self.declares.as_object().into_iter().flatten() {
            file[field] = value.clone();
        }
        // JSON is YAML.
        std::fs::write(at("fake.yaml"), file.to_string())?;
        Ok(directory)
    }
}

/// What came of a run.
pub struct Ended {
    pub code: Option<i32>,
    pub said: String,
    pub report: Value,
}

impl Ended {
    /// Ends a test: what was seen, when it is not what should be.
    pub fn must(&self, right: bool) -> Result<(), Failed> {
        if right {
            return Ok(());
        }
        Err(format!("exit code {:?}, report {:#}\n{}", self.code, self.report, self.said).into())
    }

    /// The verdict on a scenario, and why.
    pub fn verdict(&self, scenario: &str) -> (&str, &str) {
        let outcomes = self.report["outcomes"].as_array().into_iter().flatten();
        let outcome = outcomes.into_iter().find(|outcome| outcome["scenario"] == scenario).unwrap_or(&Value::Null);
        (outcome["verdict"].as_str().unwrap_or_default(), outcome["reason"].as_str().unwrap_or_default())
    }
}

/// The program with `arguments` in `directory`.
pub fn suite(directory: &Path, arguments: &[&str]) -> Result<Ended, Failed> {
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
