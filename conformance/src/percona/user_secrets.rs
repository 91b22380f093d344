//! The user Secrets of a cluster: read, completed, written.

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::certificates::data;
use super::cluster::Cluster;
use super::context::Kind;
use super::objects::{Plan, secret};
use super::secret::complete;
use super::users::User;

impl Cluster {
    /// Completes every user's Secret. The result is each user with the verifier that its role is to have.
    pub(super) async fn user_secrets(&mut self, plan: &Plan<'_>) -> anyhow::Result<Vec<(User, String)>> {
        let held = self.context.faults.held_keys(&self.key);
        let mut verifiers = Vec::new();
        for user in User::of(&self.key, plan.spec) {
            let found = self.context.get(Kind::SECRET, &self.key.namespace, &user.secret).await?;
            let mut existing = data(found.as_ref());
            // What a fault withholds is still known: when the fault is cleared, the same password appears.
            if let Some(withheld) = self.withheld.get(&user.secret) {
                for (key, value) in withheld {
                    if held.as_ref().is_none_or(|keys| keys.is_empty() || keys.contains(key)) {
                        existing.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                }
            }
            let login = user.login(&self.key, plan.spec, plan.place.port);
            let complete = complete(&existing, &login, &mut rand::rng());
            verifiers.push((user.clone(), String::from_utf8_lossy(&complete["verifier"]).into_owned()));
            match &held {
                Some(keys) if keys.is_empty() => {
                    self.withheld.insert(user.secret.clone(), complete);
                    if found.is_some() {
                        self.context.delete(Kind::SECRET, &self.key.namespace, &user.secret).await?;
                    }
                    continue;
                }
                Some(_) => drop(self.withheld.insert(user.secret.clone(), complete.clone())),
                None => drop(self.withheld.remove(&user.secret)),
            }
            let shown: Vec<(&str, &[u8])> = complete
                .iter()
                .filter(|(key, _)| held.as_ref().is_none_or(|keys| !keys.contains(*key)))
                .map(|(key, value)| (key.as_str(), value.as_slice()))
                .collect();
            let labels = self.key.labels([("role", "pguser"), ("pguser", user.name.as_str())]);
            let object = secret(&self.key, &user.secret, &labels, &shown);
            let exposes = |found: &DynamicObject| held.iter().flatten().any(|key| !found.data["data"][key].is_null());
            if found.as_ref().is_none_or(|found| !covers(found, &object) || exposes(found)) {
                self.context.apply(&object).await?;
            }
        }
        Ok(verifiers)
    }
}

/// Whether `found` already has the labels and exactly the data of `wanted`, beside keys that somebody else added.
fn covers(found: &DynamicObject, wanted: &Value) -> bool {
    let same = |path: &str, held: &Value| {
        wanted.pointer(path).and_then(Value::as_object).into_iter().flatten().all(|(key, value)| held[key] == *value)
    };
    let labels = json!(found.labels());
    same("/data", &found.data["data"]) && same("/metadata/labels", &labels)
}
