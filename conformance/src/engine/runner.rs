//! Runs one scenario on a site: namespace, steps, invariants, cleaning up. Decides about the verdict.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::context::Context;
use super::deadline::Deadline;
use super::evidence::{FailureReport, Place, bundle, gather};
use super::guard::Guards;
use super::outcome::{Outcome, StepOutcome, Verdict};
use super::rate::Mark;
use super::schedule::Job;
use super::settings::{Paused, Settings};
use super::trouble::Trouble;
use super::watch::Kind;
use super::{breakdown, images, invariants, namespace, preparation, steps};
use crate::environment::{Declared, Environment, LeaseRequest, Site};
use crate::redact::redact;
use crate::scenario::expression::Bindings;
use crate::scenario::{Operation, Scenario, Step, Timeout, TimeoutName, Timeouts};

/// Bounds a whole scenario, so that a mistake in one cannot hold up a run for ever.
const SCENARIO_LIMIT: Duration = Duration::from_mins(10);
/// Bounds the end of a scenario: what is done after it, and each namespace gone. Finalizers of the databases take most of it, and
/// what a scenario with hundreds of objects has left. A fault is cleared within its own limit.
const CLEANUP_LIMIT: Duration = Duration::from_mins(2);
/// Bounds the time until a scenario can begin: the operator's state, and a namespace.
const PREPARATION_LIMIT: Duration = Duration::from_secs(30);
/// Bounds the look at logs and objects after a scenario.
const INVARIANTS_LIMIT: Duration = Duration::from_secs(30);
/// Bounds how long an operation may go on after its deadline.
const OVERRUN_LIMIT: Duration = Duration::from_secs(30);
/// Bounds the last look of a guard that the scenario did not release itself.
const GUARD_LIMIT: Duration = Duration::from_secs(20);

/// Runs a scenario once. Never fails: whatever happens is a verdict.
pub async fn run(environment: &dyn Environment, job: &Job, settings: &Settings) -> Outcome {
    let scenario = job.scenario.clone();
    let mut run = Run {
        scenario: scenario.clone(),
        file: job.file.display().to_string(),
        text: preparation::text(job),
        settings: settings.clone(),
        declared: environment.capabilities().declared.clone(),
        outcome: Outcome::new(job),
    };
    let capabilities = environment.capabilities();
    if let Some(reason) = capabilities.lacking(&scenario.needs).or_else(|| capabilities.declines(&scenario.covers)) {
        run.outcome.verdict = Verdict::Skipped;
        run.outcome.reason = Some(reason.to_owned());
        return run.outcome;
    }
    let request = LeaseRequest {
        scenario: scenario.name.clone(),
        isolation: scenario.isolation,
        needs: scenario.needs.clone(),
        aside: job.aside,
    };
    let leased = settings.interrupted.run_until_cancelled(environment.lease(request)).await;
    run.outcome.started = Timestamp::now();
    match leased {
        None => run.outcome.verdict = Verdict::Interrupted,
        Some(Err(error)) => run.trouble(&error.into()),
        // On the heap: every task of a run holds this future.
        Some(Ok(site)) => Box::pin(run.on(site)).await,
    }
    run.outcome
}

struct Run {
    scenario: Arc<Scenario>,
    file: String,
    /// What stands in it and in its templates.
    text: String,
    settings: Settings,
    declared: Declared,
    outcome: Outcome,
}

