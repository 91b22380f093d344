//! Patterns: what an object (or a row, a JSON body, an output) must look like.
//!
//! A map asks only for the fields that it names, and `null` for a field's absence. A list asks for each of its entries,
//! in any order: an entry that is a map is looked up by the first of [`MERGE_KEYS`] that it holds, any other by
//! equality. A string that is wholly an expression is the expected value, or, when it mentions `self`, a condition on
//! the value that is there.

mod generation;
mod matching;

use std::sync::Arc;

use serde_json::Value;

use super::expression::{Bindings, Compiled, ExpressionError, SELF, Template, resolved};

pub use generation::stale;
pub use matching::Mismatch;

/// The keys by which entries of lists are looked up, the first that the pattern's entry holds. They are the merge keys
/// of the Kubernetes API; where that merges by another one, `name` is unique as well.
pub const MERGE_KEYS: [&str; 8] =
    ["name", "type", "key", "metadata.name", "containerPort", "port", "mountPath", "kind"];

/// A pattern whose expressions have been evaluated, but for those on the judged value itself.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Null or not there.
    Absent,
    /// This string, number or boolean.
    Value(Value),
    /// A condition.
    Predicate(Predicate),
    /// Each of these is an entry of the list.
    List(Vec<Pattern>),
    /// Each of these is a field of the map.
    Object(Vec<(String, Pattern)>),
}

/// A condition on the value that is there.
#[derive(Clone, Debug)]
pub struct Predicate {
    compiled: Arc<Compiled>,
    bindings: Bindings,
}

impl Predicate {
    /// Whether it holds for `actual`; null when there is nothing. An expression that fails does not hold.
    pub fn holds(&self, actual: &Value) -> Result<bool, String> {
        match self.compiled.evaluate(&self.bindings, Some(actual))? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("it must give true or false, and gives {other}")),
        }
    }

    /// The expression.
    pub fn source(&self) -> &str {
        self.compiled.source()
    }
}

impl Pattern {
    /// The pattern that stands in a scenario file, with `bindings` in place of its expressions.
    ///
    /// # Errors
    /// As for [`super::expression::evaluate`].
    pub fn resolve(template: &Value, bindings: &Bindings) -> Result<Self, ExpressionError> {
        Self::at(template, bindings, "")
    }

    fn at(template: &Value, bindings: &Bindings, path: &str) -> Result<Self, ExpressionError> {
        Ok(match template {
            Value::String(text) => Self::string(text, bindings, path)?,
            Value::Array(list) => {
                let entries = list.iter().enumerate();
                Self::List(
                    entries
                        .map(|(i, value)| Self::at(value, bindings, &format!("{path}[{i}]")))
                        .collect::<Result<_, _>>()?,
                )
            }
            Value::Object(object) => {
                let field = |(key, value): (&String, &Value)| {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    Ok((key.clone(), Self::at(value, bindings, &path)?))
                };
                Self::Object(object.iter().map(field).collect::<Result<_, _>>()?)
            }
            other => Self::literal(other),
        })
    }

    fn string(text: &str, bindings: &Bindings, path: &str) -> Result<Self, ExpressionError> {
        let failed = |expression: &str, problem: String| ExpressionError {
            path: path.to_owned(),
            expression: expression.to_owned(),
            problem,
        };
        let template = Template::parse(text).map_err(|unclosed| failed(text, unclosed.to_string()))?;
        if let Template::Expression(piece) = &template {
            let compiled = Compiled::new(piece.source).map_err(|error| failed(piece.source, error.to_string()))?;
            if compiled.variables().contains(SELF) {
                return Ok(Self::Predicate(Predicate { compiled: Arc::new(compiled), bindings: bindings.clone() }));
            }
        }
        Ok(Self::literal(&resolved(&template, bindings, path)?))
    }

    /// A pattern without expressions: what an expression gave is never read as one again.
    pub fn literal(value: &Value) -> Self {
        match value {
            Value::Null => Self::Absent,
            Value::Array(list) => Self::List(list.iter().map(Self::literal).collect()),
            Value::Object(object) => {
                Self::Object(object.iter().map(|(key, value)| (key.clone(), Self::literal(value))).collect())
            }
            scalar => Self::Value(scalar.clone()),
        }
    }

    /// The part of the pattern at a path of field names.
    pub fn field(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |pattern, name| match pattern {
            Self::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        })
    }

    /// The string, number or boolean at a path of field names, when the pattern says it.
    pub fn value(&self, path: &[&str]) -> Option<&Value> {
        match self.field(path) {
            Some(Self::Value(value)) => Some(value),
            _ => None,
        }
    }
}
