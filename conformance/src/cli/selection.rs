//! Which scenarios several verbs are about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::options::{coloured, terminal_width};
use super::{CliError, home};
use crate::environment::Declared;
use crate::exit::Exit;
use crate::implementation::Implementation;
use crate::scenario::diagnostic::{Diagnostic, Source, render};
use crate::scenario::{Defect, Entry, Filter, Level, Requirements, Scenario, declared_problems, load};

/// Which scenarios.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Names or globs of scenarios, such as `credential_rotation`, `gate/*` or, for one alone,
    /// `=gate/secret_delayed_holds_the_pods`; all by default
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// More names or globs
    #[arg(long, value_name = "NAME")]
    filter: Vec<String>,
    /// Only scenarios that cover a requirement of this level; may be given more than once
    #[arg(long, value_name = "LEVEL", value_enum)]
    level: Vec<LevelName>,
    /// The directory of the scenarios
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
}

/// A level on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LevelName {
    /// Binds every implementation
    Core,
    /// Binds those that claim the feature
    Extended,
    /// Binds nobody yet
    Provisional,
}

impl From<LevelName> for Level {
    fn from(name: LevelName) -> Self {
        match name {
            LevelName::Core => Self::Core,
            LevelName::Extended => Self::Extended,
            LevelName::Provisional => Self::Provisional,
        }
    }
}

impl Selection {
    /// All scenarios of a directory.
    pub fn all(scenarios: Option<PathBuf>) -> Self {
        Self { names: Vec::new(), filter: Vec::new(), level: Vec::new(), scenarios }
    }

    /// This selection, or `names` when it names nothing.
    pub fn or(mut self, names: &[&str]) -> Self {
        if self.names.is_empty() && self.filter.is_empty() {
            self.names = names.iter().map(|name| (*name).to_owned()).collect();
        }
        self
    }

    /// The option that names the directory, where one was named.
    pub fn arguments(&self) -> Vec<String> {
        let named = self.scenarios.iter().map(|directory| directory.display().to_string());
        named.flat_map(|directory| ["--scenarios".to_owned(), directory]).collect()
    }

    /// The selection in its directory: the one that was named, else [`home::scenarios`].
    pub async fn open(self) -> Result<Selected, CliError> {
        let directory = match self.scenarios {
            Some(directory) => directory,
            None => home::scenarios().await?,
        };
        let names: Vec<String> = self.names.into_iter().chain(self.filter).collect();
        let levels: Vec<Level> = self.level.into_iter().map(Level::from).collect();
        let everything = names.is_empty() && levels.is_empty();
        Ok(Selected { directory, everything, filter: Filter::new(names), levels })
    }
}

/// The scenarios that were selected.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Their directory, as people are told about it.
    directory: PathBuf,
    everything: bool,
    filter: Filter,
    /// All, when there is none.
    levels: Vec<Level>,
}

impl Selected {
    /// Whether no scenario is left out.
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// The selected files. One with a mistake may be of any level.
    pub fn entries(&self) -> Result<Vec<Entry>, CliError> {
        let mut entries = load(&self.directory, &self.filter)?;
        if self.levels.is_empty() {
            return Ok(entries);
        }
        let requirements = self.known_requirements()?;
        let wanted: BTreeSet<&str> = requirements.of(&self.levels).collect();
        let covers = |scenario: &Scenario| scenario.covers.iter().any(|id| wanted.contains(id.as_str()));
        entries.retain(|entry| entry.scenario.as_ref().map_or(true, covers));
        if entries.is_empty() {
            let nothing = "no scenario that is selected covers a requirement of that level";
            return Err(CliError::new(Exit::NothingSelected, nothing));
        }
        Ok(entries)
    }

    /// The requirements, where the directory has some.
    fn requirements(&self) -> Result<Option<Requirements>, CliError> {
        let problem = |problem| CliError::rendered(Exit::Usage, render(&[problem], terminal_width(), coloured()));
        Requirements::load(&self.directory).map_err(problem)
    }

    /// The requirements, where they must be.
    pub fn known_requirements(&self) -> Result<Requirements, CliError> {
        let missing = || CliError::new(Exit::Usage, format!("{} has no requirements.yaml", self.directory.display()));
        self.requirements()?.ok_or_else(missing)
    }

    /// What the implementation file at `path` declares and that is unknown here.
    pub fn declared_problems(&self, path: &Path) -> Result<Vec<Diagnostic>, CliError> {
        let wrong = |error: &dyn std::fmt::Display| CliError::new(Exit::Usage, error);
        let implementation = Implementation::load(path).map_err(|error| wrong(&error))?;
        if implementation.declared() == Declared::default() {
            return Ok(Vec::new());
        }
        let Some(requirements) = self.requirements()? else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let source = Source::new(path.display().to_string(), text);
        Ok(declared_problems(&source, &requirements, &load(&self.directory, &Filter::default())?))
    }

    /// What is wrong between the requirements, all scenarios and the known defects. Nothing, when only some are selected.
    pub fn catalogue_problems(&self, entries: &[Entry]) -> Result<Vec<Diagnostic>, CliError> {
        if !self.everything {
            return Ok(Vec::new());
        }
        let Some(requirements) = self.requirements()? else { return Ok(Vec::new()) };
        let caught = self.defects()?.into_iter().flat_map(|defect| defect.fails).collect();
        Ok(requirements.problems(entries, &caught))
    }

    fn defects(&self) -> Result<Vec<Defect>, CliError> {
        Defect::all(&self.directory).map_err(|error| CliError::new(Exit::Usage, error))
    }

    /// What the documentation says of the known defects.
    pub fn defects_page(&self) -> Result<String, CliError> {
        Ok(Defect::page(&self.defects()?, &self.directory))
    }

    /// The selected scenarios; any mistake in any of them is an error that shows all of them.
    pub fn scenarios(&self) -> Result<Vec<(Arc<Scenario>, PathBuf)>, CliError> {
        let right = self.right("nothing was started")?.into_iter();
        Ok(right.filter_map(|entry| Some((Arc::new(entry.scenario.ok()?), entry.path))).collect())
    }

    /// The selected files, where there is no mistake in any of them; else an error that shows all mistakes, and says what
    /// was therefore not done.
    pub fn right(&self, not_done: &str) -> Result<Vec<Entry>, CliError> {
        let entries = self.entries()?;
        let problems: Vec<Diagnostic> =
            entries.iter().filter_map(|entry| entry.scenario.as_ref().err()).flatten().cloned().collect();
        if problems.is_empty() {
            return Ok(entries);
        }
        let width = terminal_width();
        let count = problems.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        let text = format!("{}\n{count} {noun}; {not_done}", render(&problems, width, coloured()));
        Err(CliError::rendered(Exit::Usage, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_no_selected_scenario_has_selects_nothing() {
        let selected = |level| Selected {
            directory: Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios"),
            everything: false,
            filter: Filter::new(["=precedence/no_database_means_sqlite"]),
            levels: vec![level],
        };
        assert_eq!(selected(Level::Core).entries().unwrap().len(), 1);
        assert_eq!(selected(Level::Provisional).entries().unwrap_err().exit(), Exit::NothingSelected);
    }
}