impl Run {
    async fn on(&mut self, site: Arc<dyn Site>) {
        let begin = Instant::now();
        let Some((mut context, mut before)) = Box::pin(self.prepare(site)).await else { return };
        let mark = Mark::set(&*context.site).await;
        // What one scenario breaks in the engine must not end the others, nor leave its namespace behind.
        let judged = AssertUnwindSafe(self.judge(&mut context, &mut before)).catch_unwind().await;
        if let Err(panic) = judged {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            self.trouble(&Trouble::broken(format!("the engine panicked: {message}")));
        }
        self.bundle(&before, &mut context).await;
        self.outcome.duration = begin.elapsed();
        if let Some(log) = context.site.audit_log()
            && let Err(trouble) = self.settings.permissions.note(log).await
        {
            self.trouble(&trouble);
        }
        if let Some(mark) = mark {
            match mark.since(&context.namespace, self.scenario.servers()).await {
                Ok(rate) => {
                    self.outcome.operator_requests = Some(rate);
                    self.outcome.warnings.extend(rate.flood());
                }
                Err(trouble) => self.trouble(&trouble),
            }
        }
        self.pause(&context).await;
        let begin = Instant::now();
        let looked = self.invariants(async { before.again(&*context.site).await.map_err(Trouble::from) }).await;
        self.clean_up(&mut context).await;
        self.outcome.cleanup = begin.elapsed();
        let judged = match looked {
            Ok(()) => self.invariants(invariants::of_the_operator(&mut before, &context)).await,
            Err(trouble) => Err(trouble),
        };
        match judged {
            // The objects are gone: nothing is left to gather.
            Ok(failures) => failures.into_iter().for_each(|failure| self.noted(failure.into(), "cleanup")),
            Err(trouble) => self.trouble(&trouble),
        }
        self.outcome.warnings.extend(context.warnings.iter().chain(&context.hub.warnings()).map(|text| redact(text)));
        self.outcome.warnings.dedup();
        self.outcome.sightings = context.sightings;
        self.outcome.declared = context.differences.noted();
    }

    /// Steps, catch, finally, guards and invariants, in this order.
    async fn judge(&mut self, context: &mut Context, before: &mut invariants::Before) {
        let scenario = self.scenario.clone();
        let deadline = Deadline::after("scenario", self.scaled(SCENARIO_LIMIT));
        let mut passed = match steps::bind(&scenario.bindings, context) {
            Ok(()) => true,
            Err(trouble) => {
                self.failed(trouble, self.place("bindings"), context).await;
                false
            }
        };
        for step in &scenario.steps {
            passed = passed && self.step(step, context, &deadline).await;
        }
        if passed {
            let released = context.guards.release_all(&context.hub, self.scaled(GUARD_LIMIT)).await;
            if let Err(trouble) = released {
                self.failed(trouble, self.place("guards at the end"), context).await;
                passed = false;
            }
        } else {
            self.bundle(before, context).await;
            // A guard that is violated by now says nothing more than the failure before it.
            context.guards = Guards::default();
            self.aftermath("catch", &scenario.catch, context).await;
        }
        self.aftermath("finally", &scenario.finally, context).await;
        if self.outcome.verdict == Verdict::Interrupted {
            return;
        }
        match self.invariants(invariants::check(before, context)).await {
            Ok(failures) => {
                for failure in failures {
                    self.failed(failure.into(), self.place("invariants"), context).await;
                }
            }
            Err(trouble) if passed => self.trouble(&trouble),
            Err(_) => {}
        }
    }

    /// What the scenario needs to begin; `None` when it cannot.
    async fn prepare(&mut self, site: Arc<dyn Site>) -> Option<(Context, invariants::Before)> {
        let namespace = namespace::name(&self.scenario.name);
        let limit = || Deadline::after("preparation", self.scaled(PREPARATION_LIMIT));
        let (config, deadline) = (site.config(), limit());
        let preparing = preparation::prepare(&self.scenario, &namespace, site, &self.settings, &self.declared);
        let prepared = match self.settings.interrupted.run_until_cancelled(deadline.bound(preparing)).await {
            Some(Some(prepared)) => prepared,
            unfinished => {
                // It may have been made, though nobody has heard of it.
                if let Err(trouble) = namespace::abandon(config, &namespace, &limit()).await {
                    self.outcome.warnings.extend(trouble.failure().map(|failure| failure.message));
                }
                let broken = || Trouble::broken(format!("the site did not answer within {deadline}"));
                Err(unfinished.map_or(Trouble::Interrupted, |_| broken()))
            }
        };
        prepared.map_err(|trouble| self.trouble(&trouble)).ok()
    }

    /// What `check` has to say, in time.
    async fn invariants<T>(&self, check: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let deadline = Deadline::after("invariants", self.scaled(INVARIANTS_LIMIT));
        let checked = deadline.bound(check).await;
        checked.unwrap_or_else(|| Err(Trouble::broken(format!("the site did not answer within {deadline}"))))
    }

