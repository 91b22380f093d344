//! Finds scenario files, reads them, and selects some by name.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Source};
use super::nearest::nearest;
use super::types::Scenario;
use super::{glob, parse};

/// A file below the scenarios' directory.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name of the scenario: the path below the directory without `.yaml`, such as `gate/changes_are_seen_at_once`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The scenario, or everything that is wrong with the file.
    pub scenario: Result<Scenario, Vec<Diagnostic>>,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no scenario at all.
    #[error("no scenarios in {}", .0.display())]
    Empty(PathBuf),
    /// Patterns that select nothing, all of them or some.
    #[error("no scenario is called like {filter}{}", hint(near.as_deref()))]
    NothingSelected {
        /// These patterns.
        filter: Filter,
        /// The name that is nearest to it.
        near: Option<String>,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// Selects scenarios by name: a part of it, a glob (`gate/*`, `*rotation*`) over all of it or its last part, or `=` and all
/// of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(Vec<String>);

impl Filter {
    /// Selects what any of `patterns` selects; everything when there is none.
    pub fn new(patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(patterns.into_iter().map(|pattern| pattern.into().trim_end_matches(".yaml").to_owned()).collect())
    }

    /// Whether it selects `name`.
    pub fn selects(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| selects(pattern, name))
    }

    /// The patterns that select none of `names`.
    fn selecting_none_of(&self, names: &[String]) -> Self {
        let nothing = |pattern: &&String| !names.iter().any(|name| selects(pattern, name));
        Self(self.0.iter().filter(nothing).cloned().collect())
    }
}

fn selects(pattern: &str, name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    if let Some(whole) = pattern.strip_prefix('=') {
        name == whole
    } else if pattern.contains(['*', '?']) {
        glob::matches(pattern, name) || glob::matches(pattern, last)
    } else {
        name.contains(pattern)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted: Vec<String> = self.0.iter().map(|pattern| format!("`{pattern}`")).collect();
        f.write_str(&quoted.join(" or "))
    }
}

/// Reads all scenarios below `directory` that `filter` selects, in the order of their names. A bad file is an entry too;
/// a pattern that selects nothing is an error, whatever the others select.
///
/// A file is a scenario when it lies in a directory for its area and nothing in its path begins with `_`: what
/// scenarios share, such as the targets of `file:`, goes there.
pub fn load(directory: &Path, filter: &Filter) -> Result<Vec<Entry>, LoadError> {
    let files = files(directory)?;
    if files.is_empty() {
        return Err(LoadError::Empty(directory.to_owned()));
    }
    let names: Vec<String> = files.iter().map(|path| name_of(directory, path)).collect();
    let nothing = filter.selecting_none_of(&names);
    if !nothing.0.is_empty() {
        return Err(LoadError::NothingSelected { near: near(&nothing, &names), filter: nothing });
    }
    let selected = files.iter().zip(&names).filter(|(_, name)| filter.selects(name));
    Ok(selected
        .map(|(path, name)| Entry { name: name.clone(), path: path.clone(), scenario: read(path, name) })
        .collect())
}

/// Everything that is wrong with the scenarios below `directory`.
pub fn lint(directory: &Path) -> Result<Vec<Diagnostic>, LoadError> {
    let wrong = load(directory, &Filter::default())?.into_iter().filter_map(|entry| entry.scenario.err()).flatten();
    // What is wrong with a template is found in every scenario that uses it.
    Ok(wrong.fold(Vec::new(), |mut told, diagnostic| {
        if !told.contains(&diagnostic) {
            told.push(diagnostic);
        }
        told
    }))
}

fn read(path: &Path, name: &str) -> Result<Scenario, Vec<Diagnostic>> {
    let text = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => return Err(vec![about(path, "the file is not in UTF-8")]),
        Err(error) => return Err(vec![about(path, &format!("cannot read the file: {error}"))]),
    };
    if !name.contains('/') {
        return Err(vec![about(path, "a scenario lies in a directory for its area, such as `gate/`")]);
    }
    if path.extension().is_some_and(|extension| extension == "yml") {
        return Err(vec![about(path, "the name of a scenario ends in `.yaml`")]);
    }
    let mut parsed = parse::parse(&Source::new(path.display().to_string(), text)).map_err(|error| vec![error])?;
    name.clone_into(&mut parsed.scenario.name);
    let problems = super::lint::check(&mut parsed, path.parent().unwrap_or(Path::new(".")));
    if problems.is_empty() { Ok(parsed.scenario) } else { Err(problems) }
}

