//! The workflows of GitHub Actions do nothing that a person cannot do at home: every step of theirs is a recipe of the
//! justfile, and what they use of others is pinned. `just workflows` adds what actionlint and zizmor know.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn workflows() -> Vec<(PathBuf, String)> {
    let directory = repository().join(".github/workflows");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no workflow", directory.display());
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

/// The jobs of a workflow, and the steps of each.
fn steps(text: &str) -> Vec<Value> {
    let workflow: Value = serde_yaml::from_str(text).unwrap();
    let jobs = workflow["jobs"].as_object().expect("a workflow has jobs");
    jobs.values().flat_map(|job| job["steps"].as_array().cloned().unwrap_or_default()).collect()
}

/// The recipes of the justfile.
fn recipes() -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository().join("justfile")).unwrap();
    let head = Regex::new(r"(?m)^([a-z][a-z0-9-]*)(?: [^:=\n]*(?:=\S+)?[^:=\n]*)?:(?:[^=]|$)").unwrap();
    head.captures_iter(&text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_step_that_runs_something_is_a_recipe() {
    let recipes = recipes();
    assert!(recipes.contains("ci") && recipes.contains("e2e-one"), "{recipes:?}");
    for (file, text) in workflows() {
        let mut seen = 0;
        for command in steps(&text).iter().filter_map(|step| step["run"].as_str()) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let known = words.first() == Some(&"just") && words.get(1).is_some_and(|name| recipes.contains(*name));
            assert!(known, "{}: `{command}` is no recipe", file.display());
            assert!(!command.contains("${{"), "{}: `{command}`: hand it over by `env`", file.display());
            assert_eq!(command.trim().lines().count(), 1, "{}: `{command}` is more than one recipe", file.display());
            seen += 1;
        }
        assert!(seen > 0, "{} runs nothing", file.display());
    }
}

#[test]
fn every_action_is_pinned_and_its_version_told() {
    let pinned = Regex::new(r"^\s*-? ?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*$").unwrap();
    for (file, text) in workflows() {
        for line in text.lines().filter(|line| line.contains("uses:") && !line.trim_start().starts_with('#')) {
            assert!(pinned.is_match(line), "{}: {line}", file.display());
        }
    }
}

#[test]
fn nothing_is_allowed_that_a_job_does_not_ask_for() {
    for (file, text) in workflows() {
        let workflow: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{}", file.display());
        assert!(workflow["concurrency"]["group"].is_string(), "{} has no concurrency group", file.display());
        for (name, job) in workflow["jobs"].as_object().unwrap() {
            assert!(job["timeout-minutes"].is_u64(), "{}: job {name} has no timeout", file.display());
        }
    }
}