    async fn step(&mut self, step: &Step, context: &mut Context, deadline: &Deadline) -> bool {
        let begin = Instant::now();
        let outer = context.bindings.clone();
        let mut passed = true;
        if let Err(trouble) = steps::bind(&step.bindings, context) {
            self.failed(trouble, self.place(&step.name), context).await;
            passed = false;
        }
        for operation in &step.r#try {
            if !passed {
                break;
            }
            let missing = images::missing(context.feed(&Kind::new("v1", "Pod"), None), &self.text);
            let done = tokio::select! {
                biased;
                done = self.operation(operation, context, deadline) => done,
                trouble = missing => Err(trouble),
            };
            if let Err(trouble) = done {
                self.failed(trouble, self.at(operation, &step.name), context).await;
                passed = false;
            }
        }
        if !passed {
            self.aftermath(&step.name, &step.catch, context).await;
        }
        self.aftermath(&step.name, &step.finally, context).await;
        context.bindings = without(&context.bindings, step, outer);
        self.outcome.steps.push(StepOutcome { name: step.name.clone(), duration: begin.elapsed(), passed });
        passed
    }

    /// `catch` and `finally`: all of them are done, whatever has happened, and what fails in them is told and changes nothing.
    async fn aftermath(&mut self, step: &str, operations: &[Operation], context: &mut Context) {
        let deadline = Deadline::after("cleanup", self.scaled(CLEANUP_LIMIT));
        for operation in operations {
            if let Err(trouble) = self.perform(operation, context, &deadline).await {
                let what = match trouble {
                    Trouble::Failed(failure) => failure.message,
                    other => format!("{other:?}"),
                };
                let word = operation.action.word();
                self.outcome.warnings.push(format!("{word} at {} (after \"{step}\"): {what}", operation.at));
            }
        }
    }

    /// Performs an operation, unless the run is interrupted or a guard violated.
    async fn operation(
        &self,
        operation: &Operation,
        context: &mut Context,
        deadline: &Deadline,
    ) -> Result<(), Trouble> {
        let violated = context.guards.violated();
        tokio::select! {
            biased;
            () = self.settings.interrupted.cancelled() => Err(Trouble::Interrupted),
            failure = violated => Err(failure.into()),
            done = self.perform(operation, context, deadline) => done,
        }
    }

    async fn perform(&self, operation: &Operation, context: &mut Context, deadline: &Deadline) -> Result<(), Trouble> {
        let timeout = operation.action.timeout();
        let limits = Timeouts::new(self.scenario.timeouts.clone(), self.settings.timeout_multiplier);
        let name = match timeout {
            Timeout::Named(name) => name.as_str(),
            Timeout::Exact(_) => "its timeout",
        };
        let deadline = deadline.within(name, limits.limit(timeout));
        // Each operation keeps its own deadline, and says what it missed; this is for one that hangs.
        let hung = deadline.overrun(self.scaled(OVERRUN_LIMIT));
        tracing::debug!(scenario = self.scenario.name, at = %operation.at, "{}", operation.action.word());
        tokio::select! {
            biased;
            done = steps::perform(operation, context, &deadline) => done,
            () = hung => Err(Trouble::broken(format!("{} hangs, long after {deadline}", operation.action.word()))),
        }
    }

    /// Takes note of trouble that needs no evidence.
    fn trouble(&mut self, trouble: &Trouble) {
        let (verdict, reason) = match trouble {
            Trouble::Failed(failure) => (Verdict::Failed, Some(failure.message.clone())),
            Trouble::Broken(reason) => (Verdict::Error, Some(reason.clone())),
            Trouble::Unsupported(reason) => (Verdict::Skipped, Some(reason.clone())),
            Trouble::Interrupted => (Verdict::Interrupted, None),
        };
        self.outcome.verdict = self.outcome.verdict.max(verdict);
        if self.outcome.reason.is_none() {
            self.outcome.reason = reason.map(|reason| redact(&reason));
        }
    }

    /// Takes note of trouble in an operation, with the evidence of the moment.
    async fn failed(&mut self, trouble: Trouble, place: Place, context: &Context) {
        let deadline = Deadline::after("invariants", self.scaled(INVARIANTS_LIMIT));
        let told = deadline.bound(breakdown::or_breakdown(trouble.clone(), &*context.site)).await;
        let trouble = told.unwrap_or(trouble);
        self.trouble(&trouble);
        let Some(failure) = trouble.failure() else { return };
        // The namespace looks the same for all that fails after the first failure.
        let report = if self.outcome.failures.is_empty() {
            gather(place, failure, context).await
        } else {
            FailureReport::bare(place, &failure)
        };
        self.outcome.failures.push(report);
    }

    /// Takes note of trouble at `step`, without evidence.
    fn noted(&mut self, trouble: Trouble, step: &str) {
        self.trouble(&trouble);
        let Some(failure) = trouble.failure() else { return };
        self.outcome.failures.push(FailureReport::bare(self.place(step), &failure));
    }

    /// Gathers the logs and objects of a scenario that failed, once.
    async fn bundle(&mut self, before: &invariants::Before, context: &mut Context) {
        if self.outcome.bundle.is_empty() && matches!(self.outcome.verdict, Verdict::Failed | Verdict::Error) {
            self.outcome.bundle = bundle(before, context).await;
        }
    }

    /// Lets a person look at what has failed.
    async fn pause(&self, context: &Context) {
        let failed = matches!(self.outcome.verdict, Verdict::Failed | Verdict::Error);
        let Some(listener) = self.settings.pause.as_ref().filter(|_| failed) else { return };
        let (resume, resumed) = oneshot::channel();
        let paused = Paused {
            scenario: self.scenario.name.clone(),
            reason: self.outcome.reason.clone(),
            namespace: context.namespace.clone(),
            kubeconfig: context.site.kubeconfig(),
            resume,
        };
        let wait = async {
            // When nobody listens any more, there is nothing to wait for.
            if listener.send(paused).await.is_ok() {
                let _ = resumed.await;
            }
        };
        self.settings.interrupted.run_until_cancelled(wait).await;
    }

    async fn clean_up(&mut self, context: &mut Context) {
        // Each has its own time: what holds the one up must not leave the next behind.
        let limit = self.scaled(CLEANUP_LIMIT);
        let limit = || Deadline::after("cleanup", limit);
        let limits = Timeouts::new(self.scenario.timeouts.clone(), self.settings.timeout_multiplier);
        let fault = limits.limit(Timeout::Named(TimeoutName::Fault));
        for trouble in steps::clear_all(context, || Deadline::after("fault", fault)).await {
            self.noted(trouble, "cleanup");
        }
        let failed = matches!(self.outcome.verdict, Verdict::Failed | Verdict::Error);
        if self.settings.keep_failed && failed {
            self.outcome.warnings.push(format!("namespace {} was kept", context.namespace));
            return;
        }
        let mut removed = Vec::new();
        for namespace in &context.more_namespaces {
            removed.push(namespace::remove_ours(&context.client, namespace, &self.settings.run, &limit()).await);
        }
        removed.push(namespace::remove(&context.client, &context.namespace, &limit()).await);
        for trouble in removed.into_iter().filter_map(Result::err) {
            self.noted(trouble, "cleanup");
        }
    }

    fn scaled(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.settings.timeout_multiplier)
    }

    fn place(&self, step: &str) -> Place {
        Place { file: self.file.clone(), step: step.to_owned(), ..Place::default() }
    }

    fn at(&self, operation: &Operation, step: &str) -> Place {
        Place {
            line: operation.at.line,
            column: operation.at.column,
            file: operation.file.as_deref().unwrap_or(&self.file).to_owned(),
            operation: operation.action.word().to_owned(),
            description: operation.action.description().map(str::to_owned),
            ..self.place(step)
        }
    }
}

/// `bindings` after `step`: what it bound for itself ends with it, what its operations gave stays.
fn without(bindings: &Bindings, step: &Step, outer: Bindings) -> Bindings {
    let own = |name: &&str| step.bindings.iter().any(|binding| binding.name == *name);
    bindings.names().filter(|name| !own(name)).fold(outer, |mut outer, name| {
        outer.set(name, bindings.get(name).cloned().unwrap_or_default());
        outer
    })
}
