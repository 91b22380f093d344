//! What the volumes of a pod are made of, and what of it is missing. Pure: whoever calls has read what [`references`]
//! names.
//!
//! A process does not see its pod's volumes; but as under a kubelet, none starts before all of them can be set up. A volume
//! that no container mounts is passed over; its claim is not, for that is what a scheduler looks at.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{KeyToPath, PodSpec, Volume};

use super::variables::{Reference, Sources};

/// Something without which a volume cannot be set up.
struct Need<'a> {
    reference: Reference,
    /// The keys that it must have.
    items: &'a [KeyToPath],
}

/// Everything that must be read before [`missing`].
pub(super) fn references(spec: &PodSpec) -> BTreeSet<Reference> {
    used(spec).flat_map(needs).map(|need| need.reference).collect()
}

/// Why volumes cannot be set up, in the kubelet's words: a message for each of those that lack something.
pub(super) fn missing(spec: &PodSpec, namespace: &str, sources: &Sources) -> Vec<String> {
    used(spec).filter_map(|volume| missing_of(volume, namespace, sources)).collect()
}

fn used(spec: &PodSpec) -> impl Iterator<Item = &Volume> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mounted: BTreeSet<&str> = containers
        .flat_map(|container| {
            let devices = container.volume_devices.iter().flatten().map(|device| device.name.as_str());
            container.volume_mounts.iter().flatten().map(|mount| mount.name.as_str()).chain(devices)
        })
        .collect();
    let volumes = spec.volumes.iter().flatten();
    volumes.filter(move |volume| volume.persistent_volume_claim.is_some() || mounted.contains(volume.name.as_str()))
}

fn missing_of(volume: &Volume, namespace: &str, sources: &Sources) -> Option<String> {
    let mut lacks = Vec::new();
    for lack in needs(volume).iter().filter_map(|need| need.missing(namespace, sources)) {
        if !lacks.contains(&lack) {
            lacks.push(lack);
        }
    }
    let why = match lacks.as_slice() {
        [] => return None,
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let name = &volume.name;
    Some(if volume.persistent_volume_claim.is_some() {
        format!(
            "Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[], \
             failed to process volumes=[{name}]: {why}"
        )
    } else {
        format!("MountVolume.SetUp failed for volume \"{name}\" : {why}")
    })
}

fn needs(volume: &Volume) -> Vec<Need<'_>> {
    let secret = volume.secret.as_ref().and_then(|source| {
        need(Reference::Secret(source.secret_name.clone()?), source.items.as_deref(), source.optional)
    });
    let map = volume
        .config_map
        .as_ref()
        .and_then(|source| need(Reference::ConfigMap(source.name.clone()), source.items.as_deref(), source.optional));
    let claim = volume
        .persistent_volume_claim
        .as_ref()
        .and_then(|source| need(Reference::Claim(source.claim_name.clone()), None, None));
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let projected = sources.flat_map(|source| {
        let secret = source
            .secret
            .as_ref()
            .and_then(|source| need(Reference::Secret(source.name.clone()), source.items.as_deref(), source.optional));
        let map = source.config_map.as_ref().and_then(|source| {
            need(Reference::ConfigMap(source.name.clone()), source.items.as_deref(), source.optional)
        });
        secret.into_iter().chain(map)
    });
    secret.into_iter().chain(map).chain(claim).chain(projected).collect()
}

/// What is optional is not needed: neither the object nor its keys.
fn need(reference: Reference, items: Option<&[KeyToPath]>, optional: Option<bool>) -> Option<Need<'_>> {
    (optional != Some(true)).then(|| Need { reference, items: items.unwrap_or_default() })
}