fn about(path: &Path, message: &str) -> Diagnostic {
    Diagnostic::new(&Source::new(path.display().to_string(), ""), 0..0, message)
}

fn files(directory: &Path) -> Result<BTreeSet<PathBuf>, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: directory.to_owned(), error };
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(['_', '.']) || name == super::requirements::FILE {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.insert(path);
        }
    }
    Ok(found)
}

fn name_of(directory: &Path, path: &Path) -> String {
    let below = path.strip_prefix(directory).unwrap_or(path).with_extension("");
    below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn near(filter: &Filter, names: &[String]) -> Option<String> {
    let parts = names.iter().flat_map(|name| [name.as_str()].into_iter().chain(name.split('/')));
    filter.0.iter().find_map(|pattern| nearest(pattern.trim_matches(['*', '=']), parts.clone())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], true)]
    #[case(&["rotation"], true)]
    #[case(&["credentials/credential_rotation"], true)]
    #[case(&["credentials/credential_rotation.yaml"], true)]
    #[case(&["credentials/*"], true)]
    #[case(&["*rotation"], true)]
    #[case(&["gate", "credentials"], true)]
    #[case(&["*"], true)]
    #[case(&["=credentials/credential_rotation"], true)]
    #[case(&["=credential_rotation"], false)]
    #[case(&["gate/*"], false)]
    #[case(&["rotations"], false)]
    fn selects_by_part_or_glob(#[case] patterns: &[&str], #[case] expected: bool) {
        assert_eq!(Filter::new(patterns.iter().copied()).selects("credentials/credential_rotation"), expected);
    }

    #[test]
    fn a_filter_that_selects_nothing_is_an_error_that_knows_the_nearest_name() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("gate/_shared")).unwrap();
        std::fs::write(directory.path().join("gate/secret_absent.yaml"), "").unwrap();
        std::fs::write(directory.path().join("gate/_shared/object.yaml"), "").unwrap();
        let error = load(directory.path(), &Filter::new(["secret_absnt"])).unwrap_err();
        assert_eq!(error.to_string(), "no scenario is called like `secret_absnt`; did you mean `secret_absent`?");
        let error = load(directory.path(), &Filter::new(["gate/*", "=gate/old", "other"])).unwrap_err();
        assert_eq!(error.to_string(), "no scenario is called like `=gate/old` or `other`");
        let entries = load(directory.path(), &Filter::default()).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["gate/secret_absent"]);
        assert_eq!(entries[0].scenario.as_ref().unwrap_err()[0].message, "the file is empty");
    }

    #[test]
    fn an_empty_or_missing_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(load(directory.path(), &Filter::default()), Err(LoadError::Empty(_))));
        let missing = directory.path().join("missing");
        assert!(matches!(load(&missing, &Filter::default()), Err(LoadError::Unreadable { .. })));
    }
}

#[cfg(test)]
mod shipped {
    use super::*;
    use crate::scenario::diagnostic::render;

    #[test]
    fn nothing_is_wrong_with_the_scenarios_of_this_repository() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let problems = lint(&directory).unwrap();
        assert!(problems.is_empty(), "\n{}", render(&problems, 120, false));
    }

    #[test]
    fn every_scenario_names_the_schema_for_editors() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        for path in files(&directory).unwrap() {
            let text = std::fs::read_to_string(&path).unwrap();
            let depth = path.strip_prefix(&directory).unwrap().components().count() - 1;
            let wanted = format!("# yaml-language-server: $schema={}schema.json\n", "../".repeat(depth));
            assert!(text.starts_with(&wanted), "{} does not begin with {wanted}", path.display());
        }
    }
}
