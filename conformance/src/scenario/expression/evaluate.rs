//! Replaces the expressions in a value by what they give.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Bindings;
use super::cel::Compiled;
use super::template::{Part, Piece, Template};

/// An expression that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`${{{expression}}}`{}: {problem}", place(path))]
pub struct ExpressionError {
    /// Where in the value it stands, such as `spec.containers[0].image`; empty for the value itself.
    pub path: String,
    /// The expression, without `${` and `}`.
    pub expression: String,
    /// What is wrong.
    pub problem: String,
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at {path}") }
}

/// `template` with all its expressions replaced.
///
/// # Errors
/// An expression is malformed, refers to something that is not there, or gives what cannot stand where it stands.
pub fn evaluate(template: &Value, bindings: &Bindings) -> Result<Value, ExpressionError> {
    walk(template, bindings, "")
}

/// A string with all its expressions replaced, as text.
///
/// # Errors
/// As for [`evaluate`]; also when the result is a list, a map or null.
pub fn evaluate_text(template: &str, bindings: &Bindings) -> Result<String, ExpressionError> {
    let value = string(template, bindings, "")?;
    text_of(&value).ok_or_else(|| ExpressionError {
        path: String::new(),
        expression: template.trim_start_matches("${").trim_end_matches('}').to_owned(),
        problem: not_text(&value),
    })
}

/// `template`, a type whose strings hold expressions, with all of them replaced.
///
/// # Errors
/// As for [`evaluate`]; also when the result does not fit the type (its `expression` is then empty).
pub fn evaluate_as<T: Serialize + DeserializeOwned>(template: &T, bindings: &Bindings) -> Result<T, ExpressionError> {
    let unfit = |error: serde_json::Error| ExpressionError {
        path: String::new(),
        expression: String::new(),
        problem: error.to_string(),
    };
    let value = serde_json::to_value(template).map_err(unfit)?;
    serde_json::from_value(evaluate(&value, bindings)?).map_err(unfit)
}

fn walk(template: &Value, bindings: &Bindings, path: &str) -> Result<Value, ExpressionError> {
    Ok(match template {
        Value::String(text) => string(text, bindings, path)?,
        Value::Array(list) => {
            let entries = list.iter().enumerate();
            entries
                .map(|(index, value)| walk(value, bindings, &format!("{path}[{index}]")))
                .collect::<Result<_, _>>()?
        }
        Value::Object(object) => {
            let field = |(key, value): (&String, &Value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                Ok((key.clone(), walk(value, bindings, &path)?))
            };
            Value::Object(object.iter().map(field).collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}

fn string(text: &str, bindings: &Bindings, path: &str) -> Result<Value, ExpressionError> {
    let template = Template::parse(text).map_err(|unclosed| ExpressionError {
        path: path.to_owned(),
        expression: text.to_owned(),
        problem: unclosed.to_string(),
    })?;
    resolved(&template, bindings, path)
}

/// The value of a string that was taken apart already.
pub(crate) fn resolved(template: &Template<'_>, bindings: &Bindings, path: &str) -> Result<Value, ExpressionError> {
    let value = |piece: &Piece<'_>| {
        let failed = |problem| ExpressionError { path: path.to_owned(), expression: piece.source.to_owned(), problem };
        let compiled = Compiled::new(piece.source).map_err(|error| failed(error.message))?;
        compiled.evaluate(bindings, None).map_err(failed)
    };
    match template {
        Template::Expression(piece) => value(piece),
        Template::Text(parts) => {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Literal(literal) => text.push_str(literal),
                    Part::Expression(piece) => {
                        let value = value(piece)?;
                        text.push_str(&text_of(&value).ok_or_else(|| ExpressionError {
                            path: path.to_owned(),
                            expression: piece.source.to_owned(),
                            problem: not_text(&value),
                        })?);
                    }
                }
            }
            Ok(Value::String(text))
        }
    }
}

/// How a value stands inside text; `None` when it cannot.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn not_text(value: &Value) -> String {
    let what = match value {
        Value::Null => "null",
        Value::Array(_) => "a list",
        _ => "a map",
    };
    format!("it gives {what}, which cannot stand in text")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn bindings() -> Bindings {
        [("namespace", json!("ns-1")), ("n", json!(2)), ("o", json!({"k": [1]}))].into_iter().collect()
    }

    #[test]
    fn a_whole_expression_keeps_its_type_and_one_in_text_does_not() {
        let template = json!({"a": "${n}", "b": "x-${n}-${namespace}", "c": ["${o.k}", "$${n}", 5, null], "${n}": 1});
        let expected = json!({"a": 2, "b": "x-2-ns-1", "c": [[1], "${n}", 5, null], "${n}": 1});
        assert_eq!(evaluate(&template, &bindings()), Ok(expected));
    }

    #[rstest]
    #[case(json!({"spec": {"list": [1, "${missing}"]}}), "`${missing}` at spec.list[1]: `missing` is not known here")]
    #[case(json!("x ${o}"), "`${o}`: it gives a map, which cannot stand in text")]
    #[case(json!("${n +}"), "`${n +}`: ")]
    fn an_error_says_where_and_what(#[case] template: Value, #[case] beginning: &str) {
        let error = evaluate(&template, &bindings()).unwrap_err().to_string();
        assert!(error.starts_with(beginning), "{error}");
    }

    #[test]
    fn a_text_may_come_from_a_number_but_not_from_a_list() {
        assert_eq!(evaluate_text("${n}", &bindings()).as_deref(), Ok("2"));
        let error = evaluate_text("${o.k}", &bindings()).unwrap_err();
        assert_eq!(error.to_string(), "`${o.k}`: it gives a list, which cannot stand in text");
    }
}
