//! Known defects: patch files beside the scenarios that must catch them. Each says in its head what is wrong
//! (`Defect:`) and which scenarios must fail (`Fails:`, one a line).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// How the page begins.
const HEAD: &str = "\
# Known defects

Written by `just generate` from the patch files beside the scenarios. Each breaks the bundled operator in one way; `just defects` builds it,
runs every scenario against it, and passes when exactly the named ones fail and say what the snapshot holds. `just defects gate::` runs those of
one area, `DEFECT_JOBS=2` two at a time; with `DEFECT_SCENARIOS='gate/* pods/*'` only the named scenarios and these are run.
`just defects-together` builds up to six into one operator, such that no two change the same file or fail the same scenario, and takes a quarter
of the time; a scenario that two of them flip and one names goes unnoticed there.

| defect | what is wrong | what must fail | |
|---|---|---|---|
";

/// A known defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Area and file name, such as `gate::does_not_read_the_state`.
    pub name: String,
    /// What is wrong, in one line.
    pub what: String,
    /// The patch against the bundled operator.
    pub patch: PathBuf,
    /// The scenarios that must fail; all others must pass.
    pub fails: BTreeSet<String>,
}

/// A defect cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DefectError {
    /// The file or directory cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// It.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its head does not say what it must.
    #[error("{}: its head needs one `Defect:` and at least one `Fails:`", .0.display())]
    Head(PathBuf),
}

impl Defect {
    /// All defects below `directory`, in the order of their names.
    pub fn all(directory: &Path) -> Result<Vec<Self>, DefectError> {
        let mut defects = Vec::new();
        for area in sorted(directory)?.into_iter().filter(|path| path.is_dir()) {
            for patch in sorted(&area)? {
                if patch.extension().is_some_and(|extension| extension == "patch") {
                    defects.push(Self::read(patch)?);
                }
            }
        }
        Ok(defects)
    }

    fn read(patch: PathBuf) -> Result<Self, DefectError> {
        let text =
            std::fs::read_to_string(&patch).map_err(|error| DefectError::Unreadable { path: patch.clone(), error })?;
        let head = text.split("\ndiff --git ").next().unwrap_or_default();
        let said = |word: &str| {
            let lines = head.lines().filter_map(|line| line.strip_prefix(word));
            lines.map(|rest| rest.trim().to_owned()).collect::<Vec<_>>()
        };
        let fails: BTreeSet<String> = said("Fails:").into_iter().collect();
        let Ok([what]) = <[String; 1]>::try_from(said("Defect:")) else { return Err(DefectError::Head(patch)) };
        if fails.is_empty() {
            return Err(DefectError::Head(patch));
        }
        let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let area = patch.parent().map(name).unwrap_or_default();
        Ok(Self { name: format!("{area}::{}", name(&patch)), what, patch, fails })
    }

    /// The snapshot of what the suite says, relative to the repository; it is there once the defect was run.
    pub fn snapshot(&self) -> PathBuf {
        Path::new("conformance/tests/snapshots").join(format!("{}.snap", self.name.replace("::", "__")))
    }

    /// The page of the documentation: a Markdown table. `directory` is that of the scenarios.
    pub fn page(defects: &[Self], directory: &Path) -> String {
        let mut text = HEAD.to_owned();
        for defect in defects {
            let fails: Vec<&str> = defect.fails.iter().map(String::as_str).collect();
            let snapshot = defect.snapshot();
            let said = if directory.join("..").join(&snapshot).exists() {
                format!("[what the suite says](../{})", snapshot.display())
            } else {
                "not run yet".to_owned()
            };
            let Self { name, what, .. } = defect;
            let _ = writeln!(text, "| `{name}` | {what} | {} | {said} |", fails.join(", "));
        }
        text
    }
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>, DefectError> {
    let unreadable = |error| DefectError::Unreadable { path: directory.to_owned(), error };
    let entries: Result<Vec<_>, io::Error> =
        std::fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths = entries.map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_is_wrong_and_what_must_fail() {
        let directory = tempfile::tempdir().unwrap();
        let area = directory.path().join("gate");
        std::fs::create_dir(&area).unwrap();
        let file = area.join("is_blind.patch");
        std::fs::write(&file, "Defect: it is blind\nFails: gate/b\nFails: gate/a\n\ndiff --git a b\nFails: c\n")
            .unwrap();
        let defects = Defect::all(directory.path()).unwrap();
        let fails = ["gate/a", "gate/b"].map(str::to_owned).into();
        let (name, what) = ("gate::is_blind".to_owned(), "it is blind".to_owned());
        assert_eq!(defects, [Defect { name, what, patch: file.clone(), fails }]);
        let page = Defect::page(&defects, directory.path());
        assert!(page.ends_with("| `gate::is_blind` | it is blind | gate/a, gate/b | not run yet |\n"), "{page}");
        std::fs::write(&file, "Defect: it is blind\n\ndiff --git a b\n").unwrap();
        assert!(matches!(Defect::all(directory.path()), Err(DefectError::Head(found)) if found == file));
    }
}
