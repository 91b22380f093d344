//! A scenario's namespace: made like one of a strict cluster, labelled with the run, and gone at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;

use super::deadline::Deadline;
use super::emptying::{Left, empty};
use super::trouble::{Failure, Trouble};
use super::watch::Backoff;
use crate::scenario::SERVER;

/// The label that holds the id of the run.
pub const RUN_LABEL: &str = "conformance.dittofs.com/run";
/// The label that holds the scenario's slug.
pub const SCENARIO_LABEL: &str = "conformance.dittofs.com/scenario";
/// Pods of a scenario live under the strictest of the Pod Security Standards.
const POD_SECURITY: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// The finalizers with which Kubernetes itself holds an object until what it owns is gone.
const OF_KUBERNETES: [&str; 2] = ["foregroundDeletion", "orphan"];

/// Characters of the scenario's name in its namespace's: names of objects and Services hang on it.
const SLUG: usize = 32;

/// The last part of a scenario's name as a DNS label.
pub fn slug(scenario: &str) -> String {
    let name = scenario.rsplit('/').next().unwrap_or(scenario);
    let slug: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    slug[..slug.len().min(SLUG)].trim_matches('-').to_owned()
}

/// The labels of every namespace of a scenario in a run; `restricted` pods are the only ones that it takes.
pub fn marks(scenario: &str, run: &str, restricted: bool) -> BTreeMap<String, String> {
    let labels = [(RUN_LABEL, run), (SCENARIO_LABEL, &slug(scenario))];
    labels
        .into_iter()
        .chain(restricted.then_some(POD_SECURITY))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// A name for a namespace of a scenario that no other has.
pub fn name(scenario: &str) -> String {
    let suffix: u32 = rand::random_range(0x10_0000..0x100_0000);
    format!("{}-{suffix:x}", slug(scenario))
}

/// Creates the namespace with these labels.
pub async fn create(client: &Client, name: &str, labels: BTreeMap<String, String>) -> Result<(), kube::Error> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.map(drop)
}

/// Deletes the namespace and waits until it is gone; the error says what is left in it. A server that still has a finalizer then is
/// the operator's doing: Kubernetes's own end by themselves, and those of scenarios are taken away ([`empty`]).
pub async fn remove(client: &Client, name: &str, deadline: &Deadline) -> Result<(), Trouble> {
    let api: Api<Namespace> = Api::all(client.clone());
    let left = watch::Sender::new(Left::new());
    let removal = async {
        match api.delete(name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error),
        }
        empty(client, name, &left).await?;
        gone(api.clone(), name).await;
        Ok(())
    };
    match deadline.bound(removal).await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(Trouble::broken(format!("namespace {name} cannot be removed: {error}"))),
        None => Err(remains(name, deadline, &left.borrow())),
    }
}

/// Removes a namespace of which nobody knows whether it was made: its creation was interrupted.
pub async fn abandon(config: kube::Config, name: &str, deadline: &Deadline) -> Result<(), Trouble> {
    let client = Client::try_from(config).map_err(Trouble::broken)?;
    remove(&client, name, deadline).await
}

/// Removes the namespace if it was made by the run `run`: another is not a scenario's to remove, whatever was interrupted.
pub async fn remove_ours(client: &Client, name: &str, run: &str, deadline: &Deadline) -> Result<(), Trouble> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = deadline.bound(api.get_metadata_opt(name)).await;
    let found = found.ok_or_else(|| Trouble::broken(format!("namespace {name} was not told of within {deadline}")))?;
    let found = found.map_err(|error| Trouble::broken(format!("namespace {name} cannot be looked at: {error}")))?;
    match found.as_ref().and_then(|namespace| namespace.labels().get(RUN_LABEL)) {
        Some(made) if made == run => remove(client, name, deadline).await,
        _ => Ok(()),
    }
}

fn remains(name: &str, deadline: &Deadline, left: &Left) -> Trouble {
    let message = format!("namespace {name} was not gone within {deadline}: {}", listing(left));
    let mut finalizers = left.get(SERVER).into_iter().flat_map(BTreeMap::values).flatten();
    if finalizers.any(|finalizer| !OF_KUBERNETES.contains(&&**finalizer)) {
        Trouble::Failed(Failure::new(message))
    } else {
        Trouble::broken(message)
    }
}

