//! What the reports look like, and what comes of which runs.

use super::*;
use crate::engine::{Rate, Verdict};
use crate::environment::{About, Declared};
use crate::report::State;
use crate::report::saved::SavedReport;
use crate::report::tests_support::{outcome, run};
use crate::scenario::diagnostic::Source;
use crate::scenario::{Entry, Requirements, Scenario};

const REQUIREMENTS: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Requirements
requirements:
  - {id: gate/secret, level: core, source: percona, statement: No pod is made without the Secret.}
  - {id: gate/state, level: core, source: percona, statement: No pod is made before `state` is <ready> | true.}
  - {id: gate/limits, level: core, source: kubernetes, statement: Limits are kept.}
  - {id: gate/rest, level: provisional, source: design, statement: The rest is right.}
  - {id: backup/restore, level: extended, source: percona, statement: It can be restored.}
  - {id: backup/stanza, level: extended, source: percona, statement: There is a stanza.}
  - {id: backup/none, level: core, source: design, statement: There is no scenario of this.}
";

struct Known {
    requirements: Requirements,
    scenarios: Vec<Entry>,
}

impl Known {
    fn new() -> Self {
        let covers = [
            ("gate/a", "gate/secret"),
            ("gate/b", "gate/state"),
            ("gate/c", "gate/limits"),
            ("gate/d", "gate/rest, gate/secret"),
            ("backup/e", "backup/restore"),
            ("backup/f", "backup/stanza"),
        ];
        let scenarios = covers.map(|(name, covers)| {
            let text = format!(
                "{{apiVersion: conformance.dittofs.com/v1alpha1, kind: Scenario, claim: c, covers: [{covers}], steps: []}}"
            );
            let scenario: Scenario = serde_yaml::from_str(&text).unwrap();
            Entry { name: name.to_owned(), path: format!("scenarios/{name}.yaml").into(), scenario: Ok(scenario) }
        });
        let requirements = Requirements::parse(&Source::new("requirements.yaml", REQUIREMENTS)).unwrap();
        Self { requirements, scenarios: scenarios.into() }
    }

    fn judge(&self, runs: &[SavedReport]) -> ConformanceReport {
        let catalogue = Catalogue { requirements: &self.requirements, scenarios: &self.scenarios };
        judge(runs, catalogue).unwrap()
    }
}

fn saved<const N: usize>(outcomes: [(&str, Verdict); N]) -> SavedReport {
    let mut report = run(outcomes.map(|(name, verdict)| outcome(name, verdict)));
    report.state = State::Complete;
    report.planned = N;
    serde_json::from_value(serde_json::to_value(report).unwrap()).unwrap()
}

fn verdicts(report: &ConformanceReport) -> Vec<(&str, &str)> {
    report.requirements.iter().map(|requirement| (requirement.id.as_str(), requirement.verdict.words())).collect()
}

/// Something of everything.
fn mixed() -> Vec<SavedReport> {
    let mut embedded = saved([
        ("gate/a", Verdict::Passed),
        ("gate/b", Verdict::Failed),
        ("gate/c", Verdict::Skipped),
        ("gate/d", Verdict::Passed),
        ("backup/e", Verdict::Skipped),
        ("gate/gone", Verdict::Passed),
    ]);
    embedded.environment.about = About {
        organization: "somebody".to_owned(),
        project: "somebodys-operator".to_owned(),
        url: "https://example.com/operator".to_owned(),
        contact: vec!["@somebody".to_owned()],
        mode: String::new(),
    };
    embedded.arguments = ["--implementation", "my operator.yaml"].map(str::to_owned).into();
    let unsupported = [("backup/rest*".to_owned(), "it cannot restore".to_owned())];
    embedded.declared =
        Declared { unsupported: unsupported.into(), keeps_cluster_on_delete: true, ..Declared::default() };
    embedded.outcomes[3].declared = vec!["the PerconaPGCluster is kept when its server is deleted".to_owned()];
    let requests = |count, per_minute, servers| Some(Rate { count, per_minute, servers });
    embedded.outcomes[0].operator_requests = requests(240, 1_440, 20);
    embedded.outcomes[1].operator_requests = requests(3, 18, 0);
    embedded.outcomes[3].warnings = vec!["catch of `the pod is made`: <no pod>".to_owned()];
    let mut kind = saved([("gate/b", Verdict::Passed), ("gate/c", Verdict::Passed), ("backup/f", Verdict::Error)]);
    "r2".clone_into(&mut kind.run);
    "kind".clone_into(&mut kind.environment.environment);
    kind.arguments = ["--env", "kind"].map(str::to_owned).into();
    kind.planned = 7;
    vec![embedded, kind]
}

