//! The user Secrets of a cluster: read, completed, written.

use std::cmp::Reverse;

use kube::ResourceExt as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::certificates::data;
use super::cluster::{Cluster, label};
use super::context::Kind;
use super::names::{CRUNCHY, Key};
use super::objects::{Plan, secret};
use super::secret::{KEYS, complete};
use super::users::User;

impl Cluster {
    /// Completes every user's Secret. The result is each user with the verifier that its role is to have.
    pub(super) async fn user_secrets(&mut self, plan: &Plan<'_>) -> anyhow::Result<Vec<(User, String)>> {
        let held = self.context.faults.held_keys(&self.key);
        let labelled = self.labelled(Kind::SECRET, &format!(",{CRUNCHY}role=pguser")).await?;
        let mut verifiers = Vec::new();
        for user in User::of(&self.key, plan.spec) {
            let found = self.context.get(Kind::SECRET, &self.key.namespace, &user.secret).await?;
            let mut existing = data(existing(&self.key, &user, &labelled, found.as_ref()));
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
            if found.as_ref().is_none_or(|found| !covers(found, &object)) {
                self.context.apply(&object).await?;
            }
        }
        Ok(verifiers)
    }
}

/// The Secret from which a user's password is taken: the last in Percona's order of all that are labelled as the user's.
/// The one that the user is to have (`found`) gets its labels before Percona looks, so it always is one of them.
fn existing<'a>(
    key: &Key,
    user: &User,
    labelled: &'a [DynamicObject],
    found: Option<&'a DynamicObject>,
) -> Option<&'a DynamicObject> {
    // That of the versions of old, which knew one user only; it counts when there is no other.
    let deprecated = key.named("pguser");
    let others =
        labelled.iter().filter(|secret| label(secret, "pguser") == user.name && secret.name_any() != user.secret);
    others.chain(found).max_by_key(|secret| {
        let name = secret.name_any();
        (name != deprecated, name.contains("pguser"), Reverse(secret.creation_timestamp()), name)
    })
}

/// Whether `found` already has the labels and exactly the data of `wanted`, beside keys that somebody else added. A key of
/// Percona's own that is not wanted any more is removed when `wanted` is applied.
fn covers(found: &DynamicObject, wanted: &Value) -> bool {
    let same = |path: &str, held: &Value| {
        wanted.pointer(path).and_then(Value::as_object).into_iter().flatten().all(|(key, value)| held[key] == *value)
    };
    let surplus = KEYS.iter().any(|key| wanted["data"][key].is_null() && !found.data["data"][key].is_null());
    let labels = json!(found.labels());
    same("/data", &found.data["data"]) && same("/metadata/labels", &labels) && !surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, user: &str, created: &str) -> DynamicObject {
        let labels = json!({ format!("{CRUNCHY}pguser"): user });
        let metadata = json!({ "name": name, "labels": labels, "creationTimestamp": created });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    /// The name of the Secret that counts for user `app`, whose own has the name `own`.
    fn counts(own: &str, labelled: &[DynamicObject], found: Option<&DynamicObject>) -> Option<String> {
        let key = Key { namespace: "a".into(), name: "demo".into() };
        let spec = json!({ "users": [{ "name": "app", "secretName": own }] });
        existing(&key, &User::of(&key, &spec)[0], labelled, found).map(kube::ResourceExt::name_any)
    }

    #[test]
    fn a_secret_with_a_name_of_its_own_takes_the_password_over() {
        let labelled = [
            secret("demo-pguser-app", "app", "2026-11-24T06:00:00Z"),
            secret("demo-pguser-other", "other", "2026-11-24T06:00:00Z"),
        ];
        assert_eq!(counts("mine", &labelled, None).as_deref(), Some("demo-pguser-app"));
        assert_eq!(counts("mine", &labelled[1..], None), None);
    }

    #[test]
    fn of_two_secrets_the_one_called_pguser_counts_then_the_older_one() {
        let named = secret("mine", "app", "2026-11-24T05:00:00Z");
        let labelled = [named.clone(), secret("demo-pguser-app", "app", "2026-11-24T06:00:00Z")];
        assert_eq!(counts("mine", &labelled, Some(&named)).as_deref(), Some("demo-pguser-app"));
        let labelled = [secret("former", "app", "2026-11-24T06:00:00Z")];
        assert_eq!(counts("mine", &labelled, Some(&named)).as_deref(), Some("mine"));
        let labelled = [secret("former", "app", "2026-11-24T04:00:00Z")];
        assert_eq!(counts("mine", &labelled, Some(&named)).as_deref(), Some("former"));
        // That of the versions of old.
        let labelled = [secret("demo-pguser", "app", "2026-11-24T04:00:00Z")];
        assert_eq!(counts("mine", &labelled, Some(&named)).as_deref(), Some("mine"));
    }

    #[test]
    fn keys_that_are_not_wanted_any_more_are_not_covered() {
        let found = |data: Value| -> DynamicObject {
            serde_json::from_value(json!({ "metadata": { "name": "s" }, "data": data })).unwrap()
        };
        let wanted = json!({ "data": { "host": "aA==" }, "metadata": { "labels": {} } });
        assert!(covers(&found(json!({ "host": "aA==", "extra": "eA==" })), &wanted));
        assert!(!covers(&found(json!({ "host": "aA==", "uri": "eA==" })), &wanted));
    }
}
