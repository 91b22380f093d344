//! A cluster that was there before, in which the operator cannot be installed: how the run ends, and what it says of the rest.
//!
//! Helm is a script: what is asked here is what becomes of its errors.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Bench;

/// Finds no release, and can neither make nor remove one.
const REFUSES: &str = "\
#!/bin/sh
case $1 in
version) echo v4.0.0 ;;
status) echo 'Error: release: not found' >&2; exit 1 ;;
upgrade) echo 'the chart has a mistake' >&2; exit 1 ;;
uninstall) echo 'the release is stuck' >&2; exit 1 ;;
esac
";

/// Takes the reports away before it refuses: they cannot be written any more.
const LEAVES_NO_REPORT: &str = "\
#!/bin/sh
case $1 in
version) echo v4.0.0 ;;
status) echo 'Error: release: not found' >&2; exit 1 ;;
upgrade) rm -r \"${0%/*}/reports\"; echo 'the chart has a mistake' >&2; exit 1 ;;
esac
";

/// As a shim ends whose program is not installed.
const BROKEN: &str = "\
#!/bin/sh
echo 'no version is set' >&2
exit 126
";

/// Runs one scenario in the cluster of `kubeconfig`, with the operator installed by the Helm of `script`.
fn run(directory: &Path, kubeconfig: &Path, script: &str, image: &str, more: &[&str]) -> Output {
    let helm: PathBuf = directory.join("helm");
    std::fs::write(&helm, script).unwrap();
    std::fs::set_permissions(&helm, std::fs::Permissions::from_mode(0o755)).unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut run = Command::new(env!("CARGO_BIN_EXE_conformance"));
    run.args(["run", "--env", "existing", "--allow-cluster-changes", "--install-operator", "--operator-image", image]);
    run.arg("--kubeconfig").arg(kubeconfig).arg("--helm").arg(&helm).args(more);
    run.arg("--report-dir").arg(directory.join("reports")).arg("=precedence/no_database_means_sqlite");
    run.current_dir(repository).env_remove("CONFORMANCE_ENV").env_remove("CONFORMANCE_IMPLEMENTATION");
    run.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_the_operator_from_being_installed_decides_how_the_run_ends() {
    let bench = Bench::new().await;
    let plane = bench.control_plane(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = plane.kubeconfig();
    let ended = async |script: &'static str, image: &'static str, more: &'static [&'static str]| {
        let (directory, kubeconfig) = (directory.path().to_owned(), kubeconfig.clone());
        let run = move || run(&directory, &kubeconfig, script, image, more);
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };

    let (code, said) = ended(REFUSES, "example.com/operator:1", &[]).await;
    assert_eq!(code, Some(11), "{said}");
    assert!(said.contains("the chart has a mistake"), "{said}");
    assert!(said.contains("left behind: Helm's release dittofs-operator in namespace dittofs-system"), "{said}");
    assert!(said.contains("helm uninstall dittofs-operator --namespace dittofs-system"), "{said}");
    // They were never made.
    assert!(!said.contains("CRD dittoservers") && !said.contains("\nnamespace dittofs-system"), "{said}");

    let (code, said) = ended(LEAVES_NO_REPORT, "example.com/operator:1", &[]).await;
    assert_eq!(code, Some(11), "{said}");
    assert!(said.contains("the chart has a mistake") && said.contains("cannot write the report"), "{said}");

    let (code, said) = ended(BROKEN, "example.com/operator:1", &[]).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("no version is set"), "{said}");

    let (code, said) = ended(REFUSES, "untagged", &[]).await;
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = ended(REFUSES, "example.com/operator:1", &["--context", "nowhere"]).await;
    assert_eq!(code, Some(2), "{said}");

    plane.stop().await;
    bench.run.remove().unwrap();
}
