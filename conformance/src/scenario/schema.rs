//! The JSON schema of the language, for editors and for other tools.

/// The schema of a scenario, as it stands in `scenarios/schema.json`.
pub fn schema() -> String {
    text(&schemars::schema_for!(super::Scenario))
}

/// The schema of a step template, as it stands in `scenarios/step-template.schema.json`.
pub fn template_schema() -> String {
    text(&schemars::schema_for!(super::types::StepTemplate))
}

fn text(schema: &schemars::Schema) -> String {
    // A schema is a JSON value: writing it cannot fail.
    let text = serde_json::to_string_pretty(schema).unwrap_or_default();
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("schema.json", schema())]
    #[case("step-template.schema.json", template_schema())]
    fn the_committed_schema_is_current(#[case] file: &str, #[case] current: String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(file);
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == current, "run `just generate`");
    }

    #[test]
    fn every_field_and_word_is_described() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            assert!(definition["description"].is_string(), "{name} has no description");
            for (field, property) in definition["properties"].as_object().into_iter().flatten() {
                assert!(property["description"].is_string() || property["$ref"].is_string(), "{name}.{field}");
            }
        }
    }
}
