//! The double does again what the real operator was seen to do, and is compared with the recording.
//!
//! A trace in `../shared/percona/traces` is a timeline of what watches of a namespace saw while somebody drove the real
//! operator. Each [`Case`](cases::Case) drives the double in the same way, records it in the same format, and says what of
//! the two must be the same, and which difference is allowed and why. What a case demands is demanded of the recording
//! first: a check that reality fails is a wrong check.
//!
//! All cases share one control plane and run a few at a time, each in a namespace of its own. `REPLAY=a,b1` runs only those.
//! Where the traces are not (they are not part of the project) the test says so and passes, unless `RECORDINGS=required`.

mod cases;
mod compare;
mod driver;
mod recorder;
#[path = "../support/mod.rs"]
mod support;
mod trace;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt as _;

use crate::cases::Case;
use crate::driver::Driver;
use crate::support::Lab;
use crate::trace::Trace;

/// How many cases run at the same time.
const PARALLEL: usize = 4;

/// The cases that stop the operator, which all clusters share, and the one that shows that nothing happens: a Secret that was
/// deleted comes back when anything else wakes the operator (observed.md, f3), as a late status does beside other clusters.
const ALONE: &[&str] = &["f", "o2"];

#[tokio::test(flavor = "multi_thread")]
async fn the_double_does_what_was_recorded() {
    let Some(shared) = support::shared() else { return };
    let wanted = std::env::var("REPLAY").unwrap_or_default();
    let cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| wanted.is_empty() || wanted.split(',').any(|name| name == case.name))
        .collect();
    assert!(!cases.is_empty(), "no case is called {wanted}");

    let inner = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/crds/postgresclusters.yaml");
    let lab = Arc::new(Lab::start(&[shared.join("crds"), inner]).await);
    let (alone, together): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(|case| ALONE.contains(&case.name));
    let mut failures = Vec::new();
    for (cases, parallel) in [(together, PARALLEL), (alone, 1)] {
        let run = futures::stream::iter(cases)
            .map(|case| replay(Arc::clone(&lab), shared.clone(), case))
            .buffer_unordered(parallel)
            .filter_map(std::future::ready);
        failures.extend(run.collect::<Vec<String>>().await);
    }
    Arc::try_unwrap(lab).ok().expect("nobody uses the lab any more").end().await;
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Runs one case; the result is what is wrong.
async fn replay(lab: Arc<Lab>, shared: PathBuf, case: Case) -> Option<String> {
    if let (true, Some(reason)) = (cases::needs_backups(&case), lab.without_backups()) {
        println!("{:<5} skipped: {reason}", case.name);
        return None;
    }
    let path = shared.join("traces").join(format!("{}.jsonl", case.trace));
    let mut driver = Driver::new(lab, &case.name.replace('_', "-")).await;
    let ran = (case.run)(&mut driver).await;
    let ours = driver.finish().await;
    let recorded = Trace::read(&path);
    let mut wrong: Vec<String> = match ran {
        Ok(()) => compare::judge(&case.checks, &recorded, &ours),
        Err(error) => vec![format!("could not be driven: {error:#}")],
    };
    if wrong.is_empty() {
        println!("{:<5} as recorded ({} checks)", case.name, case.checks.len());
        return None;
    }
    wrong.insert(0, format!("{} ({}):", case.name, case.trace));
    if let Ok(directory) = std::env::var("REPLAY_DUMP") {
        std::fs::write(Path::new(&directory).join(format!("{}.jsonl", case.name)), ours.to_string()).unwrap();
    }
    Some(wrong.join("\n  "))
}
