//! `requirements.yaml`: what the scenarios are about, and whether they cover all of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::diagnostic::{Diagnostic, Source};
use super::load::Entry;
use super::nearest::nearest;
use super::node::Node;
use super::parse;
use super::types::ApiVersion;

/// Name of the file in the scenarios' directory.
pub(super) const FILE: &str = "requirements.yaml";

/// How the page begins.
const HEAD: &str = "\
# Requirements

Written by `just generate` from `scenarios/requirements.yaml` and the scenarios. *Core* binds every implementation, and a known defect of the
bundled operator was seen to make a scenario of each fail. *Extended* binds those that claim the feature; it may have no known defect.
*Provisional* binds nobody yet.
";

/// The catalogue of requirements.
#[derive(Clone, Debug)]
pub struct Requirements {
    /// All of them, in the order of the file.
    pub all: Vec<Requirement>,
    source: Source,
    node: Node,
}

/// What the file holds.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[allow(dead_code, reason = "reading it checks it")]
    api_version: ApiVersion,
    #[allow(dead_code, reason = "reading it checks it")]
    kind: Kind,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Kind {
    Requirements,
}

/// Something that an implementation must do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// Area and name, such as `gate/secret-absent`: what a scenario `covers`.
    pub id: String,
    /// One sentence.
    pub statement: String,
    /// Whom it binds.
    pub level: Level,
    /// Where it comes from.
    pub source: Origin,
}

/// Whom a requirement binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// Every implementation. A known defect shows that its scenarios can fail.
    Core,
    /// Implementations that claim the feature. It may have no known defect.
    Extended,
    /// Nobody yet.
    Provisional,
}

/// Where a requirement comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// The design of `DittoServer`.
    Design,
    /// The conventions of the Kubernetes API.
    Kubernetes,
    /// The observed behaviour of Percona 2.8.2.
    Percona,
}

impl Requirements {
    /// Reads the file in `directory`; `None` when there is none.
    pub fn load(directory: &Path) -> Result<Option<Self>, Diagnostic> {
        let path = directory.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Diagnostic::new(&Source::new(&name, ""), 0..0, format!("cannot read the file: {error}"))
        })?;
        Self::parse(&Source::new(name, text)).map(Some)
    }

    pub(crate) fn parse(source: &Source) -> Result<Self, Diagnostic> {
        let document: Document = parse::read(source)?;
        Ok(Self { all: document.requirements, source: source.clone(), node: parse::read(source)? })
    }

    /// The ids of all requirements of these levels.
    pub fn of(&self, levels: &[Level]) -> impl Iterator<Item = &str> {
        let selected = |requirement: &&Requirement| levels.contains(&requirement.level);
        self.all.iter().filter(selected).map(|requirement| requirement.id.as_str())
    }

    /// Everything that is wrong between the requirements and `entries`, all scenarios there are: a requirement without a
    /// scenario, one that stands twice, a core requirement that no defect flips, and a scenario that covers what is no
    /// requirement. `caught` are the scenarios that a known defect makes fail.
    pub fn problems(&self, entries: &[Entry], caught: &BTreeSet<String>) -> Vec<Diagnostic> {
        let scenarios = || entries.iter().filter_map(|entry| entry.scenario.as_ref().ok());
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for (requirement, node) in self.all.iter().zip(self.node.list("requirements")) {
            let say = |message: String, help: &str| {
                let span = node.get("id").map_or(node.span.clone(), |id| id.span.clone());
                Diagnostic::new(&self.source, span, message).help(help)
            };
            let id = &requirement.id;
            if !seen.insert(id) {
                problems.push(say(format!("the requirement {id} stands here twice"), "remove one of the two"));
            }
            let mut covering = scenarios().filter(|scenario| scenario.covers.contains(id)).peekable();
            if covering.peek().is_none() {
                problems.push(say(format!("no scenario covers {id}"), "name it under `covers` of one"));
            } else if requirement.level == Level::Core && !covering.any(|scenario| caught.contains(&scenario.name)) {
                let help =
                    "write a patch that breaks the bundled operator so that one of them fails, or lower its level";
                problems.push(say(format!("no defect makes a scenario of {id} fail"), help));
            }
        }
        let unknown = entries.iter().flat_map(|entry| self.unknown(entry));
        problems.extend(unknown);
        problems
    }

    /// What a scenario covers that is no requirement, at its place.
    fn unknown(&self, entry: &Entry) -> Vec<Diagnostic> {
        let Ok(scenario) = &entry.scenario else { return Vec::new() };
        let ids = || self.all.iter().map(|requirement| requirement.id.as_str());
        let unknown = |id: &String| !ids().any(|known| known == id);
        if !scenario.covers.iter().any(unknown) {
            return Vec::new();
        }
        // The typed scenario knows no places; the file has been read before.
        let source =
            Source::new(entry.path.display().to_string(), std::fs::read_to_string(&entry.path).unwrap_or_default());
        let node: Node = match parse::read(&source) {
            Ok(node) => node,
            Err(problem) => return vec![problem],
        };
        let unknown = node.list("covers").iter().filter(|node| node.text().is_some_and(|id| unknown(&id.to_owned())));
        unknown
            .map(|node| {
                let id = node.text().unwrap_or_default();
                let help = nearest(id, ids()).map(|near| format!("did you mean `{near}`?"));
                let help = help.unwrap_or_else(|| format!("add it to {}", self.source.name()));
                Diagnostic::new(&source, node.span.clone(), format!("{id} is no requirement")).help(help)
            })
            .collect()
    }

    /// The scenarios among `entries` that cover the requirement `id`.
    pub fn covering<'a>(&self, id: &str, entries: &'a [Entry]) -> Vec<&'a str> {
        let covers = |entry: &&Entry| entry.scenario.as_ref().is_ok_and(|scenario| scenario.covers.contains(id));
        entries.iter().filter(covers).map(|entry| entry.name.as_str()).collect()
    }

    /// The page of the documentation: a Markdown table for each area.
    pub fn page(&self, entries: &[Entry]) -> String {
        let mut text = HEAD.to_owned();
        let mut area = "";
        for requirement in &self.all {
            let id = requirement.id.as_str();
            let own = id.split('/').next().unwrap_or_default();
            if own != area {
                area = own;
                let _ = write!(
                    text,
                    "\n## {area}\n\n| requirement | level | from | statement | scenarios |\n|---|---|---|---|---|\n"
                );
            }
            let covering = self.covering(id, entries);
            let (level, origin) = (word(&requirement.level), word(&requirement.source));
            let statement = requirement.statement.trim();
            let _ = writeln!(text, "| {id} | {level} | {origin} | {statement} | {} |", covering.join(", "));
        }
        text
    }
}

