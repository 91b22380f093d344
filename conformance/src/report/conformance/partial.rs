//! Why a report does not say all that there could be.

use super::document::{RequirementReport, RequirementVerdict, ScenarioReport};
use super::judge::Catalogue;
use crate::engine::Verdict;
use crate::report::State;
use crate::report::saved::SavedReport;
use crate::scenario::{Level, Scenario};

/// The reasons, a sentence each.
pub(super) fn partial(
    runs: &[SavedReport],
    catalogue: Catalogue<'_>,
    requirements: &[RequirementReport],
) -> Vec<String> {
    let mut reasons: Vec<String> = runs.iter().flat_map(|run| of_run(run, catalogue)).collect();
    let mut say = |what: &str, meant: &dyn Fn(&RequirementReport) -> bool| {
        let count = requirements.iter().filter(|requirement| meant(requirement)).count();
        if count > 0 {
            reasons.push(format!("{count} of {} requirements {what}", requirements.len()));
        }
    };
    let beside = |requirement: &RequirementReport| beside_a_declared_one(requirement, runs, catalogue);
    let skipped = |requirement: &RequirementReport| requirement.verdict == RequirementVerdict::Skipped;
    say("were skipped: no environment could show them", &|requirement| skipped(requirement) && !beside(requirement));
    say(
        "were skipped: their scenarios cover others, too, that the implementation declares not to meet",
        &|requirement| skipped(requirement) && beside(requirement),
    );
    // What binds only those that claim it lacks nothing where it is not claimed.
    say("bind every implementation, and this one declares not to meet them", &|requirement| {
        requirement.verdict == RequirementVerdict::NotSupported && requirement.level == Level::Core
    });
    for (verdict, what) in [
        (RequirementVerdict::DeclaredDifferent, "are met in another way than stated, as the implementation declares"),
        (RequirementVerdict::NotTried, "were not tried"),
        (RequirementVerdict::NotJudged, "came to no verdict"),
    ] {
        say(what, &|requirement| requirement.verdict == verdict);
    }
    reasons
}

fn of_run(run: &SavedReport, catalogue: Catalogue<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    let judged = run.outcomes.iter().filter(|outcome| outcome.verdict != Verdict::Interrupted).count();
    let (name, planned) = (&run.run, run.planned);
    match run.state {
        State::Complete if judged < planned => {
            reasons.push(format!("run {name} ended after {judged} of its {planned} scenarios"));
        }
        State::Complete => {}
        State::Interrupted => {
            reasons.push(format!("run {name} was interrupted after {judged} of its {planned} scenarios"));
        }
        State::Running => reasons.push(format!(
            "run {name} has not ended, or was killed: {judged} of its {planned} scenarios have a verdict"
        )),
    }
    let unknown = run.unknown(catalogue.scenarios);
    if !unknown.is_empty() {
        reasons.push(format!("run {name} tried scenarios that are not known here: {}", unknown.join(", ")));
    }
    let changed = run.changed(catalogue.scenarios);
    if !changed.is_empty() {
        reasons.push(format!("since run {name}, what these scenarios cover has changed: {}", changed.join(", ")));
    }
    reasons
}

/// Whether the scenarios that were skipped were so because the implementation declares not to meet something else that
/// they cover.
fn beside_a_declared_one(requirement: &RequirementReport, runs: &[SavedReport], catalogue: Catalogue<'_>) -> bool {
    let declined = |report: &ScenarioReport| {
        let covers = scenario(&report.name, catalogue).into_iter().flat_map(|scenario| &scenario.covers);
        let mut reasons = covers.flat_map(|id| runs.iter().filter_map(|run| run.declared.unsupported(id)));
        reasons.any(|reason| reason.lines().next() == report.reason.as_deref())
    };
    let skipped = |scenario: &&ScenarioReport| scenario.verdict == RequirementVerdict::Skipped;
    requirement.scenarios.iter().filter(skipped).all(declined)
}

fn scenario<'a>(name: &str, catalogue: Catalogue<'a>) -> Option<&'a Scenario> {
    catalogue.scenarios.iter().find(|entry| entry.name == name)?.scenario.as_ref().ok()
}
