//! Waiting for objects, by watching them. Every wait has a deadline and says what was last seen.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// The objects that a watch has seen, by name.
pub type Seen<K> = BTreeMap<String, K>;

/// Watches the objects of `api` that `config` selects until `done` says that all is well. Its error is what is missing.
///
/// # Errors
/// It did not come to that within `limit`; or `done` failed for good.
pub async fn until<K>(
    what: &str,
    api: Api<K>,
    config: watcher::Config,
    limit: Duration,
    mut done: impl FnMut(&Seen<K>) -> Result<(), Missing>,
) -> anyhow::Result<()>
where
    K: Resource<DynamicType: Default + Eq + std::hash::Hash + Clone>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let mut missing = "nothing was seen yet".to_owned();
    let watching = async {
        let mut objects = Seen::new();
        let mut listed = false;
        let mut events = std::pin::pin!(watcher(api, config).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {
                    objects.clear();
                    listed = false;
                }
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    objects.insert(object.name_any(), object);
                }
                Ok(Event::Delete(object)) => {
                    objects.remove(&object.name_any());
                }
                Ok(Event::InitDone) => listed = true,
                Err(error) => missing = format!("the API server does not answer: {error}"),
            }
            if !listed {
                continue;
            }
            match done(&objects) {
                Ok(()) => return Ok(()),
                Err(Missing::Yet(text)) => missing = text,
                Err(Missing::ForGood(text)) => anyhow::bail!("{what}: {text}"),
            }
        }
        anyhow::bail!("{what}: the watch has ended")
    };
    match tokio::time::timeout(limit, watching).await {
        Ok(outcome) => outcome,
        Err(_) => anyhow::bail!("{what}: not within {} s ({missing})", limit.as_secs()),
    }
}

/// Why what is awaited is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It may come.
    Yet(String),
    /// It will not.
    ForGood(String),
}

/// Nothing is missing when `holds`.
pub fn unless(holds: bool, missing: impl FnOnce() -> String) -> Result<(), Missing> {
    if holds { Ok(()) } else { Err(Missing::Yet(missing())) }
}
