//! A measurement for people: the table of docs/performance.md.

use std::fmt::Write as _;

use super::measurement::{Measurement, Spread};

/// A Markdown table.
pub fn table(measurement: &Measurement) -> String {
    let Measurement { description, scenarios, parallel, memory, .. } = measurement;
    let mut text = format!(
        "{} {} on {} Kubernetes {}, Percona {}; {} processors, {} rounds\n\n",
        description.implementation,
        description.implementation_version,
        description.environment,
        description.kubernetes,
        description.percona,
        measurement.processors,
        measurement.rounds
    );
    text += "| what | unit | n | min | p50 | p99 | max |\n|---|---|---|---|---|---|---|\n";
    let mut row = |what: &str, unit: &str, spread: Option<&Spread>| {
        let _ = match spread {
            Some(Spread { count, min, p50, p99, max }) => {
                writeln!(text, "| {what} | {unit} | {count} | {min:.1} | {p50:.1} | {p99:.1} | {max:.1} |")
            }
            None => writeln!(text, "| {what} | {unit} | 0 | - | - | - | - |"),
        };
    };
    row("from nothing to the first apply", "s", Some(&measurement.up));
    row(&format!("{scenarios} scenarios, {parallel} at a time"), "s", Some(&measurement.run));
    row("tear-down", "s", Some(&measurement.down));
    let latency = measurement.verdict_from_received.as_ref();
    row("write received to verdict, one scenario at a time", "ms", latency);
    let latency = measurement.verdict_from_answered.as_ref();
    row("write answered to verdict, one scenario at a time", "ms", latency);
    let _ = write!(text, "\npeak memory: {} MiB in {} processes", mebibytes(memory.bytes), memory.processes);
    let mut programs: Vec<_> = memory.programs.iter().collect();
    programs.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    let shown: Vec<String> =
        programs.iter().take(6).map(|(name, bytes)| format!("{name} {}", mebibytes(**bytes))).collect();
    let _ = writeln!(text, " ({})", shown.join(", "));
    text
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Memory;
    use crate::environment::Description;

    #[test]
    fn a_measurement_is_a_table() {
        let spread = |values: &[f64]| Spread::of(values).unwrap();
        let text = table(&Measurement {
            description: Description {
                environment: "embedded".to_owned(),
                kubernetes: "v1.34.4".to_owned(),
                percona: "2.8.2 (double)".to_owned(),
                implementation: "dittofs-operator".to_owned(),
                implementation_version: "0.1.0".to_owned(),
                about: crate::environment::About::default(),
            },
            processors: 2,
            rounds: 3,
            scenarios: 6,
            parallel: 4,
            up: spread(&[4.25, 4.5, 5.0]),
            run: spread(&[15.0, 16.0, 17.0]),
            down: spread(&[0.5]),
            verdict_from_received: Some(spread(&[2.0, 3.0])),
            verdict_from_answered: None,
            memory: Memory {
                bytes: 900 << 20,
                processes: 42,
                programs: [("etcd".to_owned(), 40 << 20), ("kube-apiserver".to_owned(), 300 << 20)].into(),
            },
        });
        insta::assert_snapshot!(text);
    }
}
