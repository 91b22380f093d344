//! `conformance bench`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::CliError;
use super::home::report_directory;
use super::options::EnvironmentOptions;
use super::run::ended;
use super::selection::Selection;
use super::signals;
use crate::bench::{Latencies, Measurement, Sampler, Spread, Writes, table};
use crate::engine::schedule::{Order, Pace, Progress, plan, run};
use crate::engine::{Job, Missing, Settings, Sighting, Verdict};
use crate::environment::{Description, Environment, Isolation, LeaseRequest, Site};
use crate::exit::Exit;
use crate::inert::inert;
use crate::report::{Counts, exit};
use crate::supervisor::{Plan, Supervised};
use crate::tools::Display;

/// The scenarios that are measured when none are named: those that the project began with.
const SCENARIOS: [&str; 6] = [
    "crd_absent_is_refused",
    "secret_delayed_holds_the_pods",
    "credential_rotation_reaches_the_pods",
    "precedence_conflict_percona_wins",
    "backup_stanza_reaches_s3",
    "backup_wrong_credentials_are_reported",
];

/// How often each scenario is run alone, so that there are enough waits for a percentile.
const SERIAL_REPETITIONS: u32 = 4;

/// Measure the embedded environment.
///
/// Each round brings the environment up, runs the scenarios beside each other, then those that need no control plane of
/// their own one after the other, and takes the environment down. Prints a table and writes bench.json. Whoever wants
/// numbers to compare leaves the machine alone meanwhile.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    selection: Selection,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Scenarios at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Where bench.json goes
    #[arg(long, value_name = "DIR")]
    report_dir: Option<PathBuf>,
    #[command(flatten)]
    environment: EnvironmentOptions,
}

/// What was measured in all rounds. Seconds.
#[derive(Default)]
struct Measured {
    description: Option<Description>,
    up: Vec<f64>,
    run: Vec<f64>,
    down: Vec<f64>,
    latencies: Latencies,
}

impl Bench {
    /// Performs the verb.
    pub async fn perform(self) -> Result<Exit, CliError> {
        let scenarios = self.selection.clone().or(&SCENARIOS).open().await?.scenarios()?;
        let jobs = plan(&scenarios, &Order { repeat: 1, shuffle: None });
        let directory = self.report_dir.clone().unwrap_or_else(report_directory);
        let interrupted = signals::watch()?;
        let Plan::Embedded(mut settings) = self.environment.plan()? else {
            return Err(CliError::new(Exit::Usage, "only the embedded environment is measured; leave --env out"));
        };
        settings.audit_versions = true;

        let sampler = Sampler::start();
        let mut measured = Measured::default();
        for round in 1..=self.rounds {
            anstream::eprintln!("round {round} of {}", self.rounds);
            let begin = Instant::now();
            let started = Supervised::start(Plan::Embedded(settings.clone()), &Display::stderr(), &interrupted).await;
            let environment: Arc<dyn Environment> = match started {
                Err(_) if interrupted.is_cancelled() => return Ok(Exit::Interrupted),
                started => Arc::new(started.map_err(|error| CliError::environment(&error))?),
            };
            let rounded = self.round(&environment, &jobs, begin, &mut measured, &interrupted).await;
            let begin = Instant::now();
            // It ends also when the round was none.
            let closed = environment.close().await;
            measured.down.push(begin.elapsed().as_secs_f64());
            let exit = ended(rounded.map(|exit| exit.unwrap_or(Exit::Ok)), closed)?;
            if exit != Exit::Ok {
                return Ok(exit);
            }
        }
        let measurement = self.measurement(measured, jobs.len(), sampler).await?;
        anstream::print!("{}", table(&measurement));
        let path = directory.join("bench.json");
        let written = std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(&path, serde_json::to_string_pretty(&measurement)? + "\n"));
        written.map_err(|error| CliError::new(Exit::Report, format!("cannot write {}: {error}", path.display())))?;
        anstream::println!("\nwritten: {}", path.display());
        Ok(Exit::Ok)
    }

    /// One round on a started environment. A scenario that does not pass makes the numbers worthless: it ends the program.
    async fn round(
        &self,
        environment: &Arc<dyn Environment>,
        jobs: &[Job],
        begin: Instant,
        measured: &mut Measured,
        interrupted: &CancellationToken,
    ) -> Result<Option<Exit>, CliError> {
        let request = LeaseRequest {
            scenario: "bench".to_owned(),
            isolation: Isolation::Namespace,
            needs: [].into(),
            aside: false,
        };
        let site = environment.lease(request).await?;
        first_apply(&*site).await?;
        measured.up.push(begin.elapsed().as_secs_f64());
        measured.description = Some(environment.description().clone());

        let log = site.audit_log().map(|log| log.path);
        drop(site);
        let begin = Instant::now();
        let (exit, _) = together(environment, jobs.to_vec(), usize::from(self.parallel), interrupted).await;
        measured.run.push(begin.elapsed().as_secs_f64());
        if exit.is_some() {
            return Ok(exit);
        }
        // A control plane of one's own has an audit log of its own, and is gone by the end.
        let shared = jobs.iter().filter(|job| job.scenario.isolation != Isolation::Cluster);
        let shared = (0..SERIAL_REPETITIONS).flat_map(|_| shared.clone().cloned()).collect();
        let (exit, sightings) = together(environment, shared, 1, interrupted).await;
        if let (None, Some(log)) = (exit, log) {
            let writes = Writes::read(&log).map_err(|error| {
                CliError::new(Exit::Environment, format!("cannot read the audit log {}: {error}", log.display()))
            })?;
            measured.latencies.extend(writes.latencies(&sightings));
        }
        Ok(exit)
    }

    async fn measurement(
        &self,
        measured: Measured,
        scenarios: usize,
        sampler: Sampler,
    ) -> Result<Measurement, CliError> {
        let nothing = || CliError::new(Exit::Environment, "nothing was measured");
        let spread = |values: &[f64]| Spread::of(values).ok_or_else(nothing);
        Ok(Measurement {
            description: measured.description.ok_or_else(nothing)?,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            rounds: self.rounds,
            scenarios,
            parallel: usize::from(self.parallel),
            up: spread(&measured.up)?,
            run: spread(&measured.run)?,
            down: spread(&measured.down)?,
            verdict_from_received: measured.latencies.from_received(),
            verdict_from_answered: measured.latencies.from_answered(),
            memory: sampler.peak().await,
        })
    }
}

