//! Servers that do not start for want of what the machine should have: a full disk, no memory, no processes. Nobody's spec asks
//! for that, so it is the environment's fault.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use anyhow::anyhow;
use tokio::sync::watch;

use crate::postgres::blames_the_machine;

/// So often in a row a server must have failed until it is told: what the machine lacked for a moment is there at the next try.
const IN_A_ROW: u32 = 3;

/// What has failed for a reason of the machine, by the pod. A cheap handle; clones are handles of the same.
#[derive(Clone, Debug, Default)]
pub struct Machine(Arc<watch::Sender<Failing>>);

type Failing = BTreeMap<String, Failures>;

#[derive(Debug)]
struct Failures {
    in_a_row: u32,
    last: String,
}

impl Machine {
    /// The starts of the server in a pod.
    pub(super) fn starts(&self, pod: String) -> Starts {
        Starts { machine: self.clone(), pod }
    }

    /// Waits until a server has failed to start several times in a row for a reason of the machine, and says which and why.
    pub async fn fails(&self) -> anyhow::Error {
        let mut changes = self.0.subscribe();
        let why = changes.wait_for(|failing| told(failing).is_some()).await.ok().and_then(|failing| told(&failing));
        match why {
            Some(why) => anyhow!(why),
            // The sender is gone, which `self` holds.
            None => std::future::pending().await,
        }
    }
}

fn told(failing: &Failing) -> Option<String> {
    let (pod, Failures { in_a_row, last }) = failing.iter().find(|(_, failures)| failures.in_a_row >= IN_A_ROW)?;
    Some(format!(
        "PostgreSQL in pod {pod} did not start {in_a_row} times in a row, for a reason of this machine: {last}"
    ))
}

/// How the starts of one server have gone. What is known of them is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct Starts {
    machine: Machine,
    pod: String,
}

impl Starts {
    /// Notes a start that failed, and why, if that is surely the machine's fault. One that may have another reason begins the row
    /// anew.
    pub fn failed(&self, of_the_machine: Option<String>) {
        let Some(last) = of_the_machine else { return self.forget() };
        self.machine.0.send_modify(|failing| {
            let in_a_row = failing.get(&self.pod).map_or(1, |before| before.in_a_row.saturating_add(1));
            failing.insert(self.pod.clone(), Failures { in_a_row, last });
        });
    }

    /// Notes a start that did not fail.
    pub fn succeeded(&self) {
        self.forget();
    }

    fn forget(&self) {
        self.machine.0.send_if_modified(|failing| failing.remove(&self.pod).is_some());
    }
}

impl Drop for Starts {
    fn drop(&mut self) {
        self.forget();
    }
}

/// What an error says that is surely the machine's fault: one of a file or an address, and not one of a connection to the API
/// server.
pub(super) fn of_the_machine(error: &anyhow::Error) -> Option<String> {
    let asked = error.chain().any(<dyn std::error::Error>::is::<kube::Error>);
    let mut failed = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    (!asked && failed.any(|error| blames_the_machine(&error.to_string()))).then(|| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use futures::FutureExt as _;

    use super::*;

    fn full() -> String {
        "no space".to_owned()
    }

    #[test]
    fn only_several_failures_in_a_row_are_told() {
        let machine = Machine::default();
        let starts = machine.starts("a/db-0".to_owned());
        let said = || machine.fails().now_or_never().map(|error| error.to_string());
        for failure in [Some(full()), Some(full()), None, Some(full()), Some(full())] {
            starts.failed(failure);
            assert_eq!(said(), None);
        }
        starts.failed(Some(full()));
        insta::assert_snapshot!(said().unwrap(), @"PostgreSQL in pod a/db-0 did not start 3 times in a row, for a reason of this machine: no space");
        starts.succeeded();
        assert_eq!(said(), None);
    }

    #[test]
    fn a_pod_that_is_gone_is_forgotten() {
        let machine = Machine::default();
        let (starts, other) = (machine.starts("a/db-0".to_owned()), machine.starts("b/db-0".to_owned()));
        for _ in 0..IN_A_ROW {
            starts.failed(Some(full()));
        }
        other.failed(Some(full()));
        assert!(machine.fails().now_or_never().is_some());
        drop(starts);
        assert!(machine.fails().now_or_never().is_none());
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_it() {
        let machine = Machine::default();
        let starts = machine.starts("a/db-0".to_owned());
        let fail = async {
            for _ in 0..IN_A_ROW {
                starts.failed(Some(full()));
            }
        };
        let (error, ()) = tokio::join!(machine.fails(), fail);
        assert!(error.to_string().ends_with("no space"), "{error}");
    }

    #[test]
    fn an_error_of_a_file_is_the_machine_s_only_when_it_lacks_something() {
        let no_space = || io::Error::from_raw_os_error(28);
        let said = of_the_machine(&Err::<(), _>(no_space()).context("cannot make /run/c1").unwrap_err()).unwrap();
        assert!(said.starts_with("cannot make /run/c1: No space left on device"), "{said}");
        assert_eq!(of_the_machine(&anyhow::Error::from(io::Error::from(io::ErrorKind::NotFound))), None);
        assert_eq!(of_the_machine(&anyhow!("no space left on device, says the spec")), None);
        let asked = kube::Error::Service(Box::new(no_space()));
        assert_eq!(of_the_machine(&Err::<(), _>(asked).context("writing").unwrap_err()), None);
    }
}