/// Removes every namespace that a run has made, whichever run that was: a cluster does not tell which runs go on. Gives the
/// names of those that are gone, and a sentence about each that is not.
///
/// # Errors
/// The API server does not list them.
pub async fn remove_all(client: &Client, limit: Duration) -> kube::Result<(Vec<String>, Vec<String>)> {
    let api: Api<Namespace> = Api::all(client.clone());
    let made = api.list_metadata(&ListParams::default().labels(RUN_LABEL)).await?;
    let deadline = Deadline::after("cleanup", limit);
    let removals = made.items.into_iter().map(async |namespace| {
        let name = namespace.name_any();
        remove(client, &name, &deadline).await.map(|()| name)
    });
    let mut removed = (Vec::new(), Vec::new());
    for outcome in join_all(removals).await {
        match outcome {
            Ok(name) => removed.0.push(name),
            Err(trouble) => removed.1.extend(trouble.failure().map(|failure| failure.message)),
        }
    }
    Ok(removed)
}

async fn gone(api: Api<Namespace>, name: &str) {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api, config).backoff(Backoff::default()));
    let mut exists = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => exists = false,
            Ok(watcher::Event::InitApply(_) | watcher::Event::Apply(_)) => exists = true,
            Ok(watcher::Event::InitDone) if !exists => return,
            Ok(watcher::Event::Delete(_)) => return,
            Ok(watcher::Event::InitDone) => {}
            Err(error) => tracing::debug!("watching namespace {name}: {error}"),
        }
    }
}

fn listing(left: &Left) -> String {
    let object = |(name, finalizers): (&String, &Vec<String>)| match finalizers.as_slice() {
        [] => name.clone(),
        finalizers => format!("{name} (finalizers: {})", finalizers.join(", ")),
    };
    let kinds = left.iter().filter(|(_, objects)| !objects.is_empty());
    let kinds: Vec<String> = kinds
        .map(|(kind, objects)| format!("{kind} {}", objects.iter().map(object).collect::<Vec<_>>().join(", ")))
        .collect();
    if kinds.is_empty() { "it is empty, and still there".to_owned() } else { format!("left: {}", kinds.join("; ")) }
}

#[cfg(test)]
mod tests {
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
    fn what_is_left_is_told_by_kind_with_its_finalizers() {
        let mut left = held("PerconaPGCluster", &["percona.com/delete-pvc"]);
        left.insert("Pod".to_owned(), BTreeMap::new());
        assert_eq!(listing(&left), "left: PerconaPGCluster demo (finalizers: percona.com/delete-pvc)");
        assert_eq!(listing(&Left::new()), "it is empty, and still there");
    }

    /// An object `demo` of a kind, with these finalizers.
    fn held(kind: &str, finalizers: &[&str]) -> Left {
        let finalizers = finalizers.iter().map(|&finalizer| finalizer.to_owned()).collect();
        [(kind.to_owned(), [("demo".to_owned(), finalizers)].into())].into()
    }

    #[rstest]
    #[case::of_the_operator("DittoServer", &["dittofs.com/x"], true)]
    #[case::also_of_the_operator("DittoServer", &["foregroundDeletion", "dittofs.com/x"], true)]
    #[case::on_its_way("DittoServer", &[], false)]
    #[case::waits_for_what_it_owns("DittoServer", &["foregroundDeletion"], false)]
    #[case::of_percona("PerconaPGCluster", &["percona.com/delete-pvc"], false)]
    fn a_finalizer_that_the_operator_leaves_is_its_failure(
        #[case] kind: &str,
        #[case] finalizers: &[&str],
        #[case] failed: bool,
    ) {
        let deadline = Deadline::after("cleanup", Duration::ZERO);
        assert_eq!(matches!(remains("a", &deadline, &held(kind, finalizers)), Trouble::Failed(_)), failed);
    }
}