impl Need<'_> {
    fn missing(&self, namespace: &str, sources: &Sources) -> Option<String> {
        match &self.reference {
            Reference::Secret(name) => {
                let Some(secret) = sources.secrets.get(name) else {
                    return Some(format!("secret \"{name}\" not found"));
                };
                let key = self.missing_key(|key| secret.data.as_ref().is_some_and(|data| data.contains_key(key)))?;
                Some(format!("references non-existent secret key: {key}"))
            }
            Reference::ConfigMap(name) => {
                let Some(map) = sources.config_maps.get(name) else {
                    return Some(format!("configmap \"{name}\" not found"));
                };
                let key = self.missing_key(|key| {
                    map.data.as_ref().is_some_and(|data| data.contains_key(key))
                        || map.binary_data.as_ref().is_some_and(|data| data.contains_key(key))
                })?;
                Some(format!("configmap references non-existent config key: {key}"))
            }
            Reference::Claim(name) => (!sources.claims.contains(name)).then(|| {
                format!(
                    "error processing PVC {namespace}/{name}: failed to fetch PVC from API server: \
                     persistentvolumeclaims \"{name}\" not found"
                )
            }),
        }
    }

    fn missing_key(&self, has: impl Fn(&str) -> bool) -> Option<&str> {
        self.items.iter().map(|item| item.key.as_str()).find(|&key| !has(key))
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "JSON literals read better without a reference")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// Secret `creds` with the key `uri`, ConfigMap `settings` with the keys `level` and `binary`, the claim `data`.
    fn sources() -> Sources {
        let secret = json!({"data": {"uri": "cG9zdGdyZXM="}});
        let map = json!({"data": {"level": "debug"}, "binaryData": {"binary": "/w=="}});
        Sources {
            secrets: [("creds".to_owned(), serde_json::from_value(secret).unwrap())].into(),
            config_maps: [("settings".to_owned(), serde_json::from_value(map).unwrap())].into(),
            claims: ["data".to_owned()].into(),
        }
    }

    fn spec(source: Value) -> PodSpec {
        let mut volume = json!({"name": "v"});
        json_patch::merge(&mut volume, &source);
        serde_json::from_value(json!({"containers": [mounting(&["v"])], "volumes": [volume]})).unwrap()
    }

    fn mounting(volumes: &[&str]) -> Value {
        let mounts = volumes.iter().map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
        json!({"name": "main", "volumeMounts": mounts.collect::<Value>()})
    }

    fn items(keys: &[&str]) -> Value {
        keys.iter().map(|key| json!({"key": key, "path": key})).collect()
    }

    #[rstest]
    #[case::secret(json!({"secret": {"secretName": "creds"}}))]
    #[case::its_key(json!({"secret": {"secretName": "creds", "items": items(&["uri"])}}))]
    #[case::optional_secret(json!({"secret": {"secretName": "none", "optional": true}}))]
    #[case::optional_key(json!({"secret": {"secretName": "creds", "optional": true, "items": items(&["none"])}}))]
    #[case::map(json!({"configMap": {"name": "settings", "items": items(&["level", "binary"])}}))]
    #[case::optional_map(json!({"configMap": {"name": "none", "optional": true}}))]
    #[case::claim(json!({"persistentVolumeClaim": {"claimName": "data"}}))]
    #[case::projected(json!({"projected": {"sources": [
        {"secret": {"name": "creds", "items": items(&["uri"])}},
        {"secret": {"name": "none", "optional": true}},
        {"configMap": {"name": "settings"}},
        {"configMap": {"name": "none", "optional": true}},
        {"serviceAccountToken": {"path": "token"}},
        {"downwardAPI": {"items": []}},
    ]}}))]
    #[case::nothing_at_all(json!({"emptyDir": {}}))]
    fn a_volume_can_be_set_up_when_all_that_it_needs_is_there(#[case] source: Value) {
        assert_eq!(missing(&spec(source), "a", &sources()), [] as [&str; 0]);
    }

    #[rstest]
    #[case::secret(json!({"secret": {"secretName": "none"}}), r#"secret "none" not found"#)]
    #[case::its_key(
        json!({"secret": {"secretName": "creds", "items": items(&["uri", "tls.key"])}}),
        "references non-existent secret key: tls.key")]
    #[case::map(json!({"configMap": {"name": "none", "optional": false}}), r#"configmap "none" not found"#)]
    #[case::its_key(
        json!({"configMap": {"name": "settings", "items": items(&["none"])}}),
        "configmap references non-existent config key: none")]
    #[case::one_of_several(
        json!({"projected": {"sources": [{"secret": {"name": "creds"}}, {"configMap": {"name": "none"}}]}}),
        r#"configmap "none" not found"#)]
    #[case::several(
        json!({"projected": {"sources": [
            {"secret": {"name": "none", "items": items(&["a"])}},
            {"secret": {"name": "none", "items": items(&["b"])}},
            {"secret": {"name": "creds", "items": items(&["c"])}},
        ]}}),
        r#"[secret "none" not found, references non-existent secret key: c]"#)]
    fn what_is_missing_is_said_in_the_kubelets_words(#[case] source: Value, #[case] why: &str) {
        let expected = format!("MountVolume.SetUp failed for volume \"v\" : {why}");
        assert_eq!(missing(&spec(source), "a", &sources()), [expected]);
    }

    #[test]
    fn a_claim_that_is_missing_cannot_be_attached() {
        let message = "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], \
                       failed to process volumes=[v]: error processing PVC a/none: \
                       failed to fetch PVC from API server: persistentvolumeclaims \"none\" not found";
        assert_eq!(missing(&spec(json!({"persistentVolumeClaim": {"claimName": "none"}})), "a", &sources()), [message]);
    }

    #[test]
    fn only_what_is_needed_and_mounted_is_read() {
        let containers = [mounting(&["a", "b", "c", "d", "f"])];
        let spec = serde_json::from_value(json!({"containers": containers, "volumes": [
            {"name": "a", "secret": {"secretName": "creds"}},
            {"name": "b", "configMap": {"name": "settings"}},
            {"name": "c", "configMap": {"name": "optional", "optional": true}},
            {"name": "d", "projected": {"sources": [{"secret": {"name": "creds"}}, {"secret": {"name": "keys"}}]}},
            {"name": "e", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "f", "emptyDir": {}},
            {"name": "g", "secret": {"secretName": "unmounted"}},
        ]}));
        let expected = [
            Reference::Secret("creds".into()),
            Reference::Secret("keys".into()),
            Reference::ConfigMap("settings".into()),
            Reference::Claim("data".into()),
        ];
        assert_eq!(references(&spec.unwrap()), expected.into());
    }
}
