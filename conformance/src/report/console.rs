//! The run on a terminal: one line per scenario as it ends, failures in full, a summary.

use std::io::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::{RunReport, github};
use crate::engine::evidence::render;
use crate::engine::{Outcome, Verdict};
use crate::inert::inert;

/// Writes to a terminal or a file. Colours are left out where nobody sees them, and nothing that it tells of others is a
/// command of GitHub.
pub struct Console<W> {
    out: W,
}

impl Console<anstream::AutoStream<std::io::Stdout>> {
    /// Standard output; `NO_COLOR` and pipes are honoured.
    pub fn stdout() -> Self {
        Self { out: anstream::AutoStream::auto(std::io::stdout()) }
    }
}

impl<W: Write> Console<W> {
    /// The first line: what runs on what.
    pub fn begin(&mut self, run: &RunReport, parallel: usize) {
        let environment = &run.environment;
        let noun = if run.planned == 1 { "scenario" } else { "scenarios" };
        self.line(&format!(
            "running {} {noun}, at most {parallel} at a time on a control plane: {} {}, environment {} (Kubernetes {}, Percona {})",
            run.planned,
            environment.implementation,
            environment.implementation_version,
            environment.environment,
            environment.kubernetes,
            environment.percona
        ));
        if let Some(seed) = run.seed {
            self.line(&format!("shuffled with --seed {seed}"));
        }
    }

    /// A scenario has ended.
    pub fn ended(&mut self, outcome: &Outcome) {
        self.write(&line(outcome));
        for failure in &outcome.failures {
            let indented: Vec<String> =
                render(failure).lines().map(|line| format!("      {line}").trim_end().to_owned()).collect();
            self.line(&indented.join("\n"));
        }
        for declared in &outcome.declared {
            self.line(&format!("      declared different: {declared}"));
        }
        if let Some(bundle) = &outcome.written {
            self.line(&format!("      logs and objects: {}", bundle.display()));
        }
        for warning in &outcome.warnings {
            self.line(&format!("      warning: {warning}"));
        }
    }

    /// The last lines.
    pub fn summary(&mut self, run: &RunReport, seconds: f64) {
        for outcome in run.outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed | Verdict::Error))
        {
            self.write(&line(outcome));
        }
        self.line(&format!("{} ({seconds:.1} s)", run.counts));
    }

    /// What GitHub shows of an outcome beside the lines of a pull request.
    pub fn annotate(&mut self, outcome: &Outcome) {
        if let Some(annotation) = github(outcome) {
            self.write(&annotation);
        }
    }

    /// A line of its own.
    pub fn line(&mut self, text: &str) {
        self.write(&inert(text));
    }

    fn write(&mut self, text: &str) {
        // A closed terminal ends the output and not the run: the files have everything.
        let _ = writeln!(self.out, "{text}");
    }
}

fn line(outcome: &Outcome) -> String {
    let (word, colour) = match outcome.verdict {
        Verdict::Passed => ("PASS", AnsiColor::Green),
        Verdict::Failed => ("FAIL", AnsiColor::Red),
        Verdict::Error => ("ERROR", AnsiColor::Magenta),
        Verdict::Skipped => ("SKIP", AnsiColor::Yellow),
        Verdict::Interrupted => ("STOP", AnsiColor::Yellow),
    };
    let style = Style::new().bold().fg_color(Some(colour.into()));
    let time = if outcome.duration == Duration::ZERO {
        " ".repeat(9)
    } else {
        format!("{:>7.2} s", outcome.duration.as_secs_f64())
    };
    let repetition =
        if outcome.repetition > 1 { format!(" (repetition {})", outcome.repetition) } else { String::new() };
    let shown = !matches!(outcome.verdict, Verdict::Passed | Verdict::Failed);
    let reason = outcome.reason.as_deref().filter(|_| shown).and_then(|reason| reason.lines().next());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let rest = inert(&format!("{}{repetition}{reason}", outcome.scenario));
    format!("{style}{word:>5}{style:#} {time}  {rest}")
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{outcome, run};
    use super::*;

    #[test]
    fn a_run_reads_from_top_to_bottom() {
        let mut run = run([]);
        let mut console = Console { out: anstream::StripStream::new(Vec::new()) };
        console.begin(&run, 4);
        for verdict in [Verdict::Passed, Verdict::Failed, Verdict::Skipped, Verdict::Error, Verdict::Interrupted] {
            let mut outcome = outcome(&format!("gate/{}", verdict.as_str()), verdict);
            if verdict == Verdict::Failed {
                outcome.written = Some("reports/bundles/gate/failed".into());
            }
            console.ended(&outcome);
            run.add(outcome);
        }
        console.summary(&run, 12.34);
        insta::assert_snapshot!(String::from_utf8(console.out.into_inner()).unwrap());
    }

    #[test]
    fn of_all_that_is_told_only_our_annotation_is_a_command() {
        let mut outcome = outcome("gate/a", Verdict::Error);
        let foreign = "x\n::error::y\n  ::notice::y\na ##[error]b\r::add-mask::c\n\u{1b}[31m::warning::d";
        outcome.reason = Some("no\r::error::y".to_owned());
        outcome.failures[0].message = foreign.to_owned();
        outcome.declared = vec![foreign.to_owned()];
        outcome.warnings = vec![foreign.to_owned()];
        let mut run = run([]);
        run.environment.implementation_version = foreign.to_owned();
        let mut console = Console { out: anstream::StripStream::new(Vec::new()) };
        console.begin(&run, 4);
        console.ended(&outcome);
        console.annotate(&outcome);
        run.add(outcome);
        console.summary(&run, 1.0);
        let told = String::from_utf8(console.out.into_inner()).unwrap();
        let lines: Vec<&str> = told.split(['\n', '\r']).map(str::trim_start).collect();
        let (commands, others): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(|line| line.starts_with("::"));
        assert_eq!(commands.len(), 1, "{told}");
        assert!(commands[0].starts_with("::error file=scenarios/gate/a.yaml,line=12,"), "{told}");
        assert!(!others.iter().any(|line| line.contains("##[")), "{told}");
        assert!(told.contains(r":\:error::y") && told.contains(r"a ##\[error]b"), "{told}");
    }
}
