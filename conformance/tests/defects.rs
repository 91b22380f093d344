//! Every scenario can fail: known defects are built into a copy of the bundled operator, and the suite must say so.
//!
//! A defect is a patch file beside the scenario that must catch it. Its head says what is wrong (`Defect:`) and which
//! scenarios must fail (`Fails:`, one line each); all others must pass. What the suite says is a snapshot.
//!
//! One test per defect, ignored by default: each builds an operator and runs every scenario. `just defects` runs them,
//! one after the other, or as many at a time as `DEFECT_JOBS` says; `just defects-kind` on kind, where the same scenarios
//! must fail. That takes hours: with `DEFECT_SCENARIOS` only the scenarios that must fail are run, and those that its globs
//! name (`DEFECT_SCENARIOS='gate/* pods/*'`), so that of all others nothing is known. With `DEFECTS_TOGETHER=6`
//! (`just defects-together`) up to six are built into one operator: such that no two change the same file, nor fail the same
//! scenario, and none is judged by what needs a run in which all others pass. That takes a quarter of the time and says nearly
//! the same; what it misses is a scenario that two defects flip and one names. Where it finds a difference, judge the
//! defects one by one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode};

use conformance::scenario::{Defect, Filter, Scenario, load};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

use self::sources::{Copy, repository, run};

