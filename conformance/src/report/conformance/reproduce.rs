//! The command that judges a requirement again.

use super::judge::Catalogue;
use crate::report::saved::SavedReport;
use crate::scenario::Scenario;

/// The command that judges the scenarios `names` as `run` did. What is about the whole run has a verdict in no smaller one.
pub(super) fn command(names: &[&str], run: &SavedReport, catalogue: Catalogue<'_>) -> String {
    let about_the_run = catalogue
        .scenarios
        .iter()
        .filter(|entry| names.contains(&entry.name.as_str()))
        .any(|entry| entry.scenario.as_ref().is_ok_and(Scenario::about_the_run));
    let names = if about_the_run { &[] } else { names };
    let filters = names.iter().flat_map(|name| ["--filter".to_owned(), format!("={name}")]);
    let words =
        ["conformance", "run"].map(str::to_owned).into_iter().chain(filters).chain(run.arguments.iter().cloned());
    words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    // zsh looks for a program behind a `=` at the beginning.
    if !word.is_empty() && !word.starts_with('=') && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
