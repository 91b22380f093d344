//! Which scenarios run when: beside each other where they may, alone where they must.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::task::{JoinError, JoinSet};

use super::missing::Missing;
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
    /// Whether it has the control plane beside the shared one, while others use that.
    pub aside: bool,
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
    /// Scenarios at a time on the shared control plane; with 1, one after the other.
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
            .map(|(scenario, file)| Job { scenario: scenario.clone(), file: file.clone(), repetition, aside: false })
            .collect();
        if let Some(random) = &mut random {
            round.shuffle(random);
        }
        jobs.extend(round);
    }
    jobs
}

/// Jobs that may run at the same time as those of other lanes.
struct Lane {
    waiting: VecDeque<Job>,
    parallel: usize,
    running: usize,
}

impl Lane {
    fn new(jobs: Vec<Job>, parallel: usize) -> Self {
        Self { waiting: jobs.into(), parallel, running: 0 }
    }
}

/// The lanes, stage after stage; `aside`: see [`crate::environment::Capabilities`]. What needs the whole control plane has
/// one beside the shared one where that can be, and else comes after all others, one after the other: it would make them
/// wait in the middle. What is about the whole run comes at the very end.
fn stages(jobs: Vec<Job>, parallel: usize, aside: bool) -> Vec<Vec<Lane>> {
    let (last, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.scenario.about_the_run());
    let (alone, beside): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| job.scenario.isolation == Isolation::Operator);
    let parallel = parallel.max(1);
    if !aside || parallel == 1 || beside.is_empty() {
        return vec![vec![Lane::new(beside, parallel)], vec![Lane::new(alone, 1)], vec![Lane::new(last, 1)]];
    }
    let alone = alone.into_iter().map(|job| Job { aside, ..job }).collect();
    // They mostly wait, and would keep others from beginning.
    let (own, beside) = beside.into_iter().partition(|job| job.scenario.isolation == Isolation::Cluster);
    vec![vec![Lane::new(beside, parallel), Lane::new(alone, 1), Lane::new(own, 1)], vec![Lane::new(last, 1)]]
}

/// Runs `jobs` in their lanes and tells each end as it comes. What an interruption keeps from beginning is told as
/// interrupted.
pub async fn run(
    environment: Arc<dyn Environment>,
    jobs: Vec<Job>,
    pace: Pace,
    settings: &Settings,
    mut tell: impl FnMut(Progress<'_>),
) {
    let mut stopped = false;
    let mut missing = Missing { partial: pace.partial, unpassed: None };
    for mut lanes in stages(jobs, pace.parallel, environment.capabilities().aside) {
        let mut running = JoinSet::new();
        let mut under_way = HashMap::new();
        loop {
            for (number, lane) in lanes.iter_mut().enumerate() {
                while lane.running < lane.parallel && !stopped && !settings.interrupted.is_cancelled() {
                    let Some(job) = lane.waiting.pop_front() else { break };
                    tell(Progress::Began(&job));
                    lane.running += 1;
                    let begun = (number, job.clone());
                    let (environment, settings) =
                        (environment.clone(), Settings { missing: missing.clone(), ..settings.clone() });
                    let outcome = async move { runner::run(&*environment, &job, &settings).await };
                    under_way.insert(running.spawn(outcome).id(), begun);
                }
            }
            let Some(ended) = running.join_next_with_id().await else { break };
            let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
            let Some((number, job)) = under_way.remove(&id) else { continue };
            lanes[number].running -= 1;
            // What the engine does around the steps may panic, too; nobody aborts a job.
            let outcome = ended.map_or_else(|error| Outcome::lost(&job, &error.to_string()), |(_, outcome)| outcome);
            if outcome.verdict != Verdict::Passed {
                missing.unpassed.get_or_insert_with(|| outcome.scenario.clone());
            }
            stopped |= pace.fail_fast && matches!(outcome.verdict, Verdict::Failed | Verdict::Error);
            tell(Progress::Ended(Box::new(outcome)));
        }
        let why = if stopped { "not begun: --fail-fast" } else { "not begun" };
        for job in lanes.into_iter().flat_map(|lane| lane.waiting) {
            tell(Progress::Ended(Box::new(Outcome::not_begun(&job, why))));
        }
    }
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
    fn who_must_be_alone_is_so_beside_the_others_or_after_them() {
        let jobs = || {
            let mut all = scenarios(&["a", "alone", "own", "b"]);
            Arc::make_mut(&mut all[1].0).isolation = Isolation::Operator;
            Arc::make_mut(&mut all[2].0).isolation = Isolation::Cluster;
            plan(&all, &Order { repeat: 1, shuffle: None })
        };
        let shown = |stages: Vec<Vec<Lane>>| -> Vec<Vec<String>> {
            let lane = |lane: &Lane| {
                let jobs = lane.waiting.iter();
                jobs.map(|job| format!("{}{}", job.scenario.name, if job.aside { " aside" } else { "" }))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            stages.iter().map(|lanes| lanes.iter().map(lane).collect()).collect()
        };
        assert_eq!(shown(stages(jobs(), 4, true)), [vec!["a, b", "alone aside", "own"], vec![""]]);
        assert_eq!(shown(stages(jobs(), 4, false)), [["a, own, b"], ["alone"], [""]]);
        assert_eq!(shown(stages(jobs(), 1, true)), [["a, own, b"], ["alone"], [""]]);
        let alone = jobs().into_iter().filter(|job| job.scenario.name == "alone").collect();
        assert_eq!(shown(stages(alone, 4, true)), [[""], ["alone"], [""]]);
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