/// How a word of the file is written.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::diagnostic::render;
    use crate::scenario::{Filter, load};

    const REQUIREMENTS: &str = "\
apiVersion: conformance.dittofs.com/v1alpha1
kind: Requirements
requirements:
  - {id: gate/secret, level: core, source: percona, statement: No pod is made without the Secret.}
  - {id: gate/state, level: core, source: percona, statement: No pod is made before the state is ready.}
  - {id: pods/url, level: provisional, source: design, statement: The URL is never literal.}
  - {id: pods/none, level: extended, source: kubernetes, statement: There is no scenario of this.}
  - {id: pods/url, level: extended, source: design, statement: Twice.}
";

    fn scenarios(directory: &Path) -> Vec<Entry> {
        for (name, covers) in [("gate/a", "gate/secret, pods/url"), ("gate/b", "gate/state, pods/ulr")] {
            let text = format!(
                "apiVersion: conformance.dittofs.com/v1alpha1\nkind: Scenario\nclaim: It holds.\ncovers: [{covers}]\n\
                 steps:\n  - name: s\n    try:\n      - assert:\n          resource: {{apiVersion: v1, kind: Pod, metadata: {{name: x}}}}\n"
            );
            std::fs::create_dir_all(directory.join("gate")).unwrap();
            std::fs::write(directory.join(format!("{name}.yaml")), text).unwrap();
        }
        load(directory, &Filter::default()).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let entries = scenarios(directory.path());
        let source = Source::new("scenarios/requirements.yaml", REQUIREMENTS);
        let requirements = Requirements::parse(&source).unwrap();
        let problems = requirements.problems(&entries, &["gate/a".to_owned()].into());
        let text = render(&problems, 100, false).replace(&directory.path().display().to_string(), "scenarios");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_page_has_a_table_for_each_area() {
        let directory = tempfile::tempdir().unwrap();
        let entries = scenarios(directory.path());
        let requirements = Requirements::parse(&Source::new("requirements.yaml", REQUIREMENTS)).unwrap();
        insta::assert_snapshot!(requirements.page(&entries));
    }

    #[test]
    fn a_typo_is_refused() {
        let text = REQUIREMENTS.replace("level: extended, source: kubernetes", "level: extendet, source: kubernetes");
        let problem = Requirements::parse(&Source::new("requirements.yaml", text)).unwrap_err();
        assert_eq!(
            problem.line().to_string(),
            "requirements.yaml:7:28: unknown word `extendet` (did you mean `extended`?)"
        );
    }
}
