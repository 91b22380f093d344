//! What a scenario needs before its first step: a client of its own, a namespace, the names that its expressions know.

use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Client;
use serde_json::json;

use super::completion::complete;
use super::containers::Containers;
use super::context::Context;
use super::differences::Differences;
use super::guard::Guards;
use super::schedule::Job;
use super::settings::Settings;
use super::trouble::Trouble;
use super::watch::{Hub, Kind};
use super::{invariants, namespace};
use crate::environment::{Capability, Declared, Site, Tolerated};
use crate::scenario::Scenario;
use crate::scenario::expression::Bindings;

/// The requirement that pods are accepted under the restricted Pod Security Standard.
const RESTRICTED: &str = "pods/restricted";
/// What stands in a scenario's file and in the templates that it uses. They were read a moment ago; without them every image
/// that is missing is told.
pub fn text(job: &Job) -> String {
    let mut files: Vec<&Path> = vec![&job.file];
    files.extend(job.scenario.operations().filter_map(|operation| operation.file.as_deref()).map(Path::new));
    files.dedup();
    files.into_iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

/// Client, namespace (of this name) and bindings of the scenario.
pub async fn prepare(
    scenario: &Scenario,
    namespace: &str,
    site: Arc<dyn Site>,
    settings: &Settings,
    declared: &Declared,
) -> Result<(Context, invariants::Before), Trouble> {
    let before = invariants::before(&*site).await?;
    let agent = format!("conformance/{}", scenario.name);
    let mut config = site.config();
    let header = HeaderValue::from_str(&agent).map_err(Trouble::broken)?;
    config.headers.push((USER_AGENT, header));
    let client = Client::try_from(config).map_err(Trouble::broken)?;
    let differences = Differences::new(declared.clone());
    let restricted = !declared.tolerate.contains(&Tolerated::UnrestrictedPods)
        || scenario.covers.iter().any(|requirement| requirement == RESTRICTED);
    if !restricted && scenario.needs.contains(&Capability::Pods) {
        differences.note("the namespace takes pods that the restricted Pod Security Standard refuses");
    }
    let marks = namespace::marks(&scenario.name, &settings.run, restricted);
    namespace::create(&client, namespace, marks.clone())
        .await
        .map_err(|error| Trouble::broken(format!("no namespace can be created: {error}")))?;
    let bindings = Bindings::from_iter([
        ("namespace", json!(namespace)),
        ("scenario", json!(scenario.name)),
        ("env", site.bindings().clone()),
    ]);
    let hub = Hub::new(client.clone());
    // Whatever stands in them is a secret from then on, for every report and for the invariants.
    hub.feed(&Kind::new("v1", "Secret"), Some(namespace));
    let context = Context {
        completion: complete(&hub, &client, namespace, &differences),
        differences,
        containers: Containers::of(&hub.feed(&Kind::new("v1", "Pod"), Some(namespace))),
        hub,
        client,
        namespace: namespace.to_owned(),
        marks,
        more_namespaces: Vec::new(),
        // The API server takes at most 128 bytes.
        manager: agent[..agent.floor_char_boundary(128)].to_owned(),
        bindings,
        guards: Guards::default(),
        faults: std::collections::BTreeMap::new(),
        permissions: settings.permissions.clone(),
        missing: settings.missing.clone(),
        warnings: Vec::new(),
        sightings: Vec::new(),
        site,
    };
    Ok((context, before))
}
