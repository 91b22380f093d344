//! The bundled operator as its own previous release: an upgrade without cause for a rollout, and one that rolls the pods.

use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::fake::{RUN, suite};

const SCENARIO: &str = "lifecycle/upgraded_operator_rolls_nothing";

/// An upgrade from a release that is started with `argument` in place of that of the bundled one.
pub fn upgrade(name: &str, argument: &'static str, reason: Option<&'static str>) -> Trial {
    Trial::test(name, move || upgraded(argument, reason))
}

fn upgraded(argument: &str, reason: Option<&str>) -> Result<(), Failed> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bundled = std::fs::read_to_string(repository.join("implementations/bundled.yaml"))?;
    let mut file: Value = serde_yaml::from_str(&bundled)?;
    file["directory"] = json!(repository);
    file.as_object_mut().expect("an object").remove("unsupported");
    let mut previous = file.clone();
    let words = previous["start"]["command"].as_array_mut().into_iter().flatten();
    let waits = words.filter(|word| word.as_str().is_some_and(|word| word.starts_with("--database-wait-timeout=")));
    waits.for_each(|word| *word = json!(argument));
    file["previous"] = json!("previous.yaml");

    let directory = tempfile::Builder::new().prefix("upgrade").tempdir_in("/tmp")?;
    std::fs::write(directory.path().join("previous.yaml"), previous.to_string())?;
    std::fs::write(directory.path().join("this.yaml"), file.to_string())?;
    let scenarios = repository.join("scenarios").display().to_string();
    let scenario = format!("={SCENARIO}");
    let these = ["--scenarios", &scenarios, "--implementation", "this.yaml", &scenario];
    let ended = suite(directory.path(), &[RUN, &these].concat())?;
    let (verdict, why) = ended.verdict(SCENARIO);
    match reason {
        None => ended.must(ended.code == Some(0) && verdict == "passed"),
        Some(reason) => ended.must(ended.code == Some(1) && verdict == "failed" && why.contains(reason)),
    }
}
