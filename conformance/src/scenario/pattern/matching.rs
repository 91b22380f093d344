//! Compares a pattern with a value and says every difference.

use serde_json::Value;

use super::{MERGE_KEYS, Pattern};

/// One difference between a pattern and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// Where, such as `status.conditions[type=Ready].status`; empty for the value itself.
    pub path: String,
    /// What the pattern asks for.
    pub expected: String,
    /// What is there; `None` for nothing.
    pub actual: Option<Value>,
    /// Whether the expression failed on what is there, so that nobody knows whether it matches.
    pub undecided: bool,
}

impl Mismatch {
    /// Whether `found` is all that keeps a value from matching, and none of it is certain. Whoever demands that nothing
    /// matches must not take that for a no.
    pub fn undecided(found: &[Self]) -> bool {
        !found.is_empty() && found.iter().all(|mismatch| mismatch.undecided)
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "." } else { &self.path };
        match &self.actual {
            Some(actual) => write!(f, "{path}: expected {}, got {actual}", self.expected),
            None => write!(f, "{path}: expected {}, got nothing", self.expected),
        }
    }
}

impl Pattern {
    /// Every difference between the pattern and `actual`; none when it matches.
    pub fn mismatches(&self, actual: Option<&Value>) -> Vec<Mismatch> {
        let mut found = Vec::new();
        self.compare(actual, "", &mut found);
        found
    }

    /// Whether it matches.
    pub fn matches(&self, actual: &Value) -> bool {
        self.mismatches(Some(actual)).is_empty()
    }

    fn compare(&self, actual: Option<&Value>, path: &str, found: &mut Vec<Mismatch>) {
        let actual = actual.filter(|value| !value.is_null());
        let mismatch =
            |expected| Mismatch { path: path.to_owned(), expected, actual: actual.cloned(), undecided: false };
        match self {
            Self::Absent => found.extend(actual.map(|_| mismatch("nothing".to_owned()))),
            Self::Value(expected) => {
                if !actual.is_some_and(|actual| same(expected, actual)) {
                    found.push(mismatch(expected.to_string()));
                }
            }
            Self::Predicate(predicate) => match predicate.holds(actual.unwrap_or(&Value::Null)) {
                Ok(true) => {}
                Ok(false) => found.push(mismatch(format!("`{}`", predicate.source()))),
                // Of nothing, an expression may fail: what is not there does not match.
                Err(problem) => found.push(Mismatch {
                    undecided: actual.is_some(),
                    ..mismatch(format!("`{}` ({problem})", predicate.source()))
                }),
            },
            Self::Object(fields) => match actual {
                Some(Value::Object(object)) => {
                    for (key, pattern) in fields {
                        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                        pattern.compare(object.get(key), &path, found);
                    }
                }
                // Fields that must be absent are absent from nothing as well.
                None if self.asks_for_nothing() => {}
                _ => found.push(mismatch(self.to_string())),
            },
            Self::List(patterns) => match actual {
                Some(Value::Array(list)) => {
                    for pattern in patterns {
                        pattern.compare_entry(list, path, found);
                    }
                }
                None if patterns.is_empty() => {}
                _ => found.push(mismatch(self.to_string())),
            },
        }
    }

    fn asks_for_nothing(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Object(fields) => !fields.is_empty() && fields.iter().all(|(_, pattern)| pattern.asks_for_nothing()),
            _ => false,
        }
    }

    fn compare_entry(&self, list: &[Value], path: &str, found: &mut Vec<Mismatch>) {
        let key = MERGE_KEYS.iter().find_map(|key| {
            let steps: Vec<&str> = key.split('.').collect();
            self.value(&steps).map(|value| (*key, steps, value))
        });
        let (path, candidates): (String, Vec<&Value>) = match &key {
            Some((key, steps, wanted)) => {
                let has = |entry: &&Value| same_at(entry, steps, wanted);
                (format!("{path}[{key}={}]", plain(wanted)), list.iter().filter(has).collect())
            }
            None => (format!("{path}[*]"), list.iter().collect()),
        };
        let compared = candidates.iter().map(|candidate| {
            let mut found = Vec::new();
            self.compare(Some(candidate), &path, &mut found);
            found
        });
        // An entry that nothing is near to is shown as a whole, else the differences to the nearest one.
        match compared.min_by_key(|found| (!found.is_empty() && !Mismatch::undecided(found), found.len())) {
            Some(nearest) if nearest.is_empty() => {}
            Some(nearest) if key.is_some() || Mismatch::undecided(&nearest) => found.extend(nearest),
            _ => found.push(Mismatch { path, expected: self.to_string(), actual: None, undecided: false }),
        }
    }
}

