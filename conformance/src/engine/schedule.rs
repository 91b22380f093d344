//! Which scenarios run when: beside each other where they may, alone where they must.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::task::JoinSet;

use super::outcome::{Outcome, Verdict};
use super::runner;
use super::settings::Settings;
use crate::environment::{Environment, Isolation};
use crate::scenario::Scenario;

/// One run of one scenario.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// Its file, as people are told about it.
    pub file: PathBuf,
    /// Which repetition of it, from 1.
    pub repetition: u32,
}

/// What to do with the scenarios.
#[derive(Clone, Debug)]
pub struct Order {
    /// How often each of them is run.
    pub repeat: u32,
    /// Shuffles them by this seed.
    pub shuffle: Option<u64>,
}

/// How many run at a time, and what ends the run early.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Scenarios at a time.
    pub parallel: usize,
    /// Begins nothing new after the first failure.
    pub fail_fast: bool,
    /// Whether these are not all the scenarios that there are.
    pub partial: bool,
}

/// Something happened.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A scenario began, or begins to wait for its site.
    Began(&'a Job),
    /// A scenario has ended.
    Ended(Box<Outcome>),
}

/// The jobs in the order in which they begin: all first repetitions before the second ones.
pub fn plan(scenarios: &[(Arc<Scenario>, PathBuf)], order: &Order) -> Vec<Job> {
    let mut random = order.shuffle.map(StdRng::seed_from_u64);
    let mut jobs = Vec::new();
    for repetition in 1..=order.repeat {
        let mut round: Vec<Job> = scenarios
            .iter()
            .map(|(scenario, file)| Job { scenario: scenario.clone(), file: file.clone(), repetition })
            .collect();
        if let Some(random) = &mut random {
            round.shuffle(random);
        }
        jobs.extend(round);
    }
    jobs
}

/// Runs `jobs` and tells each end as it comes. What needs the whole site comes last, one after the other: it would make
/// all others wait in the middle. What is about the whole run comes at the very end, if all others have passed. What an interruption keeps from beginning is told as interrupted.
pub async fn run(
    environment: Arc<dyn Environment>,
    jobs: Vec<Job>,
    pace: Pace,
    settings: &Settings,
    mut tell: impl FnMut(Progress<'_>),
) {
    let (last, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.scenario.about_the_run());
    let (alone, beside): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| job.scenario.isolation == Isolation::Operator);
    let mut stopped = false;
    let mut unknown = pace.partial.then(|| "it is about a whole run, and this one is of some scenarios".to_owned());
    for (group, parallel) in [(beside, pace.parallel.max(1)), (alone, 1), (last, 1)] {
        let mut waiting = VecDeque::from(group);
        if waiting.front().is_some_and(|job| job.scenario.about_the_run())
            && let Some(why) = &unknown
        {
            for job in waiting.drain(..) {
                tell(Progress::Ended(Box::new(runner::skipped(&job, why))));
            }
        }
        let mut running = JoinSet::new();
        loop {
            while running.len() < parallel && !stopped && !settings.interrupted.is_cancelled() {
                let Some(job) = waiting.pop_front() else { break };
                tell(Progress::Began(&job));
                running.spawn(one(environment.clone(), job, settings.clone()));
            }
            let Some(ended) = running.join_next().await else { break };
            // A job catches its own panics; nobody aborts one.
            let Ok(outcome) = ended else { continue };
            if outcome.verdict != Verdict::Passed {
                unknown.get_or_insert_with(|| {
                    format!("it is about a whole run, and in this one {} did not pass", outcome.scenario)
                });
            }
            stopped |= pace.fail_fast && matches!(outcome.verdict, Verdict::Failed | Verdict::Error);
            tell(Progress::Ended(Box::new(outcome)));
        }
        let why = if stopped { "not begun: --fail-fast" } else { "not begun" };
        for job in waiting {
            tell(Progress::Ended(Box::new(runner::not_begun(&job, why))));
        }
    }
}

async fn one(environment: Arc<dyn Environment>, job: Job, settings: Settings) -> Outcome {
    runner::run(&*environment, &job, &settings).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenarios(names: &[&str]) -> Vec<(Arc<Scenario>, PathBuf)> {
        let scenario = |name: &&str| {
            let text = "{apiVersion: conformance.dittofs.com/v1alpha1, kind: Scenario, claim: c, steps: []}";
            let mut scenario: Scenario = serde_yaml::from_str(text).unwrap();
            scenario.name = (*name).to_owned();
            (Arc::new(scenario), PathBuf::from(name))
        };
        names.iter().map(scenario).collect()
    }

    fn order(repeat: u32, shuffle: Option<u64>) -> Vec<String> {
        let jobs = plan(&scenarios(&["a", "b", "c", "d"]), &Order { repeat, shuffle });
        jobs.iter().map(|job| format!("{}{}", job.scenario.name, job.repetition)).collect()
    }

    #[test]
    fn repetitions_come_round_by_round() {
        assert_eq!(order(2, None), ["a1", "b1", "c1", "d1", "a2", "b2", "c2", "d2"]);
    }

    #[test]
    fn a_seed_gives_the_same_order_again_and_loses_nothing() {
        let shuffled = order(2, Some(7));
        assert_eq!(shuffled, order(2, Some(7)));
        assert_ne!(shuffled, order(2, Some(8)));
        let mut sorted = shuffled[..4].to_vec();
        sorted.sort();
        assert_eq!(sorted, ["a1", "b1", "c1", "d1"]);
    }
}
