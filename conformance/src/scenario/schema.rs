//! The JSON schema of the language, for editors and for other tools.

/// The schema, as it stands in `scenarios/schema.json`.
pub fn schema() -> String {
    let schema = schemars::schema_for!(super::Scenario);
    // A schema is a JSON value: writing it cannot fail.
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/schema.json");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(committed == schema(), "run `conformance schema scenario > scenarios/schema.json`");
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
