//! Expressions: whether they compile, and whether the names in them are known there.

use std::ops::Range;

use crate::scenario::expression::{self, INDEX, RESULT, SELF, Scope};
use crate::scenario::node::{Node, NodeKind};

use super::Problems;

/// The names that every expression may use.
pub(super) const BUILT_IN: [&str; 3] = ["env", "namespace", "scenario"];

/// Words that CEL keeps for itself.
const RESERVED: [&str; 22] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
    "env",
];

/// Which strings of an operation are expressions, and of what kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Never: a name, a statement, a sentence.
    Literal,
    /// Values are put in.
    Template,
    /// As before, and `self` is the judged value.
    Pattern,
}

fn mode(operation: &str, field: &str) -> Mode {
    match (operation, field) {
        (_, "description" | "timeout" | "file")
        | ("guard" | "fault", "name")
        | ("sql", "query")
        | ("script", "content") => Mode::Literal,
        ("assert" | "error", "resource")
        | ("guard", "never" | "holds")
        | ("sql", "expect")
        | ("script", "stdout")
        | ("http", "body") => Mode::Pattern,
        _ => Mode::Template,
    }
}

/// Checks one operation and adds its outputs to the scope.
pub(super) fn operation(word: &str, node: &Node, scope: &mut Scope, problems: &mut Problems) {
    if word == "release" {
        return;
    }
    for (key, value) in node.entries() {
        match (key.text.as_str(), mode(word, &key.text)) {
            ("env", _) if word == "script" => {
                value.items().iter().filter_map(|item| item.get("value")).for_each(|item| check(item, scope, problems));
            }
            ("outputs", _) | (_, Mode::Literal) => {}
            ("resource" | "ref" | "merge" | "json", Mode::Template) if node.get("times").is_some() => {
                check(value, &scope.with(INDEX), problems);
            }
            (_, Mode::Template) => check(value, scope, problems),
            (_, Mode::Pattern) => check(value, &scope.in_pattern(), problems),
        }
    }
    for output in node.list("outputs") {
        if let Some(value) = output.get("value") {
            check(value, &scope.with(RESULT), problems);
        }
        define(output, scope, problems);
    }
}

/// Checks bindings and adds them to the scope. Returns the names that it added.
pub(super) fn bindings(nodes: &[Node], scope: &mut Scope, problems: &mut Problems) -> Vec<String> {
    let mut added = Vec::new();
    for node in nodes {
        if let Some(value) = node.get("value") {
            check(value, scope, problems);
        }
        added.extend(define(node, scope, problems));
    }
    added
}

fn define(node: &Node, scope: &mut Scope, problems: &mut Problems) -> Option<String> {
    let node = node.get("name")?;
    let name = node.text()?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let help = "a name has letters, digits and `_`, and does not begin with a digit".to_owned();
        problems.add(&node.span, format!("`{name}` cannot be a name in expressions"), help);
    } else if RESERVED.contains(&name) || [SELF, RESULT, INDEX].contains(&name) {
        problems.add(&node.span, format!("the name `{name}` is taken by the language"), None);
    } else if scope.knows(name) {
        problems.add(&node.span, format!("`{name}` is bound already"), "choose another name".to_owned());
    } else {
        scope.add(name);
        return Some(name.to_owned());
    }
    None
}

/// Checks every string below `node`.
pub(super) fn check(node: &Node, scope: &Scope, problems: &mut Problems) {
    match &node.kind {
        NodeKind::Text(text) => {
            for problem in expression::check(text, scope) {
                let span = place(problems.source.text(), &node.span, text, problem.offset, problem.length);
                problems.add(&span, problem.message, problem.help);
            }
        }
        NodeKind::List(items) => items.iter().for_each(|item| check(item, scope, problems)),
        NodeKind::Map(entries) => entries.iter().for_each(|(_, value)| check(value, scope, problems)),
        NodeKind::Other => {}
    }
}

/// The place in the file of a place in a string. Quotes, escapes and folding move text about; so the string itself is
/// looked for in the file, and where it does not stand as it is, the whole of it is meant.
fn place(file: &str, span: &Range<usize>, text: &str, offset: usize, length: usize) -> Range<usize> {
    let raw = &file[span.clone()];
    if let Some(found) = raw.find(text) {
        let start = span.start + found + offset;
        return start..start + length;
    }
    let word = text.get(offset..offset + length).filter(|word| !word.is_empty());
    match word.and_then(|word| raw.find(word)) {
        Some(found) => span.start + found..span.start + found + length,
        None => span.clone(),
    }
}
