//! Implementations that cannot be judged, or that do what none should: the run ends in time, with the right exit code, and
//! with a report that says what happened.
//!
//! The operators are this program itself (`fake MODE ADDRESS`), behind a shell where that makes them worse. The scenarios
//! are some of the test's own: one that needs nothing of the operator, one that it cannot pass, and what a test adds.

mod fake;
mod operator;
mod restart;
mod upgrade;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

use fake::{DIFFERS, Fake, RUN, SAME, STOPS, suite};
use operator::operate;
use upgrade::upgrade;

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
    let trials = [
        case("a_missing_program", Fake::starting(json!(["bin/absent"])), "bin/absent"),
        case("a_build_that_fails", Fake::built_by("echo 'no such header' >&2; exit 3"), "no such header"),
        case("one_that_exits_at_once", Fake::starting(json!(["sh", "-c", "echo no licence; exit 7"])), "no licence"),
        case("one_that_never_becomes_ready", Fake::starting(mode("silent")), "it was not ready within 30 s"),
        case("one_with_a_conflicting_crd", Fake { conflict: true, ..Fake::starting(mode("idle")) }, "immutable"),
        judged("one_that_writes_garbage_to_its_status", Fake::starting(mode("garbage"))),
        Trial::test("one_that_ignores_sigterm", {
            let fake = Fake::starting(json!(["sh", "-c", stubborn, this, "127.0.0.1:${healthPort}"]));
            move || ignores_sigterm(&fake)
        }),
        Trial::test("one_that_floods_the_api_server", {
            let fake = Fake::starting(mode("flood"));
            move || floods(&fake)
        }),
        Trial::test("a_file_that_cannot_be_read", unreadable),
        Trial::test("what_is_declared_is_let_pass_and_noted", {
            let fake = Fake::starting(mode("different"));
            move || differs(fake)
        }),
        Trial::test("what_failed_is_annotated_paused_at_and_runs_again", {
            let fake = Fake::starting(mode("idle"));
            move || again(&fake)
        }),
        upgrade("an_upgrade_without_cause_rolls_nothing", "--database-wait-timeout=8s", None),
        upgrade("an_upgrade_that_rolls_the_pods_fails", "--database-wait-timeout=9s", Some("rollouts")),
    ];
    let trials = trials.into_iter().chain(restart::trials(&this, "127.0.0.1:${healthPort}")).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// An implementation that cannot be started: exit code 11, and a report in which no scenario has a verdict and each says
/// why (`reason`).
fn case(name: &str, fake: Fake, reason: &'static str) -> Trial {
    Trial::test(name, move || {
        let ended = fake.run()?;
        let told = ended.said.contains(reason) && ended.code == Some(11);
        let reported = ["fake/works", "fake/serves"].into_iter().all(|scenario| {
            let (verdict, why) = ended.verdict(scenario);
            verdict == "error" && why.contains(reason)
        });
        ended.must(told && reported && ended.report["environment"]["implementation"] == "fake")
    })
}

/// An implementation that runs and does not do what it should: exit code 1, and a verdict on each scenario.
fn judged(name: &str, fake: Fake) -> Trial {
    Trial::test(name, move || {
        let ended = fake.run()?;
        let verdicts = ["fake/works", "fake/serves"].map(|scenario| ended.verdict(scenario).0);
        let complete = ended.report["state"] == "complete";
        ended.must(ended.code == Some(1) && verdicts == ["passed", "failed"] && complete)
    })
}

/// It is judged like any other, and the report says what it does besides.
fn floods(fake: &Fake) -> Result<(), Failed> {
    let ended = fake.run()?;
    let verdicts = ["fake/works", "fake/serves"].map(|scenario| ended.verdict(scenario).0);
    let flood = "the operator floods the API server: ";
    let warned = ended.report["outcomes"].as_array().is_some_and(|outcomes| {
        let warnings = outcomes.iter().flat_map(|outcome| outcome["warnings"].as_array().into_iter().flatten());
        warnings.filter_map(Value::as_str).any(|warning| warning.starts_with(flood))
    });
    let told = ended.said.contains(&format!("warning: {flood}"));
    ended.must(ended.code == Some(1) && verdicts == ["passed", "failed"] && told && warned)
}

/// A scenario that stops the operator fails, and the others are judged.
fn ignores_sigterm(fake: &Fake) -> Result<(), Failed> {
    let directory = fake.write()?;
    std::fs::write(directory.path().join("scenarios/fake/stops.yaml"), STOPS)?;
    let ended = suite(directory.path(), &[RUN, &SAME].concat())?;
    let [(works, _), (serves, _), (stops, why)] =
        ["fake/works", "fake/serves", "fake/stops"].map(|scenario| ended.verdict(scenario));
    let right = (works, serves, stops, ended.code) == ("passed", "failed", "failed", Some(1));
    ended.must(right && why.contains("SIGTERM"))
}

/// What an operator does differently fails, unless its file declares it; then it passes, and the report says by what.
fn differs(mut fake: Fake) -> Result<(), Failed> {
    let run = |fake: &Fake| {
        let directory = fake.write()?;
        std::fs::write(directory.path().join("scenarios/fake/differs.yaml"), DIFFERS)?;
        suite(directory.path(), &[RUN, &SAME, &["=fake/differs"]].concat())
    };
    let ended = run(&fake)?;
    ended.must(ended.code == Some(1) && ended.verdict("fake/differs").0 == "failed")?;
    fake.declares = json!({
        "conditions": {"DatabaseReady": "Db", "WaitingForPostgreSQL": "NotYet"},
        "keepsClusterOnDelete": true,
        "tolerate": ["missing-proxy", "missing-images"],
    });
    let ended = run(&fake)?;
    let declared = json!([
        "the PerconaPGCluster is kept when its server is deleted",
        "the condition or reason DatabaseReady is called Db",
        "the condition or reason WaitingForPostgreSQL is called NotYet",
        "the suite added spec.image to a-postgres",
        "the suite added spec.proxy.pgBouncer to a-postgres",
    ]);
    ended.must(ended.code == Some(0) && ended.report["outcomes"][0]["declared"] == declared)
}

/// A failure is told to GitHub with its place, and can be looked at; what failed last runs again, in the same way, and
/// nothing else does.
fn again(fake: &Fake) -> Result<(), Failed> {
    let directory = fake.write()?;
    let ended = suite(directory.path(), &[RUN, &SAME, &["--pause-on-failure"]].concat())?;
    let annotation = "::error file=scenarios/fake/serves.yaml,line=9,col=9,title=fake/serves::DittoServer a";
    for wanted in [annotation, "paused: fake/serves did not pass", "env shell --kubeconfig /", "going on"] {
        ended.must(ended.code == Some(1) && ended.said.contains(wanted))?;
    }
    let rerun = ["rerun", "--report", "reports/report.json", "--report-dir", "reports", "--annotations", "none"];
    let ended = suite(directory.path(), &rerun)?;
    let alone = ended.report["outcomes"].as_array().map(Vec::len) == Some(1);
    let failed = ended.code == Some(1) && ended.verdict("fake/serves").0 == "failed";
    ended.must(alone && failed && !ended.said.contains("::error"))
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
