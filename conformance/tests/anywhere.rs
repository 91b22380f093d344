//! The program without a repository around, nor another program beside it: it carries the scenarios and is the workload.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program in a directory outside of any repository.
struct Elsewhere {
    directory: tempfile::TempDir,
}

impl Elsewhere {
    fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("elsewhere").tempdir_in("/tmp").unwrap() }
    }

    /// The program without what cargo puts beside it: `cargo run` builds nothing else.
    fn alone(&self) -> PathBuf {
        let directory = self.directory.path().join("bin");
        std::fs::create_dir_all(&directory).unwrap();
        let program = directory.join("conformance");
        if !program.exists() {
            // It is large; where it cannot be linked (another file system) it is copied.
            let built = env!("CARGO_BIN_EXE_conformance");
            std::fs::hard_link(built, &program).or_else(|_| std::fs::copy(built, &program).map(drop)).unwrap();
        }
        program
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.alone());
        command.args(arguments).current_dir(self.directory.path());
        for name in ["CONFORMANCE_IMPLEMENTATION", "CONFORMANCE_ENV"] {
            command.env_remove(name);
        }
        command.output().unwrap()
    }

    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// The names of the scenarios in the repository, and those of them that are newer than the program: a development build
/// does not look for new files.
fn names() -> (BTreeSet<String>, BTreeSet<String>) {
    let modified = |path: &Path| path.metadata().unwrap().modified().unwrap();
    let built = modified(Path::new(env!("CARGO_BIN_EXE_conformance")));
    let visible = |path: &Path| !path.file_name().unwrap().to_str().unwrap().starts_with(['_', '.']);
    let entries = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let (mut names, mut newer) = (BTreeSet::new(), BTreeSet::new());
    for area in entries(&scenarios()).into_iter().filter(|path| path.is_dir() && visible(path)) {
        for file in entries(&area).into_iter().filter(|path| visible(path)) {
            if file.extension().is_some_and(|extension| extension == "yaml") {
                let name = file.strip_prefix(scenarios()).unwrap().with_extension("").to_str().unwrap().to_owned();
                if modified(&file) > built {
                    newer.insert(name.clone());
                }
                names.insert(name);
            }
        }
    }
    (names, newer)
}

#[test]
fn all_scenarios_and_requirements_are_carried_and_right() {
    let elsewhere = Elsewhere::new();
    let listed: BTreeSet<String> = elsewhere.says(&["list", "--names"]).lines().map(str::to_owned).collect();
    let (names, newer) = names();
    assert!(listed.is_subset(&names) && names.difference(&listed).all(|name| newer.contains(name)), "{listed:?}");
    if !newer.is_empty() {
        println!("not looked at further: newer than the program are {newer:?}");
        return;
    }
    assert!(elsewhere.says(&["lint"]).contains(&format!("{} scenarios, no mistakes", listed.len())));
    let page = elsewhere.says(&["list", "--requirements"]);
    assert_eq!(page, elsewhere.says(&["list", "--requirements", "--scenarios", scenarios().to_str().unwrap()]));
}

#[test]
fn a_scenario_runs_and_is_reported_about() {
    let elsewhere = Elsewhere::new();
    let said = elsewhere.says(&["run", "--filter", "no_database_means_sqlite"]);
    assert!(said.contains("1 scenario: 1 passed"), "{said}");
    let said = elsewhere.says(&["report"]);
    assert!(said.contains("not tried"), "{said}");
    let written: BTreeSet<_> = std::fs::read_dir(elsewhere.directory.path().join("conformance-reports"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = ["conformance.html", "conformance.md", "conformance.yaml", "junit.xml", "report.json"];
    assert_eq!(written, expected.map(str::to_owned).into());
}

#[test]
fn a_directory_that_was_named_wins() {
    let elsewhere = Elsewhere::new();
    let output = elsewhere.run(&["list", "--scenarios", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read nowhere"));
}

/// What runs can be shown; only the comparison with what would be started needs a file.
#[test]
fn which_environment_runs_is_told_without_an_implementation_file() {
    let elsewhere = Elsewhere::new();
    for verb in ["status", "shell"] {
        let mut command = Command::new(elsewhere.alone());
        command.args(["env", verb, "--implementation", "nowhere.yaml"]).current_dir(elsewhere.directory.path());
        // Whatever is kept on this machine is not looked at.
        let output = command.env("TMPDIR", elsewhere.directory.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{verb}: {output:?}");
    }
}

#[test]
fn a_report_that_is_not_there_is_told() {
    let output = Elsewhere::new().run(&["report"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("conformance-reports/report.json") && said.contains("`conformance run` writes one"),
        "{said}"
    );
}
