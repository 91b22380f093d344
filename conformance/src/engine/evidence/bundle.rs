//! The logs and objects of a failed scenario, whole: a report shows only their ends.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::gather::{list, redact_value};
use crate::engine::context::Context;
use crate::engine::invariants::Before;
use crate::engine::secrets;
use crate::redact::redact;

/// How long gathering may take: a broken cluster must not hold up the end of a scenario.
const LIMIT: Duration = Duration::from_secs(10);

/// Texts by the paths of their files, relative to the bundle's directory. Redacted.
pub type Bundle = BTreeMap<String, String>;

/// Everything of the scenario that is still there: the log of each container that was seen, the operator's since the
/// scenario began, the objects, the events. What does not come in time is left out.
pub async fn bundle(before: &Before, context: &mut Context) -> Bundle {
    let mut files = objects(context);
    let gathering = async {
        let events = list(context, "events").await.unwrap_or_default();
        files.insert("events.yaml".to_owned(), yaml(&Value::Array(events)));
        if let Ok(state) = context.site.operator().await {
            files.insert("operator.log".to_owned(), redact(&before.log(&state).await));
        }
        let pods = list(context, "pods").await.unwrap_or_default();
        for container in context.containers.seen(&context.namespace, &pods) {
            let log = context.site.logs(&container).await.unwrap_or_default();
            if !log.is_empty() {
                files.insert(format!("logs/{}/{}.log", container.pod, container.container), redact(&log));
            }
        }
    };
    let _ = tokio::time::timeout(LIMIT, gathering).await;
    files
}

/// The objects of all watches, a file for each; of Secrets the names of the keys only.
fn objects(context: &Context) -> Bundle {
    let mut files = Bundle::new();
    for feed in context.hub.feeds() {
        let found: Vec<_> = feed.read(|record| record.objects().values().cloned().collect());
        for object in found {
            let mut object = Value::clone(&object);
            if feed.kind().kind == "Secret" || secrets::is_secret(&object) {
                hide(&mut object);
            }
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            files.insert(format!("objects/{}.{name}.yaml", feed.kind().kind.to_lowercase()), yaml(&object));
        }
    }
    files
}

/// Leaves the keys of a Secret, and none of its values.
fn hide(secret: &mut Value) {
    for field in ["data", "stringData"] {
        for value in secret[field].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
            *value = crate::redact::REDACTED.into();
        }
    }
}

fn yaml(value: &Value) -> String {
    let mut value = value.clone();
    redact_value(&mut value);
    serde_yaml::to_string(&value).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_secret_only_the_keys_are_written() {
        let mut secret = json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"uri": "YWJj"}});
        hide(&mut secret);
        assert_eq!(secret["data"], json!({"uri": "<redacted>"}));
        let mut other = json!({"kind": "Secret", "metadata": {"name": "s"}});
        hide(&mut other);
        assert_eq!(other["data"], Value::Null);
    }

    #[test]
    fn registered_values_are_not_written_anywhere() {
        crate::redact::register("bundl3-s3cret");
        let text = yaml(&json!({"status": {"message": "pw=bundl3-s3cret"}}));
        assert_eq!(text.trim(), "status:\n  message: pw=<redacted>");
    }
}