/// Runs `jobs`: how the program ends, unless all passed, and what was waited for.
async fn together(
    environment: &Arc<dyn Environment>,
    jobs: Vec<Job>,
    parallel: usize,
    interrupted: &CancellationToken,
) -> (Option<Exit>, Vec<Sighting>) {
    let settings = Settings {
        run: format!("{:08x}", rand::random::<u32>()),
        timeout_multiplier: 1.0,
        keep_failed: false,
        permissions: Arc::default(),
        missing: Missing::default(),
        interrupted: interrupted.clone(),
        pause: None,
    };
    let mut sightings = Vec::new();
    let mut counts = Counts::default();
    run(environment.clone(), jobs, Pace { parallel, fail_fast: true, partial: true }, &settings, |progress| {
        let Progress::Ended(outcome) = progress else { return };
        if outcome.verdict != Verdict::Passed {
            let reason = outcome.reason.as_deref().unwrap_or("no reason is known");
            anstream::eprintln!("{} {}: {}", outcome.scenario, outcome.verdict.as_str(), inert(reason));
        }
        counts.add(outcome.verdict);
        sightings.extend(outcome.sightings);
    })
    .await;
    let exit = match exit(&counts, interrupted.is_cancelled()) {
        Exit::Ok if counts.skipped == 0 => None,
        Exit::Ok => Some(Exit::Skipped),
        other => Some(other),
    };
    (exit, sightings)
}

/// Creates a `DittoServer` without keeping it (dry run): the API server, its CRD and the operator's webhook all answer.
async fn first_apply(site: &dyn Site) -> Result<(), CliError> {
    let failed = |error: kube::Error| CliError::new(Exit::Environment, format!("nothing can be applied: {error}"));
    let client = Client::try_from(site.config()).map_err(failed)?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("dittofs.dittofs.com", "v1alpha1", "DittoServer"));
    let spec = json!({"spec": {"image": "dittofs:bench", "storage": {"metadataSize": "1Gi"}}});
    let object = DynamicObject::new("bench", &kind).data(spec);
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let servers: Api<DynamicObject> = Api::namespaced_with(client, "default", &kind);
    servers.create(&parameters, &object).await.map(drop).map_err(failed)
}