#[test]
fn the_report_is_written_as_yaml_markdown_and_html() {
    let report = Known::new().judge(&mixed());
    insta::assert_snapshot!("yaml", yaml(&report).unwrap());
    insta::assert_snapshot!("markdown", markdown(&report).unwrap());
    insta::assert_snapshot!("html", html(&report).unwrap());
}

#[test]
fn the_page_needs_nothing_else_and_lets_no_text_become_markup() {
    let mut runs = mixed();
    "<script>alert(1)</script>".clone_into(&mut runs[0].environment.about.project);
    "javascript:alert(1)".clone_into(&mut runs[0].environment.about.url);
    let page = html(&Known::new().judge(&runs)).unwrap();
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("<link"), "{page}");
    assert!(!page.contains("href=\"javascript:"), "{page}");
}

#[test]
fn no_text_becomes_markup_in_markdown() {
    let mut runs = mixed();
    for run in &mut runs {
        run.environment.implementation_version = "1\n\n**success**: all".to_owned();
    }
    runs[0].outcomes[1].reason = Some("panic: ` <img src=x>".to_owned());
    runs[0].arguments = ["--implementation", "a`<img>`.yaml"].map(str::to_owned).into();
    let text = markdown(&Known::new().judge(&runs)).unwrap();
    assert!(text.starts_with(r"# Conformance of somebodys-operator 1 \*\*success\*\*: all"), "{text}");
    assert!(text.contains("failed: panic: &#96; &lt;img src=x>"), "{text}");
    assert!(text.contains("--implementation 'a`<img>`.yaml'``"), "{text}");
}

#[test]
fn all_that_passed_is_a_success() {
    let mut known = Known::new();
    known.requirements.all.retain(|requirement| requirement.id.starts_with("gate/"));
    let all = ["gate/a", "gate/b", "gate/c", "gate/d", "backup/e", "backup/f"].map(|name| (name, Verdict::Passed));
    let report = known.judge(&[saved(all)]);
    assert_eq!((report.result, report.partial), (ResultWord::Success, vec![]));
    assert_eq!(
        report.summary,
        "Core requirements succeeded: 3 of 3 passed. Provisional requirements succeeded: 1 of 1 passed."
    );
}

#[test]
fn what_was_not_seen_is_no_pass() {
    let report = Known::new().judge(&[saved([("gate/a", Verdict::Passed), ("gate/c", Verdict::Interrupted)])]);
    assert_eq!(
        verdicts(&report),
        [
            // One of the two scenarios that cover it.
            ("gate/secret", "not tried"),
            ("gate/state", "not tried"),
            ("gate/limits", "not judged"),
            ("gate/rest", "not tried"),
            ("backup/restore", "not tried"),
            ("backup/stanza", "not tried"),
            ("backup/none", "not tried"),
        ]
    );
    assert_eq!(report.result, ResultWord::Partial);
}

#[test]
fn a_failure_in_any_environment_or_repetition_is_a_failure() {
    let known = Known::new();
    let passed = saved([("gate/b", Verdict::Passed)]);
    let failed = saved([("gate/b", Verdict::Failed)]);
    let flaky = saved([("gate/b", Verdict::Failed), ("gate/b", Verdict::Passed)]);
    for runs in [vec![passed.clone(), failed.clone()], vec![failed, passed], vec![flaky]] {
        let report = known.judge(&runs);
        assert_eq!(verdicts(&report)[1], ("gate/state", "failed"));
        assert_eq!(report.result, ResultWord::Failure);
    }
}

