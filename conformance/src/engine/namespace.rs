//! A scenario's namespace: made like one of a strict cluster, labelled with the run, and gone at the end.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};

use super::deadline::Deadline;
use super::watch::Backoff;

/// The label that holds the id of the run.
pub const RUN_LABEL: &str = "conformance.dittofs.com/run";
/// The label that holds the scenario's slug.
pub const SCENARIO_LABEL: &str = "conformance.dittofs.com/scenario";
/// Pods of a scenario live under the strictest of the Pod Security Standards.
const POD_SECURITY: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// Characters of the scenario's name in its namespace's: names of objects and Services hang on it.
const SLUG: usize = 32;

/// The last part of a scenario's name as a DNS label.
pub fn slug(scenario: &str) -> String {
    let name = scenario.rsplit('/').next().unwrap_or(scenario);
    let slug: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    slug[..slug.len().min(SLUG)].trim_matches('-').to_owned()
}

/// Creates the namespace and gives its name.
pub async fn create(client: &Client, scenario: &str, run: &str) -> Result<String, kube::Error> {
    let slug = slug(scenario);
    let suffix: u32 = rand::random_range(0x10_0000..0x100_0000);
    let name = format!("{slug}-{suffix:x}");
    let labels = [(RUN_LABEL, run), (SCENARIO_LABEL, &slug), POD_SECURITY];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok(name)
}

/// Deletes the namespace and waits until it is gone; the error says what is left in it.
pub async fn remove(client: &Client, name: &str, deadline: &Deadline) -> Result<(), String> {
    let api: Api<Namespace> = Api::all(client.clone());
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(format!("namespace {name} cannot be deleted: {error}")),
    }
    let mut last = None;
    let gone = async {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = std::pin::pin!(watcher(api, config).backoff(Backoff::default()));
        let mut listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed = false,
                Ok(watcher::Event::InitApply(namespace)) => {
                    listed = true;
                    last = Some(namespace);
                }
                Ok(watcher::Event::Apply(namespace)) => last = Some(namespace),
                Ok(watcher::Event::InitDone) if !listed => return,
                Ok(watcher::Event::Delete(_)) => return,
                Ok(watcher::Event::InitDone) => {}
                Err(error) => tracing::debug!("watching namespace {name}: {error}"),
            }
        }
    };
    match deadline.bound(gone).await {
        Some(()) => Ok(()),
        None => Err(format!("namespace {name} was not gone within {deadline}: {}", left(last.as_ref()))),
    }
}

/// What the namespace controller says is left, in its own words.
fn left(namespace: Option<&Namespace>) -> String {
    let conditions = namespace.and_then(|namespace| namespace.status.as_ref()?.conditions.clone()).unwrap_or_default();
    let remaining: Vec<String> = conditions
        .into_iter()
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message)
        .collect();
    match (remaining.is_empty(), namespace) {
        (false, _) => remaining.join("; "),
        (true, Some(namespace)) if namespace.metadata.deletion_timestamp.is_some() => {
            "it is still being emptied".to_owned()
        }
        (true, _) => "its deletion has not begun".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("gate/secret_delayed_holds_the_pods", "secret-delayed-holds-the-pods")]
    #[case("x", "x")]
    #[case("backup/a_name_that_is_much_too_long_for_a_namespace", "a-name-that-is-much-too-long-for")]
    fn a_slug_is_a_dns_label(#[case] scenario: &str, #[case] expected: &str) {
        assert_eq!(slug(scenario), expected);
    }

    #[test]
    fn what_is_left_is_told_in_the_controllers_words() {
        let condition = NamespaceCondition {
            status: "True".to_owned(),
            type_: "NamespaceFinalizersRemaining".to_owned(),
            message: Some(
                "Some content in the namespace has finalizers remaining: x in 1 resource instances".to_owned(),
            ),
            ..NamespaceCondition::default()
        };
        let status = NamespaceStatus { conditions: Some(vec![condition]), ..NamespaceStatus::default() };
        let namespace = Namespace { status: Some(status), ..Namespace::default() };
        assert_eq!(
            left(Some(&namespace)),
            "Some content in the namespace has finalizers remaining: x in 1 resource instances"
        );
        assert_eq!(left(None), "its deletion has not begun");
    }
}
