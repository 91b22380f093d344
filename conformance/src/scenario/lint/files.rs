//! The files that `file:` names: read once, here, so that nothing is missing when the scenario runs.

use std::path::Path;

use crate::scenario::diagnostic::Source;
use crate::scenario::expression::Scope;
use crate::scenario::node::Node;
use crate::scenario::operations::{Action, Assert, Object, Refute, Write};
use crate::scenario::parse;

use super::{Problems, expressions, shape};

/// Fills in the objects of an operation: from `resource`, or from the file.
pub(super) fn operation(action: &mut Action, node: &Node, directory: &Path, scope: &Scope, problems: &mut Problems) {
    let (resource, file, objects, scope) = match action {
        Action::Apply(Write { resource, file, objects, .. })
        | Action::Create(Write { resource, file, objects, .. }) => (resource, file, objects, scope.clone()),
        Action::Assert(Assert { resource, file, objects, .. })
        | Action::Error(Refute { resource, file, objects, .. }) => (resource, file, objects, scope.in_pattern()),
        _ => return,
    };
    match (resource, file) {
        (Some(resource), None) => objects.push(resource.clone()),
        (None, Some(file)) => {
            let Some(place) = node.get("file") else { return };
            let path = directory.join(&*file);
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) => {
                    let help = format!("looked for {}", path.display());
                    return problems.add(&place.span, format!("cannot read `{file}`: {error}"), help);
                }
            };
            let source = Source::new(path.display().to_string(), text);
            match parse::read_all::<Object>(&source).and_then(|read| Ok((read, parse::read_all::<Node>(&source)?))) {
                Ok((read, _)) if read.is_empty() => {
                    problems.add(&place.span, format!("`{file}` holds no object"), None);
                }
                Ok((read, nodes)) => {
                    let mut inside = Problems { source, found: Vec::new() };
                    for (object, node) in read.iter().zip(&nodes) {
                        shape::object(object, &node.span, &mut inside);
                        expressions::check(node, &scope, &mut inside);
                    }
                    problems.found.append(&mut inside.found);
                    *objects = read;
                }
                Err(error) => problems.found.push(error),
            }
        }
        // Said by `shape`.
        _ => {}
    }
}
