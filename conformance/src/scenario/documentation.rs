//! Holds the documentation of the language to the language.

use std::path::Path;

use super::diagnostic::{Source, render};
use super::timeouts::TimeoutName;
use super::{Action, lint, parse};
use crate::duration;
use crate::environment::Fault;

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scenarios.md")).unwrap()
}

/// The YAML blocks of the page; a block of operations is wrapped into a scenario that may do everything.
fn examples() -> Vec<Source> {
    let head = "apiVersion: conformance.dittofs.com/v1alpha1\nkind: Scenario\nclaim: It holds.\nisolation: cluster\n\
        needs: [auditLog, controlPlanes, databases, operatorControl, percona, perconaControl, pods, s3, webhook]\n\
        steps:\n  - name: example\n    try:\n";
    let page = page();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let wrapped = |block: &str| block.lines().fold(head.to_owned(), |text, line| format!("{text}      {line}\n"));
    blocks
        .map(|block| if block.starts_with("- ") { wrapped(block) } else { block.to_owned() })
        .map(|text| Source::new("docs/scenarios.md", text))
        .collect()
}

#[test]
fn every_example_is_right_and_every_operation_has_one() {
    let mut shown = Vec::new();
    let area = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/backup");
    let refused = |problem| -> ! { panic!("\n{}", render(&[problem], 120, false)) };
    for example in examples() {
        if example.text().contains("kind: StepTemplate") {
            parse::template(&example).unwrap_or_else(|problem| refused(problem));
            continue;
        }
        let mut parsed = parse::parse(&example).unwrap_or_else(|problem| refused(problem));
        let problems = lint::check(&mut parsed, &area);
        assert!(problems.is_empty(), "\n{}", render(&problems, 120, false));
        shown.extend(parsed.scenario.operations().map(|operation| operation.action.word()));
    }
    for word in words(&schemars::schema_for!(Action)) {
        assert!(shown.contains(&word.as_str()), "no example of `{word}`");
    }
}

#[test]
fn the_table_of_faults_is_complete() {
    let page = page();
    for word in words(&schemars::schema_for!(Fault)) {
        assert!(page.contains(&format!("| `{word} {{")), "no row of `{word}`");
    }
}

/// The words of an externally tagged enum.
fn words(schema: &schemars::Schema) -> Vec<String> {
    let variants = schema.get("oneOf").and_then(|variants| variants.as_array()).unwrap();
    variants.iter().map(|variant| variant["required"][0].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_table_of_timeouts_is_complete() {
    let page = page();
    for name in TimeoutName::ALL {
        let row = format!("| `{}` | {} |", name.as_str(), duration::format(name.default_limit()));
        assert!(page.contains(&row), "no row {row}");
    }
}