fn same_at(entry: &Value, steps: &[&str], wanted: &Value) -> bool {
    steps.iter().try_fold(entry, |value, step| value.get(step)).is_some_and(|value| same(value, wanted))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl std::fmt::Display for Pattern {
    /// The pattern in one line, as JSON with expressions in back quotes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("null"),
            Self::Value(value) => write!(f, "{value}"),
            Self::Predicate(predicate) => write!(f, "`{}`", predicate.source()),
            Self::List(patterns) => {
                let entries: Vec<String> = patterns.iter().map(Self::to_string).collect();
                write!(f, "[{}]", entries.join(", "))
            }
            Self::Object(fields) => {
                let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                write!(f, "{{{}}}", fields.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::Bindings;
    use super::*;

    fn differences(template: &Value, actual: &Value) -> Vec<String> {
        let bindings = Bindings::from_iter([("name", json!("demo"))]);
        let pattern = Pattern::resolve(template, &bindings).unwrap();
        pattern.mismatches(Some(actual)).iter().map(Mismatch::to_string).collect()
    }

    #[rstest]
    #[case::fields_that_are_not_named_may_be_anything(json!({"a": 1}), json!({"a": 1, "b": 2}), &[])]
    #[case::values_differ(json!({"a": {"b": 1}}), json!({"a": {"b": "1"}}), &[r#"a.b: expected 1, got "1""#])]
    #[case::an_integer_is_a_number(json!({"a": 1}), json!({"a": 1.0}), &[])]
    #[case::a_field_is_missing(json!({"a": {"b": 1}}), json!({}), &["a: expected {b: 1}, got nothing"])]
    #[case::null_means_absent(json!({"a": null, "b": null}), json!({"b": 1}), &["b: expected nothing, got 1"])]
    #[case::null_deeply(json!({"a": {"b": null}}), json!({}), &[])]
    #[case::an_empty_map_must_be_there(json!({"a": {}}), json!({}), &["a: expected {}, got nothing"])]
    #[case::expressions(json!({"a": "${name}-x", "b": "${self >= 2 && self < 9}"}), json!({"a": "demo-x", "b": 1}),
        &["b: expected `self >= 2 && self < 9`, got 1"])]
    #[case::a_predicate_sees_null_for_nothing(json!({"b": "${self == null || self == 1}"}), json!({}), &[])]
    #[case::a_predicate_must_give_a_boolean(json!({"b": "${self + 1}"}), json!({"b": 1}),
        &["b: expected `self + 1` (it must give true or false, and gives 2), got 1"])]
    #[case::entries_are_found_by_key_in_any_order(
        json!({"l": [{"name": "b", "v": 2}, {"name": "a", "v": 9}]}), json!({"l": [{"name": "a", "v": 1}, {"name": "b", "v": 2}]}),
        &["l[name=a].v: expected 9, got 1"])]
    #[case::an_entry_is_missing(
        json!({"l": [{"type": "Ready", "status": "True"}]}), json!({"l": [{"type": "Other"}]}),
        &[r#"l[type=Ready]: expected {type: "Ready", status: "True"}, got nothing"#])]
    #[case::templates_of_claims_have_a_nested_key(
        json!({"l": [{"metadata": {"name": "m"}, "spec": {"s": 2}}]}), json!({"l": [{"metadata": {"name": "m"}, "spec": {"s": 1}}]}),
        &["l[metadata.name=m].spec.s: expected 2, got 1"])]
    #[case::entries_of_the_same_key_are_all_tried(
        json!({"l": [{"name": "a", "v": 2}]}), json!({"l": [{"name": "a", "v": 1}, {"name": "a", "v": 2}]}), &[])]
    #[case::entries_without_a_key(json!({"l": [{"v": 2}, 5]}), json!({"l": [5, {"v": 2, "w": 1}]}), &[])]
    #[case::a_scalar_is_missing(json!({"l": [5]}), json!({"l": [4]}), &["l[*]: expected 5, got nothing"])]
    #[case::an_empty_list_asks_for_nothing(json!({"l": []}), json!({}), &[])]
    #[case::a_list_is_no_map(json!({"l": [1]}), json!({"l": {"a": 1}}), &[r#"l: expected [1], got {"a":1}"#])]
    fn says_every_difference(#[case] template: Value, #[case] actual: Value, #[case] expected: &[&str]) {
        assert_eq!(differences(&template, &actual), expected);
    }

    #[rstest]
    #[case::fails(json!({"a": "${self.startsWith('x')}"}), json!({"a": 2}), true)]
    #[case::fails_on_nothing(json!({"a": "${self.startsWith('x')}"}), json!({}), false)]
    #[case::matches(json!({"a": "${self == 1}"}), json!({"a": 1}), false)]
    #[case::differs_elsewhere(json!({"a": "${self.startsWith('x')}", "c": 1}), json!({"a": 2}), false)]
    #[case::in_an_entry(json!({"l": [{"v": "${self.startsWith('x')}"}]}), json!({"l": [{"v": 2}]}), true)]
    #[case::in_one_of_the_entries(json!({"l": [{"v": "${self.startsWith('x')}"}]}), json!({"l": [{}, {"v": 2}]}), true)]
    #[case::another_entry_matches(json!({"l": [{"v": "${self.startsWith('x')}"}]}), json!({"l": [{"v": 2}, {"v": "xy"}]}), false)]
    #[case::by_key(json!({"l": [{"name": "a", "v": "${self.startsWith('x')}"}]}), json!({"l": [{"name": "a", "v": 2}]}), true)]
    fn an_expression_that_fails_is_no_answer(#[case] template: Value, #[case] actual: Value, #[case] expected: bool) {
        let pattern = Pattern::resolve(&template, &Bindings::default()).unwrap();
        assert_eq!(Mismatch::undecided(&pattern.mismatches(Some(&actual))), expected);
    }
}
