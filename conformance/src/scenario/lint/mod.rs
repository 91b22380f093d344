//! Everything that is wrong with a scenario and that its types do not rule out.
//!
//! Each submodule looks at one thing. They see the typed scenario and, beside it, the tree of its text, which knows the
//! places.

mod expressions;
mod files;
mod names;
mod needs;
mod shape;
mod templates;

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Source};
use super::expression::Scope;
use super::node::{Key, Node};
use super::parse::Parsed;
use super::types::{Operation, Step};

/// Everything that is wrong with `parsed`, in the order of the text. Also reads the files that it names, which are
/// relative to `directory`.
pub(crate) fn check(parsed: &mut Parsed, directory: &Path) -> Vec<Diagnostic> {
    let Parsed { scenario, source, node } = parsed;
    let mut linter = Linter {
        directory: directory.to_owned(),
        problems: Problems { source: source.clone(), found: Vec::new() },
        scope: Scope::new(expressions::BUILT_IN),
        names: names::Names::default(),
    };
    shape::head(scenario, node, &mut linter.problems);
    expressions::bindings(node.list("bindings"), &mut linter.scope, &mut linter.problems);
    for (step, node) in scenario.steps.iter_mut().zip(node.list("steps")) {
        let own = expressions::bindings(node.list("bindings"), &mut linter.scope, &mut linter.problems);
        match templates::fill(step, node, directory, &mut linter.problems) {
            Some(template) => linter.template(step, template),
            None => linter.step(step, node),
        }
        for name in &own {
            linter.scope.remove(name);
        }
    }
    linter.operations(&mut scenario.catch, node.list("catch"), Place::Afterwards);
    linter.operations(&mut scenario.finally, node.list("finally"), Place::Afterwards);
    linter.names.end(&mut linter.problems);
    needs::check(scenario, node, &mut linter.problems);
    linter.problems.sorted()
}

struct Linter {
    directory: PathBuf,
    problems: Problems,
    scope: Scope,
    names: names::Names,
}

impl Linter {
    fn step(&mut self, step: &mut Step, node: &Node) {
        self.operations(&mut step.r#try, node.list("try"), Place::Try);
        self.operations(&mut step.catch, node.list("catch"), Place::Afterwards);
        self.operations(&mut step.finally, node.list("finally"), Place::Afterwards);
    }

    /// A step whose operations stand in another file: what is wrong is wrong there, and files are looked for from there.
    fn template(&mut self, step: &mut Step, template: templates::Template) {
        let directory = template.directory().to_owned();
        let source = std::mem::replace(&mut self.problems.source, template.source);
        let directory = std::mem::replace(&mut self.directory, directory);
        self.step(step, &template.node);
        (self.problems.source, self.directory) = (source, directory);
    }

    fn operations(&mut self, operations: &mut [Operation], nodes: &[Node], place: Place) {
        for (operation, node) in operations.iter_mut().zip(nodes) {
            let [(key, node)] = node.entries() else { continue };
            shape::operation(&operation.action, key, node, &mut self.problems);
            self.names.operation(&operation.action, place, node, &mut self.problems);
            expressions::operation(&key.text, node, &mut self.scope, &mut self.problems);
            files::operation(&mut operation.action, node, &self.directory, &self.scope, &mut self.problems);
        }
    }
}

/// Where an operation stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a `try`.
    Try,
    /// In a `catch` or `finally`.
    Afterwards,
}

/// What was found.
struct Problems {
    source: Source,
    found: Vec<Diagnostic>,
}

impl Problems {
    fn add(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.found.push(Diagnostic::new(&self.source, span.clone(), message).maybe_help(help.into()));
    }

    fn sorted(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(Diagnostic::position);
        self.found
    }
}

/// The place of a field, or of its owner's key when the field is not there.
fn span_of(node: &Node, field: &str, otherwise: &Key) -> Range<usize> {
    node.entry(field).map_or(otherwise.span.clone(), |(key, _)| key.span.clone())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::{diagnostic::render, parse::parse};

    /// What a person sees of each file that can be read and is wrong.
    #[rstest]
    fn refuses(#[files("src/scenario/gallery/lint/*.yaml")] path: PathBuf) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = Source::new(format!("scenarios/{name}.yaml"), std::fs::read_to_string(&path).unwrap());
        // Relative, so that what is seen does not hold where this clone lies.
        let problems = check(&mut parse(&source).unwrap(), Path::new("src/scenario/gallery/lint"));
        assert!(!problems.is_empty());
        insta::with_settings!({ snapshot_path => "../gallery/seen", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("lint_{name}"), render(&problems, 100, false));
        });
    }
}
