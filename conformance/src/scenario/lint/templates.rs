//! The templates that steps name in `use`: read once, here, and put in place of the step's own operations.

use std::path::{Component, Path, PathBuf};

use crate::scenario::diagnostic::Source;
use crate::scenario::node::Node;
use crate::scenario::parse;
use crate::scenario::types::Step;

use super::Problems;

/// The text of a template.
pub(super) struct Template {
    pub(super) source: Source,
    pub(super) node: Node,
}

impl Template {
    /// Where it lies.
    pub(super) fn directory(&self) -> &Path {
        Path::new(self.source.name()).parent().unwrap_or(Path::new("."))
    }
}

/// Fills in the operations of a step from the template that it names, if it names one.
pub(super) fn fill(step: &mut Step, node: &Node, directory: &Path, problems: &mut Problems) -> Option<Template> {
    let file = step.r#use.as_ref()?;
    let place = node.get("use")?;
    let path = plain(&directory.join(file));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let help = format!("looked for {}", path.display());
            problems.add(&place.span, format!("cannot read `{file}`: {error}"), help);
            return None;
        }
    };
    let source = Source::new(path.display().to_string(), text);
    match parse::template(&source) {
        Ok((template, node)) => {
            if template.r#try.is_empty() {
                let help = format!("nothing stands under `try` in {}", path.display());
                problems.add(&place.span, "a template without operations does nothing", help);
            }
            (step.r#try, step.catch, step.finally) = (template.r#try, template.catch, template.finally);
            Some(Template { source, node })
        }
        Err(error) => {
            problems.found.push(error);
            None
        }
    }
}

/// A path without the steps back that `..` makes in it: it is shown to people.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, component| {
        let back =
            component == Component::ParentDir && matches!(plain.components().next_back(), Some(Component::Normal(_)));
        if back {
            plain.pop();
        } else {
            plain.push(component);
        }
        plain
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("scenarios/backup/../_steps/server.yaml", "scenarios/_steps/server.yaml")]
    #[case("../../scenarios/a.yaml", "../../scenarios/a.yaml")]
    #[case("/a/../b", "/b")]
    #[case("a/../../b", "../b")]
    fn steps_back_are_taken(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(plain(Path::new(path)), Path::new(expected));
    }
}
