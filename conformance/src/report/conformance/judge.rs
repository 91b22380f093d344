//! From runs to the verdict on each requirement.

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};

use super::document::{
    ConformanceReport, Implementation, Load, RequirementReport, RequirementVerdict, RunSummary, ScenarioReport,
};
use super::partial::partial;
use super::profile::{overall, profiles};
use super::reproduce::command;
use crate::engine::{Rate, Verdict};
use crate::environment::Description;
use crate::report::saved::{SavedOutcome, SavedReport, once};
use crate::scenario::{Entry, Requirement, Requirements};

/// What there is to judge: the requirements, and the scenarios that cover them.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue<'a> {
    /// The requirements.
    pub requirements: &'a Requirements,
    /// All scenarios.
    pub scenarios: &'a [Entry],
}

/// Runs that make no report.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
    /// There is none.
    #[error("there is no run to report about")]
    NoRun,
    /// They judge different things.
    #[error(
        "the reports are about different implementations: {0} and {1}; `conformance compare` puts those side by side"
    )]
    Different(String, String),
}

/// The report about `runs`, which must be of one version of one implementation, in one of its modes.
///
/// Of a scenario that several runs have tried, a failure counts most, then a pass: what one environment cannot do, another
/// may have shown. A run whose implementation claims less takes nothing away from what another run has seen to fail.
///
/// # Errors
/// There is no run, or they are of different implementations.
pub fn judge(runs: &[SavedReport], catalogue: Catalogue<'_>) -> Result<ConformanceReport, JudgeError> {
    let first = runs.first().ok_or(JudgeError::NoRun)?;
    let named = |run: &SavedReport| {
        let Description { implementation, implementation_version: version, about, .. } = &run.environment;
        format!("{implementation} {version} (mode {})", or(&about.mode, "default"))
    };
    if let Some(other) = runs.iter().find(|run| named(run) != named(first)) {
        return Err(JudgeError::Different(named(first), named(other)));
    }
    let all = &catalogue.requirements.all;
    let requirements: Vec<_> = all.iter().map(|requirement| verdict(requirement, runs, catalogue)).collect();
    let profiles = profiles(&requirements);
    let (result, summary) = overall(&profiles);
    let about = &first.environment.about;
    let mut versions: Vec<&str> = runs.iter().filter_map(|run| run.suite_version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    Ok(ConformanceReport {
        api_version: "conformance.dittofs.com/v1alpha1",
        kind: "ConformanceReport",
        date: to_the_second(runs.iter().map(|run| run.updated).max().unwrap_or(Timestamp::UNIX_EPOCH)),
        suite_version: or(&versions.join(", "), "unknown"),
        mode: or(&about.mode, "default"),
        implementation: Implementation {
            organization: about.organization.clone(),
            project: or(&about.project, &first.environment.implementation),
            url: about.url.clone(),
            version: first.environment.implementation_version.clone(),
            contact: about.contact.clone(),
        },
        result,
        summary,
        declared: declared(runs),
        partial: partial(runs, catalogue, &requirements),
        runs: runs.iter().map(summary_of).collect(),
        profiles,
        requirements,
        load: load(runs),
    })
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

/// Of each scenario, by the first run that knows it.
fn load(runs: &[SavedReport]) -> Vec<Load> {
    let mut all: BTreeMap<&str, Load> = BTreeMap::new();
    for outcome in runs.iter().flat_map(|run| &run.outcomes) {
        let Some(Rate { count, per_minute, servers }) = outcome.operator_requests else { continue };
        all.entry(&outcome.scenario).or_insert_with(|| Load {
            scenario: outcome.scenario.clone(),
            servers,
            milliseconds: outcome.milliseconds,
            requests: count,
            per_minute,
            per_server: count.checked_div(servers),
        });
    }
    all.into_values().collect()
}

/// What any of the runs was told.
fn declared(runs: &[SavedReport]) -> Vec<String> {
    once(runs.iter().flat_map(|run| run.declared.sentences()))
}

fn summary_of(run: &SavedReport) -> RunSummary {
    RunSummary {
        run: run.run.clone(),
        environment: run.environment.environment.clone(),
        kubernetes: run.environment.kubernetes.clone(),
        percona: run.environment.percona.clone(),
        started: to_the_second(run.started),
        ended: to_the_second(run.updated),
        state: run.state,
    }
}

/// Nobody reads more of a time.
fn to_the_second(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}

fn verdict(requirement: &Requirement, runs: &[SavedReport], catalogue: Catalogue<'_>) -> RequirementReport {
    let names = catalogue.requirements.covering(&requirement.id, catalogue.scenarios);
    let scenarios: Vec<(ScenarioReport, usize)> = names.iter().map(|name| scenario(name, runs)).collect();
    let decisive =
        scenarios.iter().map(|(scenario, run)| (scenario, *run)).max_by_key(|(scenario, _)| scenario.verdict);
    let declared = |run: &SavedReport| run.declared.unsupported(&requirement.id).map(str::to_owned);
    let failed = decisive.is_some_and(|(scenario, run)| {
        scenario.verdict == RequirementVerdict::Failed && declared(&runs[run]).is_none()
    });
    let declined = if failed { None } else { runs.iter().find_map(declared) };
    let (verdict, reason) = match (&declined, decisive) {
        (Some(why), _) => (RequirementVerdict::NotSupported, Some(why.clone())),
        (None, Some((scenario, _))) => (scenario.verdict, scenario.reason.clone()),
        (None, None) => (RequirementVerdict::NotTried, Some("no scenario covers it".to_owned())),
    };
    let reproduce = decisive.filter(|_| declined.is_none()).map(|(_, run)| command(&names, &runs[run], catalogue));
    RequirementReport {
        id: requirement.id.clone(),
        level: requirement.level,
        source: requirement.source,
        statement: requirement.statement.trim().to_owned(),
        verdict,
        reason,
        scenarios: scenarios.into_iter().map(|(scenario, _)| scenario).collect(),
        reproduce,
    }
}

/// How a scenario ended, and which run says so.
fn scenario(name: &str, runs: &[SavedReport]) -> (ScenarioReport, usize) {
    let ended: Vec<_> = runs.iter().enumerate().filter_map(|(index, run)| Some((index, run.of(name)?))).collect();
    let warnings = once(ended.iter().flat_map(|(_, outcome)| outcome.warnings.clone()));
    // A failure in one environment is a failure. Else a pass in one of them is a pass, and less of one where it was helped.
    let weight = |outcome: &SavedOutcome| match outcome.verdict {
        Verdict::Failed => 5,
        Verdict::Passed if !outcome.declared.is_empty() => 4,
        Verdict::Passed => 3,
        Verdict::Error => 2,
        Verdict::Interrupted => 1,
        Verdict::Skipped => 0,
    };
    // Of equals, the first run decides.
    let decisive = ended.into_iter().rev().max_by_key(|(_, outcome)| weight(outcome));
    let Some((index, outcome)) = decisive else {
        let verdict = RequirementVerdict::NotTried;
        let report = ScenarioReport {
            name: name.to_owned(),
            verdict,
            run: None,
            reason: None,
            declared: Vec::new(),
            warnings,
            at: None,
        };
        return (report, 0);
    };
    let verdict = match outcome.verdict {
        Verdict::Passed if !outcome.declared.is_empty() => RequirementVerdict::DeclaredDifferent,
        Verdict::Passed => RequirementVerdict::Passed,
        Verdict::Skipped => RequirementVerdict::Skipped,
        Verdict::Interrupted | Verdict::Error => RequirementVerdict::NotJudged,
        Verdict::Failed => RequirementVerdict::Failed,
    };
    let said = outcome.reason.as_deref().and_then(|reason| reason.lines().next()).map(str::to_owned);
    let reason = match outcome.verdict {
        Verdict::Passed => (!outcome.declared.is_empty()).then(|| outcome.declared.join("; ")),
        Verdict::Interrupted => Some(said.unwrap_or_else(|| "the run was interrupted".to_owned())),
        Verdict::Error | Verdict::Skipped | Verdict::Failed => said,
    };
    let place = outcome.failures.first().map(|failure| &failure.place);
    let report = ScenarioReport {
        name: name.to_owned(),
        verdict,
        run: Some(runs[index].run.clone()),
        reason,
        declared: outcome.declared.clone(),
        warnings,
        at: place.map(ToString::to_string),
    };
    (report, index)
}