#[test]
fn what_failed_stays_so_when_a_later_run_does_not_claim_it() {
    let known = Known::new();
    let failed = saved([("backup/e", Verdict::Failed), ("backup/f", Verdict::Passed)]);
    let mut declining = saved([("backup/e", Verdict::Skipped), ("backup/f", Verdict::Skipped)]);
    declining.declared.unsupported = [("backup/*".to_owned(), "it makes no backups".to_owned())].into();
    for runs in [[failed.clone(), declining.clone()], [declining, failed]] {
        let report = known.judge(&runs);
        assert_eq!(verdicts(&report)[4..6], [("backup/restore", "failed"), ("backup/stanza", "not supported")]);
        assert!(report.requirements[4].reproduce.is_some());
    }
}

#[test]
fn what_passed_by_a_declared_difference_is_no_pass() {
    let known = Known::new();
    let mut run = saved([("gate/b", Verdict::Passed), ("gate/c", Verdict::Failed)]);
    run.outcomes.iter_mut().for_each(|outcome| outcome.declared = vec!["it is called otherwise".to_owned()]);
    let report = known.judge(&[saved([("gate/b", Verdict::Passed)]), run]);
    assert_eq!(verdicts(&report)[1..3], [("gate/state", "declared different"), ("gate/limits", "failed")]);
    assert_eq!(report.requirements[1].reason.as_deref(), Some("it is called otherwise"));
    let core = report.profiles[0].core.as_ref().unwrap();
    assert_eq!((core.statistics.passed, core.statistics.different), (0, 1));
}

#[test]
fn a_run_that_was_cut_short_says_so() {
    let known = Known::new();
    let mut run = saved([("gate/a", Verdict::Passed), ("gate/b", Verdict::Interrupted)]);
    run.planned = 9;
    run.state = State::Interrupted;
    assert_eq!(known.judge(&[run.clone()]).partial[0], "run r1 was interrupted after 1 of its 9 scenarios");
    run.state = State::Running;
    let killed = "run r1 has not ended, or was killed: 1 of its 9 scenarios have a verdict";
    assert_eq!(known.judge(&[run]).partial[0], killed);
}

#[test]
fn each_reason_for_less_than_success_is_told() {
    let known = Known::new();
    let declared = |pattern: &str| {
        let unsupported = [(pattern.to_owned(), "it has none".to_owned())].into();
        Declared { unsupported, ..Declared::default() }
    };
    let skipped = |name: &str, reason: &str| {
        let mut run = saved([(name, Verdict::Skipped)]);
        run.outcomes[0].reason = Some(reason.to_owned());
        run
    };
    let counted = |run: SavedReport| {
        let mut partial = known.judge(&[run]).partial;
        partial.retain(|reason| !reason.contains("not tried"));
        partial
    };
    // gate/d covers gate/rest and gate/secret.
    let mut beside = skipped("gate/d", "it has none");
    beside.declared = declared("gate/secret");
    assert_eq!(
        counted(beside.clone()),
        [
            "1 of 7 requirements were skipped: their scenarios cover others, too, that the implementation declares not to meet",
            "1 of 7 requirements bind every implementation, and this one declares not to meet them",
        ]
    );
    beside.outcomes[0].reason = Some("no pgBackRest".to_owned());
    assert_eq!(counted(beside)[0], "1 of 7 requirements were skipped: no environment could show them");
    let mut extended = saved([]);
    extended.declared = declared("backup/restore");
    assert_eq!(counted(extended), [] as [&str; 0]);
    let mut different = saved([("gate/b", Verdict::Passed)]);
    different.outcomes[0].declared = vec!["it is called otherwise".to_owned()];
    let told = "1 of 7 requirements are met in another way than stated, as the implementation declares";
    assert_eq!(counted(different), [told]);
    let unknown = saved([("gate/gone", Verdict::Passed), ("gate/gone", Verdict::Passed)]);
    assert_eq!(counted(unknown), ["run r1 tried scenarios that are not known here: gate/gone"]);
    let mut changed = saved([]);
    let covered = [("gate/a", "gate/secret"), ("gate/b", "gate/limits"), ("gate/gone", "gate/gone")];
    changed.scenarios = covered.map(|(name, id)| (name.to_owned(), [id.to_owned()].into())).into();
    assert_eq!(counted(changed), ["since run r1, what these scenarios cover has changed: gate/b"]);
}

