//! Results of levels and areas, from the verdicts on their requirements.

use super::document::{Extended, Profile, RequirementReport, RequirementVerdict, ResultWord, Statistics, Status};
use crate::scenario::Level;

/// A profile for each area, in the order of the requirements.
pub(super) fn profiles(requirements: &[RequirementReport]) -> Vec<Profile> {
    let mut areas: Vec<&str> = Vec::new();
    for requirement in requirements {
        let area = area(requirement);
        if !areas.contains(&area) {
            areas.push(area);
        }
    }
    areas.into_iter().map(|name| profile(name, requirements)).collect()
}

fn area(requirement: &RequirementReport) -> &str {
    requirement.id.split('/').next().unwrap_or_default()
}

fn profile(name: &str, requirements: &[RequirementReport]) -> Profile {
    let of = |level: Level| -> Vec<&RequirementReport> {
        requirements.iter().filter(|requirement| area(requirement) == name && requirement.level == level).collect()
    };
    let (core, extended, provisional) = (of(Level::Core), of(Level::Extended), of(Level::Provisional));
    let there = |requirements: &[&RequirementReport]| (!requirements.is_empty()).then(|| status(requirements));
    let core = there(&core);
    let provisional = there(&provisional);
    let extended = (!extended.is_empty()).then(|| {
        let (unsupported, supported): (Vec<_>, Vec<_>) =
            extended.into_iter().partition(|requirement| requirement.verdict == RequirementVerdict::NotSupported);
        Extended {
            status: status(&supported),
            supported_features: ids(&supported),
            unsupported_features: ids(&unsupported),
        }
    });
    let levels = [
        ("Core", core.as_ref()),
        ("Extended", extended.as_ref().map(|extended| &extended.status)),
        ("Provisional", provisional.as_ref()),
    ];
    let sentences = levels.into_iter().filter_map(|(level, status)| Some(sentence(level, status?)));
    Profile { name: name.to_owned(), summary: sentences.collect::<Vec<_>>().join(" "), core, extended, provisional }
}

fn ids(requirements: &[&RequirementReport]) -> Vec<String> {
    requirements.iter().map(|requirement| requirement.id.clone()).collect()
}

fn status(requirements: &[&RequirementReport]) -> Status {
    let (mut skipped, mut different, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut passed = 0;
    for requirement in requirements {
        match requirement.verdict {
            RequirementVerdict::Passed => passed += 1,
            RequirementVerdict::DeclaredDifferent => different.push(requirement.id.clone()),
            RequirementVerdict::Failed => failed.push(requirement.id.clone()),
            RequirementVerdict::Skipped
            | RequirementVerdict::NotTried
            | RequirementVerdict::NotJudged
            | RequirementVerdict::NotSupported => skipped.push(requirement.id.clone()),
        }
    }
    let statistics = Statistics { passed, failed: failed.len(), skipped: skipped.len(), different: different.len() };
    Status {
        result: result(statistics),
        statistics,
        skipped_tests: skipped,
        different_tests: different,
        failed_tests: failed,
    }
}

fn result(statistics: Statistics) -> ResultWord {
    match statistics {
        // Nothing is claimed: nothing was seen.
        Statistics { passed: 0, failed: 0, skipped: 0, different: 0 } => ResultWord::Partial,
        Statistics { failed: 1.., .. } => ResultWord::Failure,
        Statistics { skipped: 0, different: 0, .. } => ResultWord::Success,
        _ => ResultWord::Partial,
    }
}

fn sentence(level: &str, status: &Status) -> String {
    let Statistics { passed, failed, skipped, different } = status.statistics;
    let total = passed + failed + skipped + different;
    if total == 0 {
        return format!("{level} requirements: none is claimed.");
    }
    let what = match status.result {
        ResultWord::Success => "succeeded",
        ResultWord::Partial => "partially succeeded",
        ResultWord::Failure => "failed",
    };
    let parts = [(failed, "failed"), (different, "declared different"), (skipped, "skipped")];
    let parts: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}")).collect();
    format!("{level} requirements {what}: {passed} of {total} passed{}.", parts.concat())
}

/// The result of all profiles. Provisional requirements bind nobody, and change nothing here.
pub(super) fn overall(profiles: &[Profile]) -> (ResultWord, String) {
    let core = profiles.iter().filter_map(|profile| profile.core.as_ref());
    let extended = profiles.iter().filter_map(|profile| Some(&profile.extended.as_ref()?.status));
    let provisional = profiles.iter().filter_map(|profile| profile.provisional.as_ref());
    let (core, extended, provisional) = (sum(core), sum(extended), sum(provisional));
    let binding: Vec<&Status> = core.iter().chain(&extended).collect();
    let levels = [("Core", &core), ("Extended", &extended), ("Provisional", &provisional)];
    let sentences = levels.into_iter().filter_map(|(level, status)| Some(sentence(level, status.as_ref()?)));
    let counted = sum(binding.into_iter());
    (counted.map_or(ResultWord::Partial, |status| status.result), sentences.collect::<Vec<_>>().join(" "))
}

/// All statuses as one, without the names; `None` of none.
fn sum<'a>(statuses: impl Iterator<Item = &'a Status>) -> Option<Status> {
    let statistics = statuses.map(|status| status.statistics).reduce(|a, b| Statistics {
        passed: a.passed + b.passed,
        failed: a.failed + b.failed,
        skipped: a.skipped + b.skipped,
        different: a.different + b.different,
    })?;
    Some(Status {
        result: result(statistics),
        statistics,
        skipped_tests: Vec::new(),
        different_tests: Vec::new(),
        failed_tests: Vec::new(),
    })
}
