//! A status counts only when it was made for the object's current generation.

use serde_json::{Value, json};

use super::{Mismatch, Pattern};

/// What in `object` was made for an older generation, among that which `pattern` asks for: the whole status when it says
/// so of itself, and each condition that does. What does not say for which generation it was made is taken as it is.
pub fn stale(pattern: &Pattern, object: &Value) -> Vec<Mismatch> {
    let Some(current) = object["metadata"]["generation"].as_i64() else {
        return Vec::new();
    };
    let old = |path: String, made_for: &Value| {
        let made_for = made_for.as_i64().filter(|generation| *generation != current)?;
        let expected = format!("{current} (the current generation)");
        Some(Mismatch { path, expected, actual: Some(json!(made_for)), undecided: false })
    };
    if pattern.field(&["status"]).is_none() {
        return Vec::new();
    }
    let status = &object["status"];
    let mut found: Vec<Mismatch> =
        old("status.observedGeneration".to_owned(), &status["observedGeneration"]).into_iter().collect();
    if let Some(Pattern::List(wanted)) = pattern.field(&["status", "conditions"]) {
        let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        for name in wanted.iter().filter_map(|condition| condition.value(&["type"])?.as_str()) {
            let Some(condition) = conditions.iter().find(|condition| condition["type"] == name) else { continue };
            let path = format!("status.conditions[type={name}].observedGeneration");
            found.extend(old(path, &condition["observedGeneration"]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn object(status: Option<i64>, condition: Option<i64>) -> Value {
        json!({
            "metadata": {"generation": 3},
            "status": {
                "observedGeneration": status,
                "conditions": [{"type": "Ready", "status": "True", "observedGeneration": condition}, {"type": "Old", "observedGeneration": 1}],
            },
        })
    }

    fn pattern() -> Pattern {
        Pattern::literal(&json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
    }

    #[rstest]
    #[case::current(Some(3), Some(3), &[])]
    #[case::silent(None, None, &[])]
    #[case::old_condition(Some(3), Some(2), &["status.conditions[type=Ready].observedGeneration: expected 3 (the current generation), got 2"])]
    #[case::old_status(Some(2), None, &["status.observedGeneration: expected 3 (the current generation), got 2"])]
    fn only_the_current_generation_counts(
        #[case] status: Option<i64>,
        #[case] condition: Option<i64>,
        #[case] expected: &[&str],
    ) {
        let found: Vec<String> =
            stale(&pattern(), &object(status, condition)).iter().map(Mismatch::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_pattern_without_status_is_about_no_generation() {
        let pattern = Pattern::literal(&json!({"spec": {}}));
        assert!(stale(&pattern, &object(Some(1), Some(1))).is_empty());
    }
}
