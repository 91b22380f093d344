//! Which objects an operation is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::core::{Expression, Selector, SelectorExt as _};
use serde_json::Value;

use crate::engine::context::Context;
use crate::engine::trouble::{Failure, Subject};
use crate::engine::watch::{Feed, Kind, Record};
use crate::scenario::expression::evaluate_as;
use crate::scenario::operations::ObjectSelector;

/// One object by name, or several by label, in one watch.
pub(super) struct Selection {
    pub subject: Subject,
    pub feed: Arc<Feed>,
    labels: Selector,
}

impl Selection {
    /// Evaluates `selector` and opens the watch.
    pub fn of(selector: &ObjectSelector, context: &Context) -> Result<Self, Failure> {
        let ObjectSelector { api_version, kind, name, selector, namespace } = evaluate_as(selector, &context.bindings)?;
        let kind = Kind { api_version, kind };
        let feed = context.feed(&kind, namespace.as_deref());
        let labels = parse(selector.as_deref().unwrap_or_default())?;
        let namespace = Some(namespace.unwrap_or_else(|| context.namespace.clone()));
        Ok(Self { subject: Subject { kind, namespace, name }, feed, labels })
    }

    /// The objects that exist.
    pub fn existing(&self, record: &Record) -> Vec<Arc<Value>> {
        let objects = record.objects().iter().filter(|(key, _)| self.subject.matches(key));
        objects.map(|(_, object)| object.clone()).filter(|object| self.labels.matches(&labels(object))).collect()
    }
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// Reads the equality-based part of Kubernetes' selectors: `a=b`, `a!=b`, `a`, `!a`, joined by commas.
fn parse(text: &str) -> Result<Selector, Failure> {
    let requirement = |part: &str| {
        let part = part.trim();
        let pair =
            |at: usize, operator: &str| (part[..at].trim().to_owned(), part[at + operator.len()..].trim().to_owned());
        if let Some(at) = part.find("!=") {
            let (key, value) = pair(at, "!=");
            Expression::NotEqual(key, value)
        } else if let Some(at) = part.find("==") {
            let (key, value) = pair(at, "==");
            Expression::Equal(key, value)
        } else if let Some(at) = part.find('=') {
            let (key, value) = pair(at, "=");
            Expression::Equal(key, value)
        } else if let Some(key) = part.strip_prefix('!') {
            Expression::DoesNotExist(key.to_owned())
        } else {
            Expression::Exists(part.to_owned())
        }
    };
    if text.contains('(') {
        return Err(Failure::new(format!("label selector `{text}`: only =, !=, `key` and `!key` are supported")));
    }
    Ok(text.split(',').filter(|part| !part.trim().is_empty()).map(requirement).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("", true)]
    #[case("app=a", true)]
    #[case("app==a, tier!=b", true)]
    #[case("app,!tier", true)]
    #[case("app=b", false)]
    #[case("!app", false)]
    fn labels_are_selected(#[case] selector: &str, #[case] matches: bool) {
        let object = json!({"metadata": {"labels": {"app": "a"}}});
        assert_eq!(parse(selector).unwrap().matches(&labels(&object)), matches);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        assert!(parse("app in (a, b)").is_err());
    }
}
