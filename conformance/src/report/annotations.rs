//! Failures in the form in which GitHub shows them beside the lines of a pull request. Pure.
//!
//! The form: <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>.

use crate::engine::{Outcome, Verdict};
use crate::inert::inert;

/// The annotation of an outcome; `None` when there is nothing to show.
pub fn github(outcome: &Outcome) -> Option<String> {
    if !matches!(outcome.verdict, Verdict::Failed | Verdict::Error) {
        return None;
    }
    let mut properties = Vec::new();
    if let Some(place) = outcome.failures.first().map(|failure| &failure.place) {
        properties.push(format!("file={}", property(&place.file)));
        if place.line > 0 {
            properties.push(format!("line={},col={}", place.line, place.column));
        }
    }
    let title = match outcome.verdict {
        Verdict::Error => format!("{} (error of the environment)", outcome.scenario),
        _ => outcome.scenario.clone(),
    };
    properties.push(format!("title={}", property(&title)));
    let failure = outcome.failures.first().map(|failure| failure.message.as_str());
    let message = failure.or(outcome.reason.as_deref()).unwrap_or_default();
    Some(format!("::error {}::{}", properties.join(","), data(&inert(message))))
}

/// What would end a command, escaped.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// What would end a property, escaped.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::outcome;
    use super::*;

    #[test]
    fn only_what_went_wrong_is_annotated_at_its_line() {
        let verdicts =
            [Verdict::Passed, Verdict::Skipped, Verdict::Interrupted, Verdict::Failed, Verdict::Error].map(|verdict| {
                let mut outcome = outcome("gate/a, b: 100%", verdict);
                if let Some(failure) = outcome.failures.first_mut() {
                    failure.message.push_str("\n100%");
                }
                github(&outcome).unwrap_or_else(|| "nothing".to_owned())
            });
        insta::assert_snapshot!(verdicts.join("\n"));
    }

    #[test]
    fn what_belongs_to_no_line_names_none() {
        let mut failed = outcome("gate/a", Verdict::Failed);
        failed.failures[0].place.line = 0;
        assert_eq!(
            github(&failed).unwrap(),
            "::error file=scenarios/gate/a.yaml,title=gate/a::DittoServer demo does not exist at the end of assert (20s)"
        );
    }
}
