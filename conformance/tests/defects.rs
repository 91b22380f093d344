//! Every scenario can fail: known defects are built into a copy of the bundled operator, and the suite must say so.
//!
//! A defect is a patch file beside the scenario that must catch it. Its head says what is wrong (`Defect:`) and which
//! scenarios must fail (`Fails:`, one line each); all others must pass. What the suite says is a snapshot.
//!
//! One test per defect, ignored by default: each builds an operator and runs every scenario. `just defects` runs them,
//! one after the other, or as many at a time as `DEFECT_JOBS` says; `just defects-kind` on kind, where the same scenarios
//! must fail. That takes hours: with `DEFECT_SCENARIOS` only the scenarios that must fail are run, and those that its globs
//! name (`DEFECT_SCENARIOS='gate/* pods/*'`), so that of all others nothing is known.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

use conformance::scenario::Defect;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

use self::sources::{Copy, repository, run};

#[path = "support/sources.rs"]
mod sources;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share two cores.
    arguments.test_threads = Some(std::env::var("DEFECT_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1));
    let defects = match Defect::all(&repository().join("scenarios")) {
        Ok(defects) => defects,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let trials = defects
        .into_iter()
        .map(|defect| Trial::test(defect.name.clone(), move || check(&defect)).with_ignored_flag(true))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn check(defect: &Defect) -> Result<(), Failed> {
    let copy = Copy::take()?;
    let mut apply = Command::new("git");
    apply.arg("apply").arg(&defect.patch).current_dir(&copy.path);
    // In a directory of a repository, `git apply` would pass over what is not of that repository.
    run(apply.env("GIT_CEILING_DIRECTORIES", copy.path.parent().unwrap_or(&copy.path)))?;
    let reports = tempfile::tempdir()?;
    let output = copy.suite(reports.path()).arg("--no-skips").args(chosen(defect)).output()?;
    let Ok(report) = std::fs::read_to_string(reports.path().join("report.json")) else {
        return Err(format!("no report; the suite said:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    };
    let report: Value = serde_json::from_str(&report).map_err(|error| error.to_string())?;
    let failed = scenarios(&report, "failed");
    if failed != defect.fails || !scenarios(&report, "error").is_empty() {
        let missed = defect.fails.difference(&failed).collect::<Vec<_>>();
        let unexpected = failed.difference(&defect.fails).collect::<Vec<_>>();
        let broken = scenarios(&report, "error");
        return Err(format!(
            "not caught by {missed:?}; failed without being named {unexpected:?}; errors of the environment {broken:?}\n{}\n{}",
            reasons(&report),
            said(&report)
        )
        .into());
    }
    // Elsewhere the same scenarios fail, at other addresses and with other pods.
    if std::env::var("CONFORMANCE_ENV").is_ok_and(|environment| environment != "embedded") {
        return Ok(());
    }
    let snapshot = defect.snapshot().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    std::panic::catch_unwind(|| {
        insta::with_settings!({ prepend_module_to_snapshot => false, filters => FILTERS.to_vec() }, {
            insta::assert_snapshot!(snapshot, said(&report));
        });
    })
    .map_err(|_| Failed::from("the suite says something else about this defect than its snapshot"))
}

/// The scenarios to run; none means all.
fn chosen(defect: &Defect) -> Vec<String> {
    let Ok(also) = std::env::var("DEFECT_SCENARIOS") else { return Vec::new() };
    defect.fails.iter().cloned().chain(also.split_whitespace().map(str::to_owned)).collect()
}

/// What differs from run to run.
const FILTERS: [(&str, &str); 13] = [
    (r"\b\d+ requests of the operator", "<count> requests of the operator"),
    (r"\b\d+ times in the\b", "<count> times in the"),
    // Which of several objects of a server comes first.
    (r"\b(over:|write was) [A-Z]+ [^;\s]+", "$1 <write>"),
    (r"/\S*/scenarios/", "scenarios/"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>"),
    (r"\b\d\d:\d\d:\d\d\.\d+\b", "<time>"),
    (r"\b\d+(\.\d+)? ?(ms|s)\b", "<duration>"),
    (r"resourceVersion \d+", "resourceVersion <version>"),
    // Kubernetes' generated names hold no vowels, so that they are no words.
    (r"-([bcdfghjklmnpqrstvwxz2456789]{5}|[0-9a-f]{6})\b", "-<random>"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uid>"),
    (r"\b[0-9a-f]{64}\b", "<digest>"),
    (r"\b(127|10)\.\d+\.\d+\.\d+(:\d+)?", "<address>"),
    // What comes so often comes in any order.
    (r"(\n  <time> \w+ \S+ \S+ \(\d+\)){10,}", "\n  <many requests>"),
];

/// Where each failed scenario stands and what it says, in the order of their names.
fn said(report: &Value) -> String {
    let mut lines = BTreeSet::new();
    for outcome in report["outcomes"].as_array().into_iter().flatten() {
        let Some(failure) = outcome["failures"].as_array().and_then(|failures| failures.first()) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let place = &failure["place"];
        let mut line = format!(
            "{}\n  {}:{}:{} in {:?}\n  {}",
            text(&outcome["scenario"]),
            text(&place["file"]),
            place["line"],
            place["column"],
            text(&place["step"]),
            text(&failure["message"]).replace('\n', "\n  ")
        );
        for mismatch in failure["mismatches"].as_array().into_iter().flatten() {
            let actual = mismatch["actual"].as_str().unwrap_or("nothing");
            let (path, expected) = (text(&mismatch["path"]), text(&mismatch["expected"]));
            line.extend(["\n  ", &path, ": expected ", &expected, ", got ", actual]);
        }
        lines.insert(line);
    }
    lines.into_iter().collect::<Vec<_>>().join("\n\n")
}

/// Why there is no verdict: each reason once, as when the operator cannot be built.
fn reasons(report: &Value) -> String {
    let outcomes = report["outcomes"].as_array().into_iter().flatten();
    let broken = outcomes.filter(|outcome| outcome["verdict"] == "error");
    broken
        .filter_map(|outcome| outcome["reason"].as_str())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
        .join("\n")
}

/// The scenarios of a verdict in a report.
fn scenarios(report: &Value, verdict: &str) -> BTreeSet<String> {
    let outcomes = report["outcomes"].as_array().into_iter().flatten();
    let names = outcomes.filter(|outcome| outcome["verdict"] == verdict).map(|outcome| &outcome["scenario"]);
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}
