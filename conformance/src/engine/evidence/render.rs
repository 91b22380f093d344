//! A failure as text, for the console and for `JUnit`. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{FailureReport, MismatchLine};
use crate::engine::difference::Change;
use crate::engine::watch::{Entry, What};

/// The report as lines without colours. Times are those of the day, in UTC.
pub fn render(report: &FailureReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(report, &mut text);
    text
}

fn write(report: &FailureReport, out: &mut String) -> std::fmt::Result {
    let place = &report.place;
    match (place.line, place.operation.as_str()) {
        (0, _) => writeln!(out, "{} ({})", place.file, place.step)?,
        (line, operation) => {
            writeln!(out, "{}:{line}:{}: {operation} in step \"{}\"", place.file, place.column, place.step)?;
        }
    }
    if let Some(description) = &place.description {
        writeln!(out, "  {description}")?;
    }
    indented(out, "  ", &report.message)?;
    mismatches(out, &report.mismatches)?;
    for object in &report.timelines {
        writeln!(out, "\n  what happened to {}:", object.subject)?;
        if object.earlier > 0 {
            writeln!(out, "    … {} earlier versions", object.earlier)?;
        }
        for entry in &object.entries {
            timeline_entry(out, entry)?;
        }
    }
    if !report.events.is_empty() {
        writeln!(out, "\n  events:")?;
        for event in &report.events {
            let count = if event.count > 1 { format!(" (x{})", event.count) } else { String::new() };
            let (at, level, object, reason) = (&event.at, &event.level, &event.object, &event.reason);
            writeln!(out, "    {at} {level} {reason} on {object}: {}{count}", event.message)?;
        }
    }
    if !report.pods.is_empty() {
        writeln!(out, "\n  pods:")?;
    }
    for pod in &report.pods {
        writeln!(out, "    {} ({})", pod.name, pod.phase)?;
        for container in &pod.containers {
            let restarts = match container.restarts {
                0 => String::new(),
                1 => ", 1 restart".to_owned(),
                more => format!(", {more} restarts"),
            };
            writeln!(out, "      {}: {}{restarts}", container.name, container.state)?;
            container.log.iter().try_for_each(|line| writeln!(out, "        | {line}"))?;
        }
    }
    Ok(())
}

fn mismatches(out: &mut String, mismatches: &[MismatchLine]) -> std::fmt::Result {
    for (index, line) in mismatches.iter().enumerate() {
        if index == 0 || mismatches[index - 1].subject != line.subject {
            writeln!(out, "\n  {}:", line.subject)?;
        }
        writeln!(out, "    {}", line.path)?;
        writeln!(out, "      expected: {}", line.expected)?;
        let since = line.since.map(|since| format!("   (since {})", time(since))).unwrap_or_default();
        writeln!(out, "      got:      {}{since}", line.actual.as_deref().unwrap_or("nothing"))?;
    }
    Ok(())
}

fn timeline_entry(out: &mut String, entry: &Entry) -> std::fmt::Result {
    let at = time(entry.at);
    match &entry.what {
        What::Found => writeln!(out, "    {at}  was there"),
        What::Created => writeln!(out, "    {at}  created"),
        What::Deleted => writeln!(out, "    {at}  deleted"),
        What::Replaced => writeln!(out, "    {at}  deleted and created again"),
        What::Changed(changes) => changes.iter().enumerate().try_for_each(|(index, change)| {
            let at = if index == 0 { at.as_str() } else { "            " };
            writeln!(out, "    {at}  {}", changed(change))
        }),
    }
}

fn changed(Change { path, before, after }: &Change) -> String {
    match (before, after) {
        (None, Some(after)) => format!("{path}: {after}"),
        (Some(before), None) => format!("{path}: {before} -> nothing"),
        (Some(before), Some(after)) => format!("{path}: {before} -> {after}"),
        (None, None) => path.to_string(),
    }
}

fn indented(out: &mut String, indent: &str, text: &str) -> std::fmt::Result {
    text.lines().try_for_each(|line| writeln!(out, "{indent}{line}"))
}

fn time(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{ContainerReport, EventLine, ObjectTimeline, Place, PodReport};
    use super::*;
    use crate::engine::trouble::Subject;
    use crate::engine::watch::Kind;
    use crate::path::Path;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_795_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_failed_assertion_shows_what_happened() {
        let subject = Subject {
            kind: Kind::new("dittofs.dittofs.com/v1alpha1", "DittoServer"),
            namespace: Some("a".to_owned()),
            name: Some("demo".to_owned()),
        };
        let change = |path: &str, before, after| Change { path: Path::from(path), before, after };
        let report = FailureReport {
            place: Place {
                file: "scenarios/gate/secret_delayed_holds_the_pods.yaml".to_owned(),
                line: 31,
                column: 11,
                step: "the Secret is held".to_owned(),
                operation: "assert".to_owned(),
                description: Some("the condition says what is missing".to_owned()),
            },
            message: "DittoServer demo does not match at the end of assert (20s)".to_owned(),
            mismatches: vec![
                MismatchLine {
                    subject: subject.clone(),
                    path: Path::from("status.conditions[type=DatabaseReady].reason"),
                    expected: r#""WaitingForCredentials""#.to_owned(),
                    actual: Some(r#""WaitingForPostgreSQL""#.to_owned()),
                    since: Some(at(120)),
                },
                MismatchLine {
                    subject: subject.clone(),
                    path: Path::from("status.perconaClusterName"),
                    expected: r#""demo-postgres""#.to_owned(),
                    actual: None,
                    since: Some(at(0)),
                },
            ],
            timelines: vec![ObjectTimeline {
                subject,
                earlier: 2,
                entries: vec![
                    Entry { at: at(0), resource_version: "7".to_owned(), what: What::Created },
                    Entry {
                        at: at(120),
                        resource_version: "9".to_owned(),
                        what: What::Changed(vec![
                            change("status.phase", None, Some(json!("Pending"))),
                            change("metadata.generation", Some(json!(1)), Some(json!(2))),
                            change("status.message", Some(json!("x")), None),
                        ]),
                    },
                ],
            }],
            events: vec![EventLine {
                at: "2026-11-18T09:46:40Z".to_owned(),
                level: "Normal".to_owned(),
                object: "DittoServer demo".to_owned(),
                reason: "WaitingForDatabase".to_owned(),
                message: "the database is initializing".to_owned(),
                count: 2,
            }],
            pods: vec![PodReport {
                name: "demo-0".to_owned(),
                phase: "Pending".to_owned(),
                containers: vec![ContainerReport {
                    name: "wait-for-postgres".to_owned(),
                    state: "running".to_owned(),
                    restarts: 1,
                    log: vec!["demo-postgres-primary.a.svc:5432 - no response".to_owned()],
                }],
            }],
        };
        insta::assert_snapshot!(render(&report));
    }

    #[test]
    fn the_engines_own_checks_stand_at_no_line() {
        let report = FailureReport {
            place: Place {
                file: "scenarios/gate/x.yaml".to_owned(),
                step: "invariants".to_owned(),
                ..Place::default()
            },
            message: "the operator ended 1 time without being asked to".to_owned(),
            mismatches: Vec::new(),
            timelines: Vec::new(),
            events: Vec::new(),
            pods: Vec::new(),
        };
        insta::assert_snapshot!(render(&report));
    }
}