#[path = "support/sources.rs"]
mod sources;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share two cores.
    arguments.test_threads = Some(number("DEFECT_JOBS"));
    let groups = match groups(&repository().join("scenarios"), number("DEFECTS_TOGETHER")) {
        Ok(groups) => groups,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let trials = groups
        .into_iter()
        .map(|defects| {
            let name = defects.iter().map(|defect| defect.name.as_str()).collect::<Vec<_>>().join(" + ");
            Trial::test(name, move || check(&defects)).with_ignored_flag(true)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What a variable says; one unless it is a number.
fn number(variable: &str) -> usize {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// The defects below `directory` in groups of at most `size`. What needs a run in which all other scenarios pass would not be
/// judged in company: such a defect is alone.
fn groups(directory: &Path, size: usize) -> anyhow::Result<Vec<Vec<Defect>>> {
    let defects = Defect::all(directory)?;
    if size <= 1 {
        return Ok(defects.into_iter().map(|defect| vec![defect]).collect());
    }
    let scenarios = load(directory, &Filter::default())?.into_iter().filter_map(|entry| entry.scenario.ok());
    let unaccompanied: BTreeSet<String> =
        scenarios.filter(Scenario::needs_the_whole_run).map(|scenario| scenario.name).collect();
    let (alone, others) = defects.into_iter().partition(|defect: &Defect| !defect.fails.is_disjoint(&unaccompanied));
    let mut groups = together(others, size);
    groups.extend(alone.into_iter().map(|defect: Defect| vec![defect]));
    Ok(groups)
}

/// Groups of at most `size` defects, of which no two change the same file or fail the same scenario, and which fail about
/// as many scenarios each.
fn together(mut defects: Vec<Defect>, size: usize) -> Vec<Vec<Defect>> {
    defects.sort_by_key(|defect| Reverse(defect.fails.len()));
    let mut groups: Vec<Vec<Defect>> = vec![Vec::new(); defects.len().div_ceil(size)];
    for defect in defects {
        let apart =
            |other: &Defect| defect.fails.is_disjoint(&other.fails) && files(&defect).is_disjoint(&files(other));
        let fits = groups.iter_mut().filter(|group| group.len() < size && group.iter().all(apart));
        match fits.min_by_key(|group| group.iter().map(|defect| defect.fails.len()).sum::<usize>()) {
            Some(group) => group.push(defect),
            None => groups.push(vec![defect]),
        }
    }
    groups
}

/// The files that a defect changes; a patch that cannot be read is reported when it is applied.
fn files(defect: &Defect) -> BTreeSet<String> {
    let patch = std::fs::read_to_string(&defect.patch).unwrap_or_default();
    patch.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(str::to_owned).collect()
}

fn check(defects: &[Defect]) -> Result<(), Failed> {
    let copy = Copy::take()?;
    let mut apply = Command::new("git");
    apply.arg("apply").args(defects.iter().map(|defect| &defect.patch)).current_dir(&copy.path);
    // In a directory of a repository, `git apply` would pass over what is not of that repository.
    run(apply.env("GIT_CEILING_DIRECTORIES", copy.path.parent().unwrap_or(&copy.path)))?;
    let fails: BTreeSet<String> = defects.iter().flat_map(|defect| defect.fails.iter().cloned()).collect();
    let reports = tempfile::tempdir()?;
    let output = copy.suite(reports.path()).arg("--no-skips").args(chosen(&fails)).output()?;
    let Ok(report) = std::fs::read_to_string(reports.path().join("report.json")) else {
        return Err(format!("no report; the suite said:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    };
    let report: Value = serde_json::from_str(&report).map_err(|error| error.to_string())?;
    let failed = scenarios(&report, "failed");
    let mut complaints = Vec::new();
    if failed != fails || !scenarios(&report, "error").is_empty() {
        let missed = fails.difference(&failed).collect::<Vec<_>>();
        let unexpected = failed.difference(&fails).collect::<Vec<_>>();
        let broken = scenarios(&report, "error");
        complaints.push(format!(
            "not caught by {missed:?}; failed without being named {unexpected:?}; errors of the environment {broken:?}\n{}\n{}",
            reasons(&report),
            said(&report, &failed)
        ));
    }
    // Elsewhere the same scenarios fail, at other addresses and with other pods.
    if std::env::var("CONFORMANCE_ENV").is_ok_and(|environment| environment != "embedded") {
        return complaint(&complaints);
    }
    let caught = defects.iter().filter(|defect| defect.fails.is_subset(&failed));
    let differing: Vec<_> = caught.filter(|defect| !is_as_before(defect, &report)).map(|defect| &defect.name).collect();
    if !differing.is_empty() {
        complaints.push(format!("the suite says something else than their snapshots: {differing:?}"));
    }
    complaint(&complaints)
}

fn complaint(complaints: &[String]) -> Result<(), Failed> {
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n\n").into()) }
}

/// Whether the suite says the same about a defect as its snapshot.
fn is_as_before(defect: &Defect, report: &Value) -> bool {
    let snapshot = defect.snapshot().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    std::panic::catch_unwind(|| {
        insta::with_settings!({ prepend_module_to_snapshot => false, filters => FILTERS.to_vec() }, {
            insta::assert_snapshot!(snapshot, said(report, &defect.fails));
        });
    })
    .is_ok()
}

/// The scenarios to run; none means all.
fn chosen(fails: &BTreeSet<String>) -> Vec<String> {
    let Ok(also) = std::env::var("DEFECT_SCENARIOS") else { return Vec::new() };
    fails.iter().cloned().chain(also.split_whitespace().map(str::to_owned)).collect()
}

/// What differs from run to run.
const FILTERS: [(&str, &str); 16] = [
    (r"\b\d+ requests of the operator", "<count> requests of the operator"),
    (r"\b\d+ times in the\b", "<count> times in the"),
    // Which of several objects of a server comes first.
    (r"\b(over:|write was) [A-Z]+ [^;\s]+", "$1 <write>"),
    (r"/\S*/scenarios/", "scenarios/"),
    // The step says where; a line more above it is no news.
    (r"(scenarios/\S+\.yaml):\d+:\d+", "$1"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>"),
    (r"\b\d\d:\d\d:\d\d\.\d+\b", "<time>"),
    (r"\b\d+(\.\d+)? ?(ms|s)\b", "<duration>"),
    (r"resourceVersion \d+", "resourceVersion <version>"),
    // Kubernetes' generated names hold no vowels, so that they are no words.
    (r"-([bcdfghjklmnpqrstvwxz2456789]{5}|[0-9a-f]{6})\b", "-<random>"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uid>"),
    (r"\b[0-9a-f]{64}\b", "<digest>"),
    // PostgreSQL's.
    (r#"("systemIdentifier":")\d+"#, "$1<number>"),
    (r"\b(127|10)\.\d+\.\d+\.\d+(:\d+)?", "<address>"),
    // How far pods that should not be there have come.
    (r#"\n  status\.phase: expected "Pending", got "\w+""#, ""),
    // What comes so often comes in any order.
    (r"(\n  <time> \w+ \S+ \S+ \(\d+\)){10,}", "\n  <many requests>"),
];

/// Where each of these scenarios failed and what it says, in the order of their names.
fn said(report: &Value, names: &BTreeSet<String>) -> String {
    let mut lines = BTreeSet::new();
    for outcome in report["outcomes"].as_array().into_iter().flatten() {
        let Some(failure) = outcome["failures"].as_array().and_then(|failures| failures.first()) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !names.contains(&text(&outcome["scenario"])) {
            continue;
        }
        let mut line = text(&outcome["scenario"]);
        let message = text(&failure["message"]).replace('\n', "\n  ");
        // A guard is violated whichever step runs meanwhile.
        if !message.starts_with("guard ") {
            let place = &failure["place"];
            let (file, step) = (text(&place["file"]), text(&place["step"]));
            line.extend(["\n  ", &format!("{file}:{}:{} in {step:?}", place["line"], place["column"])]);
        }
        line.extend(["\n  ", &message]);
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
