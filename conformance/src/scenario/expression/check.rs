//! Finds what is wrong with expressions before anything runs.

use std::collections::BTreeSet;

use super::SELF;
use super::cel::Compiled;
use super::template::Template;
use crate::scenario::nearest::nearest;

/// Which names an expression may use at a place.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    names: BTreeSet<String>,
    /// Whether `self` stands for something: only in patterns.
    pattern: bool,
}

/// Something wrong with the expressions of a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The byte in the string where it begins.
    pub offset: usize,
    /// How many bytes it is long.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to do, when that can be guessed.
    pub help: Option<String>,
}

impl Scope {
    /// A scope with these names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), pattern: false }
    }

    /// Adds a name.
    pub fn add(&mut self, name: impl Into<String>) {
        self.names.insert(name.into());
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Whether a name is known.
    pub fn knows(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The same scope with `name` in addition.
    #[must_use]
    pub fn with(&self, name: &str) -> Self {
        let mut scope = self.clone();
        scope.add(name);
        scope
    }

    /// The same scope inside a pattern, where `self` is the judged value.
    #[must_use]
    pub fn in_pattern(&self) -> Self {
        Self { pattern: true, ..self.clone() }
    }
}

/// Everything that is wrong with the expressions of `text` in `scope`.
pub fn check(text: &str, scope: &Scope) -> Vec<Problem> {
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(unclosed) => {
            let (offset, length) = (unclosed.offset, text.len() - unclosed.offset);
            return vec![Problem { offset, length, message: unclosed.to_string(), help: None }];
        }
    };
    let whole = matches!(template, Template::Expression(_));
    let mut problems = Vec::new();
    for piece in template.pieces() {
        let compiled = match Compiled::new(piece.source) {
            Ok(compiled) => compiled,
            Err(error) => {
                let offset = piece.offset + error.offset;
                problems.push(Problem { offset, length: 1, message: format!("bad CEL: {error}"), help: None });
                continue;
            }
        };
        let mut report = |name: &str, message: String, help: Option<String>| {
            let offset = piece.offset + position(piece.source, name);
            problems.push(Problem { offset, length: name.len(), message, help });
        };
        for name in compiled.variables() {
            if name == SELF {
                if !scope.pattern {
                    let help = "`self` is the judged value and stands only in patterns (assert, error, guard, expect)";
                    report(name, "`self` means nothing here".to_owned(), Some(help.to_owned()));
                } else if !whole {
                    let help = "compare inside of the expression: `${self.startsWith(…)}`";
                    report(name, "`self` cannot be mixed with text".to_owned(), Some(help.to_owned()));
                }
            } else if !scope.names.contains(name) {
                let known = || scope.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let help = nearest(name, scope.names.iter().map(String::as_str))
                    .map_or_else(|| format!("known here: {}", known()), |near| format!("did you mean `{near}`?"));
                report(name, format!("unknown binding `{name}`"), Some(help));
            }
        }
        for name in compiled.unknown_functions() {
            let help = nearest(name, FUNCTIONS).map(|near| format!("did you mean `{near}`?"));
            report(name, format!("unknown function `{name}`"), help);
        }
    }
    problems
}

/// The functions that are worth suggesting.
const FUNCTIONS: [&str; 30] = [
    "all",
    "base64.decode",
    "base64.encode",
    "contains",
    "double",
    "duration",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "find",
    "findAll",
    "has",
    "indexOf",
    "int",
    "isSorted",
    "join",
    "lowerAscii",
    "map",
    "matches",
    "quantity",
    "replace",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "timestamp",
    "trim",
    "upperAscii",
];

/// Where `name` stands in the expression as a word of its own, outside of quotes.
fn position(source: &str, name: &str) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in source.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if source[at..].starts_with(name) && !word(before) && !source[at + name.len()..].starts_with(word) => {
                return at;
            }
            _ => {}
        }
        before = c;
    }
    0
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn shown(text: &str, scope: &Scope) -> Vec<String> {
        let show = |p: Problem| {
            format!("{} | {} | {}", &text[p.offset..p.offset + p.length], p.message, p.help.unwrap_or_default())
        };
        check(text, scope).into_iter().map(show).collect()
    }

    #[rstest]
    #[case("x-${namespace}", &[])]
    #[case("${'namespce' + namespce}", &["namespce | unknown binding `namespce` | did you mean `namespace`?"])]
    #[case("${zzz}", &["zzz | unknown binding `zzz` | known here: env, namespace"])]
    #[case("${env.s3.size( }", &["} | bad CEL"])]
    #[case("${namespace.startWith('a')}", &["startWith | unknown function `startWith` | did you mean `startsWith`?"])]
    #[case("${self > 1}", &["self | `self` means nothing here"])]
    #[case("a ${b", &["${b | `${` has no closing"])]
    fn says_what_is_wrong_where(#[case] text: &str, #[case] expected: &[&str]) {
        let found = shown(text, &Scope::new(["env", "namespace"]));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            if expected.starts_with("} |") {
                assert!(found.contains("bad CEL"), "{found}");
            } else {
                assert!(found.starts_with(expected), "{found}");
            }
        }
    }

    #[test]
    fn self_is_known_in_patterns_when_it_is_the_whole_value() {
        let scope = Scope::new(["env"]).in_pattern();
        assert!(check("${self > 1}", &scope).is_empty());
        assert_eq!(shown("a ${self}", &scope).len(), 1);
    }
}
