//! Skips that are allowed under `--no-skips`, each with its reason.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::engine::{Outcome, Verdict};
use crate::scenario::Filter;

/// The list, as it stands in its file.
#[derive(Clone, Debug, Default)]
pub struct AllowedSkips {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    /// Name or glob of scenarios.
    scenario: String,
    /// Why it is right that they are skipped.
    reason: String,
}

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SkipError {
    /// It cannot be read.
    #[error("cannot read the list of allowed skips {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no list of skips.
    #[error("{path} is no list of allowed skips (`- {{scenario: NAME, reason: WHY}}`): {problem}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl AllowedSkips {
    /// Reads the list.
    pub fn read(path: &Path) -> Result<Self, SkipError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| SkipError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|problem| SkipError::Malformed { path: path.to_owned(), problem })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let entries: Option<Vec<Entry>> = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        let entries = entries.unwrap_or_default();
        match entries.iter().find(|entry| entry.reason.trim().is_empty()) {
            Some(entry) => Err(format!("`{}` has no reason", entry.scenario)),
            None => Ok(Self { entries }),
        }
    }

    /// What is wrong with the skips of a run: those that are not allowed, and allowed ones that did not happen although
    /// the scenario was there.
    pub fn problems(&self, outcomes: &[Outcome]) -> Vec<String> {
        let filters: Vec<Filter> = self.entries.iter().map(|entry| Filter::new([entry.scenario.as_str()])).collect();
        let skipped = |outcome: &&Outcome| outcome.verdict == Verdict::Skipped;
        let mut problems = Vec::new();
        for outcome in outcomes.iter().filter(skipped) {
            if !filters.iter().any(|filter| filter.selects(&outcome.scenario)) {
                let reason = outcome.reason.as_deref().unwrap_or("no reason");
                problems.push(format!("{} was skipped, and that is not allowed: {reason}", outcome.scenario));
            }
        }
        for (entry, filter) in self.entries.iter().zip(&filters) {
            let mut selected = outcomes.iter().filter(|outcome| filter.selects(&outcome.scenario)).peekable();
            if selected.peek().is_some() && !selected.any(|outcome| outcome.verdict == Verdict::Skipped) {
                problems.push(format!("the allowed skip of {} is not needed ({})", entry.scenario, entry.reason));
            }
        }
        problems.sort();
        problems.dedup();
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::outcome;
    use super::*;

    #[test]
    fn only_what_is_listed_may_be_skipped_and_the_list_holds_nothing_else() {
        let allowed =
            AllowedSkips::parse("- {scenario: 'backup/*', reason: no pgBackRest here}\n- {scenario: a/b, reason: r}")
                .unwrap();
        let outcomes = [
            outcome("backup/x", Verdict::Skipped),
            outcome("gate/y", Verdict::Skipped),
            outcome("a/b", Verdict::Passed),
        ];
        assert_eq!(
            allowed.problems(&outcomes),
            ["gate/y was skipped, and that is not allowed: no pgBackRest", "the allowed skip of a/b is not needed (r)"]
        );
    }

    #[test]
    fn a_scenario_that_was_not_selected_makes_no_entry_unused() {
        let allowed = AllowedSkips::parse("- {scenario: 'backup/*', reason: r}").unwrap();
        assert!(allowed.problems(&[outcome("gate/y", Verdict::Passed)]).is_empty());
    }

    #[test]
    fn a_skip_needs_a_reason() {
        assert_eq!(AllowedSkips::parse("- {scenario: a, reason: ' '}").unwrap_err(), "`a` has no reason");
        assert!(AllowedSkips::parse("").unwrap().entries.is_empty());
    }
}
