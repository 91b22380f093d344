//! What a scenario leaves in its namespace goes with it, also where Percona would hold it for ever.

use std::process::Command;

/// A Job as Percona 2.8.2 leaves it when a manual backup is interrupted: nobody takes its finalizer away any more.
const SCENARIO: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Scenario
claim: A Job that Percona has left behind does not hold its namespace.
steps:
  - name: an interrupted backup
    try:
      - create:
          resource:
            apiVersion: batch/v1
            kind: Job
            metadata:
              name: demo-postgres-backup-left
              finalizers: [internal.percona.com/keep-job]
            spec:
              suspend: true
              template:
                spec:
                  restartPolicy: Never
                  containers:
                    - name: pgbackrest
                      image: example.com/pgbackrest:1
";

#[test]
fn a_job_that_percona_has_left_does_not_hold_its_namespace() {
    let directory = tempfile::tempdir().unwrap();
    let scenarios = directory.path().join("scenarios");
    std::fs::create_dir_all(scenarios.join("backup")).unwrap();
    std::fs::write(scenarios.join("backup/left.yaml"), SCENARIO).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_conformance"));
    run.args(["run", "--report-dir"]).arg(directory.path().join("reports")).arg("--scenarios").arg(&scenarios);
    let output = run.env_remove("CONFORMANCE_ENV").env_remove("CONFORMANCE_IMPLEMENTATION").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 scenario: 1 passed"), "{output:?}");
}