#[test]
fn what_judges_the_whole_run_is_not_judged_again_by_less() {
    let mut known = Known::new();
    let whole = "{apiVersion: conformance.dittofs.com/v1alpha1, kind: Scenario, claim: c, covers: [gate/limits],
                  steps: [{name: s, try: [{permissions: {about: unused}}]}]}";
    known.scenarios[2].scenario = Ok(serde_yaml::from_str(whole).unwrap());
    let mut run = saved([("gate/b", Verdict::Failed), ("gate/c", Verdict::Failed)]);
    run.arguments = ["--repeat", "10"].map(str::to_owned).into();
    let report = known.judge(&[run]);
    let commands: Vec<_> = report.requirements[1..3].iter().filter_map(|of| of.reproduce.as_deref()).collect();
    assert_eq!(commands, ["conformance run --filter '=gate/b' --repeat 10", "conformance run --repeat 10"]);
}

#[test]
fn what_any_run_or_repetition_said_is_kept() {
    let mut run = saved([("gate/b", Verdict::Passed), ("gate/b", Verdict::Passed)]);
    run.outcomes[0].declared = vec!["it is called otherwise".to_owned()];
    run.outcomes[0].warnings = vec!["a flood".to_owned()];
    let mut other = saved([("gate/b", Verdict::Passed)]);
    other.outcomes[0].warnings = ["a flood", "another"].map(str::to_owned).into();
    let report = Known::new().judge(&[run, other]);
    assert_eq!(verdicts(&report)[1], ("gate/state", "declared different"));
    assert_eq!(report.requirements[1].scenarios[0].warnings, ["a flood", "another"]);
    let text = markdown(&report).unwrap();
    assert!(text.contains("## Warnings") && text.contains("- gate/b: a flood\n- gate/b: another\n"), "{text}");
}

#[test]
fn provisional_requirements_bind_nobody() {
    let mut known = Known::new();
    known.requirements.all.retain(|requirement| requirement.id != "backup/none");
    let all = ["gate/a", "gate/b", "gate/c", "backup/e", "backup/f"].map(|name| (name, Verdict::Passed));
    let mut run = saved(all);
    run.outcomes.extend(saved([("gate/d", Verdict::Failed)]).outcomes);
    known.requirements.all.retain(|requirement| requirement.id != "gate/secret");
    let report = known.judge(&[run]);
    assert_eq!(report.result, ResultWord::Success);
    assert!(
        report.summary.ends_with("Provisional requirements failed: 0 of 1 passed, 1 failed."),
        "{}",
        report.summary
    );
}

#[test]
fn runs_of_different_implementations_make_no_report() {
    let known = Known::new();
    let catalogue = Catalogue { requirements: &known.requirements, scenarios: &known.scenarios };
    let one = saved([]);
    let (mut version, mut mode) = (one.clone(), one.clone());
    "0.2.0".clone_into(&mut version.environment.implementation_version);
    "ha".clone_into(&mut mode.environment.about.mode);
    for (other, named) in [(version, "bundled 0.2.0 (mode default)"), (mode, "bundled 0.1.0 (mode ha)")] {
        let error = judge(&[one.clone(), other], catalogue).unwrap_err();
        assert_eq!(error, JudgeError::Different("bundled 0.1.0 (mode default)".to_owned(), named.to_owned()));
    }
    assert_eq!(judge(&[], catalogue).unwrap_err(), JudgeError::NoRun);
}
