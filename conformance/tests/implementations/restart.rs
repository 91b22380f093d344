//! Operators that work until they are started again, or until they are to be one of two: the scenario that does so fails, and the
//! environment is not blamed.

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::fake::{Fake, RUN, SAME, STOPS, suite};

const LEADS: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Scenario
claim: One of two leads.
isolation: cluster
needs: [operatorControl, leaderElection, controlPlanes]
steps:
  - name: once
    try:
      - fault:
          name: two
          inject:
            leaderElection: {}
      - release:
          fault: two
";

/// `program` is the operator, `address` where it answers.
pub fn trials(program: &str, address: &str) -> [Trial; 3] {
    let shell = |script: &str| json!(["sh", "-c", script, program, address]);
    // Each operator has a directory of its own.
    let parks = "mode=silent; mkdir \"$(dirname \"$KUBECONFIG\")/started\" && mode=idle; exec \"$0\" fake $mode \"$1\"";
    let refuses = "[ -z \"$2\" ] || { echo no such flag; exit 2; }; exec \"$0\" fake idle \"$1\"";
    let ignores = "exec \"$0\" fake idle \"$1\"";
    // Without its release, the fault is cleared by the engine, at the end.
    let stays_stopped = STOPS.split("      - release:").next().unwrap_or_default();
    let kills = stays_stopped.replace("stopOperator", "killOperator");
    let again = [("stops", STOPS), ("stays_stopped", stays_stopped), ("kills", kills.as_str())];
    let leads = [("leads", LEADS)];
    [
        fails("one_that_hangs_when_it_is_started_again", shell(parks), &again, "it was not ready within 30 s"),
        fails("one_that_ends_when_it_is_to_lead", shell(refuses), &leads, "no such flag"),
        fails("one_that_takes_no_lease", shell(ignores), &leads, "has written no Lease within 30 s"),
    ]
}

/// An operator that fails each of `scenarios` for `reason`: exit code 1.
fn fails(name: &str, start: Value, scenarios: &[(&'static str, &str)], reason: &'static str) -> Trial {
    let fake = Fake { declares: json!({"leaderElection": {"arguments": ["second"]}}), ..Fake::starting(start) };
    let scenarios: Vec<_> = scenarios.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    Trial::test(name, move || failed(&fake, &scenarios, reason))
}

fn failed(fake: &Fake, scenarios: &[(&str, String)], reason: &str) -> Result<(), Failed> {
    let directory = fake.write()?;
    for (name, text) in scenarios {
        std::fs::write(directory.path().join(format!("scenarios/fake/{name}.yaml")), text)?;
    }
    let names: Vec<String> = scenarios.iter().map(|(name, _)| format!("fake/{name}")).collect();
    let selected: Vec<String> = names.iter().map(|name| format!("={name}")).collect();
    let selected: Vec<&str> = selected.iter().map(String::as_str).collect();
    let ended = suite(directory.path(), &[RUN, &SAME, selected.as_slice()].concat())?;
    let blamed = |name: &String| {
        let (verdict, why) = ended.verdict(name);
        verdict == "failed" && why.contains(reason)
    };
    ended.must(ended.code == Some(1) && names.iter().all(blamed))
}
