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
    use std::path::{Path, PathBuf};

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

    /// What an editor shows of the files that people copy from.
    #[rstest]
    fn what_is_shipped_fits_its_schema(
        #[dirs]
        #[files("../scenarios/*")]
        #[exclude(r"\.(yaml|json)$")]
        area: PathBuf,
    ) {
        let template = area.ends_with("_steps");
        let schema = serde_json::from_str(&if template { template_schema() } else { schema() }).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let files = std::fs::read_dir(&area).unwrap().map(|entry| entry.unwrap().path());
        let mut judged = 0;
        for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
            let file: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            if file["kind"] == if template { "StepTemplate" } else { "Scenario" } {
                let problems: Vec<_> = schema.iter_errors(&file).map(|error| error.to_string()).collect();
                assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
                judged += 1;
            }
        }
        assert!(judged > 0, "{}", area.display());
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
