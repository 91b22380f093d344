//! Text to scenario. What serde finds wrong becomes a [`Diagnostic`].

use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_yaml::{Error, Location, Options, budget::BudgetBreach};

use super::diagnostic::{Diagnostic, Source};
use super::nearest::nearest;
use super::node::{self, Node};
use super::types::{Operation, Scenario, StepTemplate};

/// A scenario and the tree of its text.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) scenario: Scenario,
    pub(crate) source: Source,
    pub(crate) node: Node,
}

/// Reads a scenario. Everything that only its words and types can tell is checked here; the rest by `lint`.
pub(crate) fn parse(source: &Source) -> Result<Parsed, Diagnostic> {
    let node: Node = read(source)?;
    let mut scenario: Scenario = read(source)?;
    place(&mut scenario, &node, source);
    Ok(Parsed { scenario, source: source.clone(), node })
}

/// Reads one YAML document.
pub(crate) fn read<T: DeserializeOwned>(source: &Source) -> Result<T, Diagnostic> {
    serde_yaml::from_str_with_options(source.text(), options()).map_err(|error| explain(source, &error))
}

/// Reads all YAML documents of a file, without the empty ones.
pub(crate) fn read_all<T: DeserializeOwned>(source: &Source) -> Result<Vec<T>, Diagnostic> {
    serde_yaml::from_multiple_with_options(source.text(), options()).map_err(|error| explain(source, &error))
}

/// Far above any scenario, far below what would take a noticeable time or stack.
fn options() -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_events: 100_000,
            max_nodes: 50_000,
            max_depth: 48,
            max_aliases: 500,
            max_anchors: 200,
            max_merge_keys: 200,
            max_documents: 100,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        with_snippet: false,
    }
}

/// Reads a template, and tells its operations that they stand there.
pub(crate) fn template(source: &Source) -> Result<(StepTemplate, Node), Diagnostic> {
    let node: Node = read(source)?;
    let mut template: StepTemplate = read(source)?;
    let file: Arc<str> = source.name().into();
    let StepTemplate { r#try, catch, finally, .. } = &mut template;
    for (operations, key) in [(r#try, "try"), (catch, "catch"), (finally, "finally")] {
        place_operations(operations, node.list(key), source);
        for operation in operations {
            operation.file = Some(Arc::clone(&file));
        }
    }
    Ok((template, node))
}

fn place_operations(operations: &mut [Operation], nodes: &[Node], source: &Source) {
    for (operation, node) in operations.iter_mut().zip(nodes) {
        operation.at = source.position(node.entries().first().map_or(node.span.start, |(key, _)| key.span.start));
    }
}

fn place(scenario: &mut Scenario, node: &Node, source: &Source) {
    let all = |operations: &mut [Operation], nodes: &[Node]| place_operations(operations, nodes, source);
    for (step, node) in scenario.steps.iter_mut().zip(node.list("steps")) {
        all(&mut step.r#try, node.list("try"));
        all(&mut step.catch, node.list("catch"));
        all(&mut step.finally, node.list("finally"));
    }
    all(&mut scenario.catch, node.list("catch"));
    all(&mut scenario.finally, node.list("finally"));
}

fn explain(source: &Source, error: &Error) -> Diagnostic {
    let error = match error.without_snippet() {
        Error::AliasError { error, .. } => error.without_snippet(),
        error => error,
    };
    let mut span = error.location().map_or(0..0, |location| span(source, location));
    if let Error::SerdeUnknownVariant { variant, .. } = error {
        // The place of a word that a type refused by itself is that of the key before it.
        if let Some(found) = source.text()[span.start..].find(variant.as_str()) {
            span = span.start + found..span.start + found + variant.len();
        }
    }
    let say = |message: String| Diagnostic::new(source, span.clone(), message);
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            say(format!("unknown field `{field}`")).help(suggestion(field, expected, "a field here is one of"))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } if expected.contains(&"guard") => {
            let help = match variant.as_str() {
                "sleep" => "there is no sleep: `assert` or `wait` for what must happen, and put `guard` … `release` around what must not".to_owned(),
                _ => suggestion(variant, expected, "an operation is one of"),
            };
            say(format!("unknown operation `{variant}`")).help(help)
        }
        Error::SerdeUnknownVariant { variant, expected, .. } if expected.contains(&"databaseReady") => say(format!(
            "unknown timeout `{variant}`"
        ))
        .help(suggestion(variant, expected, "a timeout is a duration such as 30s, or one of")),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            say(format!("unknown word `{variant}`")).help(suggestion(variant, expected, "one of"))
        }
        Error::SerdeMissingField { field, .. } => say(format!("the field `{field}` is missing")),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            say(format!("the key `{key}` stands here twice")).help("remove one of the two")
        }
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            say(format!("expected {expected}, found {unexpected}"))
        }
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            say("a second key, where there can be only one".to_owned())
                .help("for another operation begin an entry of its own with `- `")
        }
        Error::MultipleDocuments { .. } => {
            say("a second document begins here".to_owned()).help("a file holds one scenario")
        }
        Error::InvalidBooleanStrict { .. } => say("expected true or false".to_owned()),
        Error::InvalidScalar { ty, .. } => say(format!("expected a number ({ty})")),
        Error::Eof { .. } if source.text().trim().is_empty() => say("the file is empty".to_owned()),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => say("this is nested too deeply".to_owned()),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => {
            say("the file is too large, or grows too large by what its anchors repeat".to_owned())
                .help("no scenario needs that; write out what its anchors (`&`, `*`) repeat")
        }
        error => say(plain(error)),
    }
}

fn suggestion(word: &str, words: &[&'static str], otherwise: &str) -> String {
    match nearest(word, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{otherwise}: {}", words.join(", ")),
    }
}

/// The message without the place, which is said in another way.
fn plain(error: &Error) -> String {
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    first.split(" at line ").next().unwrap_or_default().to_owned()
}

/// The bytes of a place; at least the word that begins there.
fn span(source: &Source, location: Location) -> Range<usize> {
    let at = || source.offset(location.line(), location.column());
    let Range { start, end } = node::bytes(location).unwrap_or_else(|| at()..at());
    let start = start.min(source.text().len());
    let rest = &source.text()[source.text().floor_char_boundary(start)..];
    let word = rest.find(|c: char| c.is_whitespace() || ":,]}".contains(c)).unwrap_or(rest.len());
    start..end.max(start + word)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::diagnostic::render;

    /// What a person sees of each bad file that the reader itself refuses. (`lint` refuses the others.)
    #[rstest]
    fn refuses(#[files("src/scenario/gallery/*.yaml")] path: std::path::PathBuf) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = Source::new(format!("scenarios/{name}.yaml"), std::fs::read_to_string(&path).unwrap());
        let diagnostic = parse(&source).unwrap_err();
        insta::with_settings!({ snapshot_path => "gallery/seen", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, render(&[diagnostic], 100, false));
        });
    }
}
