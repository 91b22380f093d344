//! Text with placeholders, such as `--health-address=127.0.0.1:${healthPort}`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the harness fills in, by name, and what it means.
pub(super) const PLACEHOLDERS: [(&str, &str); 10] = [
    ("healthPort", "a free port for the health endpoint, on 127.0.0.1"),
    ("kubeconfig", "path of a kubeconfig that acts as the service account"),
    ("logLevel", "error, warn, info, debug or trace"),
    ("metricsPort", "a free port for metrics, on 127.0.0.1"),
    ("namespace", "namespace of the service account"),
    ("operatorRepository", "the operator's image in a cluster, without its tag"),
    ("operatorTag", "the tag of the operator's image in a cluster"),
    ("targetDirectory", "where cargo puts what it builds: CARGO_TARGET_DIR, else `target` in the directory"),
    ("webhookCertificates", "directory with the `tls.crt` and `tls.key` that the webhook is to show"),
    ("webhookPort", "the port on which the webhook is to listen, on 127.0.0.1"),
];

/// Text in which `${name}` stands for a value that the harness gives. Only known names are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Template(String);

/// Values of the placeholders, by name.
pub type Values = BTreeMap<&'static str, String>;

/// A placeholder that nobody fills in.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// No such name.
    #[error("unknown placeholder `${{{name}}}`{}; known are: {}", hint(.name), known())]
    Unknown {
        /// What stands there.
        name: String,
    },
    /// `${` without `}`.
    #[error("`${{` without `}}` in {0:?}")]
    Open(String),
}

fn known() -> String {
    PLACEHOLDERS.map(|(name, _)| name).join(", ")
}

fn hint(name: &str) -> String {
    let closest = PLACEHOLDERS.iter().map(|(known, _)| (strsim::damerau_levenshtein(name, known), known)).min();
    match closest {
        Some((distance, known)) if distance <= 3 => format!(", did you mean `${{{known}}}`?"),
        _ => String::new(),
    }
}

impl Template {
    /// The text with every placeholder replaced; one without a value becomes empty.
    pub fn render(&self, values: &Values) -> String {
        let mut rendered = String::new();
        // The text was checked when the template was made: it cannot fail here.
        let _ = walk(&self.0, &mut |part| {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Placeholder(name) => rendered.push_str(values.get(name).map_or("", String::as_str)),
            }
            Ok(())
        });
        rendered
    }
}

/// Renders every text in a value.
///
/// # Errors
/// One of them has a placeholder that nobody knows.
pub(super) fn render_all(value: &serde_json::Value, values: &Values) -> Result<serde_json::Value, TemplateError> {
    use serde_json::Value;
    Ok(match value {
        Value::String(text) => Value::String(Template::try_from(text.clone())?.render(values)),
        Value::Array(list) => Value::Array(list.iter().map(|each| render_all(each, values)).collect::<Result<_, _>>()?),
        Value::Object(object) => {
            let each = |(key, value): (&String, &Value)| Ok((key.clone(), render_all(value, values)?));
            Value::Object(object.iter().map(each).collect::<Result<_, TemplateError>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

enum Part<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

fn walk<'a>(
    mut text: &'a str,
    visit: &mut impl FnMut(Part<'a>) -> Result<(), TemplateError>,
) -> Result<(), TemplateError> {
    while let Some((before, rest)) = text.split_once("${") {
        let (name, after) = rest.split_once('}').ok_or_else(|| TemplateError::Open(text.to_owned()))?;
        visit(Part::Text(before))?;
        visit(Part::Placeholder(name))?;
        text = after;
    }
    visit(Part::Text(text))
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        walk(&text, &mut |part| match part {
            Part::Placeholder(name) if !PLACEHOLDERS.iter().any(|(known, _)| *known == name) => {
                Err(TemplateError::Unknown { name: name.to_owned() })
            }
            Part::Placeholder(_) | Part::Text(_) => Ok(()),
        })?;
        Ok(Self(text))
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("plain", "plain")]
    #[case("--port=${healthPort}", "--port=8081")]
    #[case("${namespace}/${healthPort}/", "system/8081/")]
    #[case("${kubeconfig}", "")]
    fn placeholders_are_replaced(#[case] text: &str, #[case] expected: &str) {
        let values = Values::from([("healthPort", "8081".to_owned()), ("namespace", "system".to_owned())]);
        assert_eq!(Template::try_from(text.to_owned()).unwrap().render(&values), expected);
    }

    #[test]
    fn texts_are_rendered_wherever_they_stand() {
        let value =
            serde_json::json!({ "image": { "tag": "${operatorTag}", "list": ["${operatorTag}", 1] }, "on": true });
        let values = Values::from([("operatorTag", "7".to_owned())]);
        let expected = serde_json::json!({ "image": { "tag": "7", "list": ["7", 1] }, "on": true });
        assert_eq!(render_all(&value, &values).unwrap(), expected);
    }

    #[rstest::rstest]
    #[case("${healthport}", "did you mean `${healthPort}`?")]
    #[case("${nothing-like-it}", "unknown placeholder `${nothing-like-it}`; known are")]
    #[case("${healthPort", "without `}`")]
    fn what_cannot_be_filled_in_is_refused(#[case] text: &str, #[case] message: &str) {
        let error = Template::try_from(text.to_owned()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
