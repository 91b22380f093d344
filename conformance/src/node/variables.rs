//! The environment variables of a container, from its spec and what the spec refers to. Pure: whoever calls has read the
//! Secrets and ConfigMaps that [`references`] names.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Secret};

use super::expansion::expand;

/// An object that a container's environment or a volume is taken from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    Secret(String),
    ConfigMap(String),
    Claim(String),
}

/// What was found in the cluster; an object that is not here does not exist.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) config_maps: BTreeMap<String, ConfigMap>,
    /// Names of claims.
    pub(super) claims: BTreeSet<String>,
}

/// Why the container cannot be created yet, in the kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum VariableError {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { key: String, kind: &'static str, namespace: String, name: String },
    #[error("key {key} in {kind} {name} is not UTF-8: the node double cannot pass it on")]
    NotText { key: String, kind: &'static str, name: String },
    #[error("the node double does not know {0}")]
    Unsupported(String),
}

/// Every Secret and ConfigMap that must be read before [`resolve`].
pub(super) fn references(container: &Container) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    for source in container.env_from.iter().flatten() {
        found.extend(source.secret_ref.iter().map(|secret| Reference::Secret(secret.name.clone())));
        found.extend(source.config_map_ref.iter().map(|map| Reference::ConfigMap(map.name.clone())));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        found.extend(source.secret_key_ref.iter().map(|key| Reference::Secret(key.name.clone())));
        found.extend(source.config_map_key_ref.iter().map(|key| Reference::ConfigMap(key.name.clone())));
    }
    found
}

/// The variables that the container's spec declares; `pod` must carry the addresses of its status.
///
/// As with the kubelet, `envFrom` comes before `env`, and `$(VAR)` sees what stands before it: not what the container has
/// without its spec, such as `HOSTNAME` or what its image sets.
pub(super) fn resolve(
    container: &Container,
    pod: &Pod,
    sources: &Sources,
) -> Result<BTreeMap<String, String>, VariableError> {
    let resolver = Resolver { pod, sources };
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        variables.extend(resolver.all(source)?);
    }
    for EnvVar { name, value, value_from } in container.env.iter().flatten() {
        let value = match (value, value_from) {
            (_, Some(source)) => resolver.one(source)?,
            (value, None) => {
                Some(expand(value.as_deref().unwrap_or_default(), |name| variables.get(name).map(String::as_str)))
            }
        };
        variables.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(variables)
}

struct Resolver<'a> {
    pod: &'a Pod,
    sources: &'a Sources,
}

impl Resolver<'_> {
    /// `envFrom`: keys that are no variable names are left out, as the kubelet does.
    fn all(&self, source: &EnvFromSource) -> Result<Vec<(String, String)>, VariableError> {
        let (entries, kind, name, optional) = if let Some(reference) = &source.secret_ref {
            let secret = self.sources.secrets.get(&reference.name);
            (secret.map(secret_data), SECRET, &reference.name, reference.optional)
        } else if let Some(reference) = &source.config_map_ref {
            let map = self.sources.config_maps.get(&reference.name);
            (map.map(config_map_data), CONFIG_MAP, &reference.name, reference.optional)
        } else {
            return Ok(Vec::new());
        };
        let Some(entries) = entries else {
            return if optional == Some(true) { Ok(Vec::new()) } else { Err(kind.absent(name)) };
        };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        entries
            .into_iter()
            .map(|(key, value)| (format!("{prefix}{key}"), value))
            .filter(|(key, _)| is_variable_name(key))
            .map(|(key, value)| Ok((key.clone(), text(value, &key, &kind, name)?)))
            .collect()
    }

    /// `valueFrom`; `None` when an optional source is absent.
    fn one(&self, source: &EnvVarSource) -> Result<Option<String>, VariableError> {
        let (entries, kind, name, key, optional) = if let Some(key) = &source.secret_key_ref {
            let secret = self.sources.secrets.get(&key.name);
            (secret.map(secret_data), SECRET, &key.name, &key.key, key.optional)
        } else if let Some(key) = &source.config_map_key_ref {
            let map = self.sources.config_maps.get(&key.name);
            (map.map(config_map_data), CONFIG_MAP, &key.name, &key.key, key.optional)
        } else if let Some(field) = &source.field_ref {
            return self.field(&field.field_path).map(Some);
        } else {
            return Err(VariableError::Unsupported("resourceFieldRef and fileKeyRef".to_owned()));
        };
        let missing = match entries {
            None => kind.absent(name),
            Some(mut entries) => match entries.remove(key.as_str()) {
                Some(value) => return text(value, key, &kind, name).map(Some),
                None => VariableError::NoKey {
                    key: key.clone(),
                    kind: kind.kind,
                    namespace: self.pod.metadata.namespace.clone().unwrap_or_default(),
                    name: name.clone(),
                },
            },
        };
        if optional == Some(true) { Ok(None) } else { Err(missing) }
    }

    fn field(&self, path: &str) -> Result<String, VariableError> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let status = self.pod.status.as_ref();
        let subscript =
            |field: &str| path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']").map(str::to_owned);
        let value = match path {
            "metadata.name" => metadata.name.clone(),
            "metadata.namespace" => metadata.namespace.clone(),
            "metadata.uid" => metadata.uid.clone(),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            "status.hostIP" | "status.hostIPs" => status.and_then(|status| status.host_ip.clone()),
            "status.podIP" | "status.podIPs" => status.and_then(|status| status.pod_ip.clone()),
            _ => {
                let map = if let Some(key) = subscript("metadata.labels") {
                    (metadata.labels.as_ref(), key)
                } else if let Some(key) = subscript("metadata.annotations") {
                    (metadata.annotations.as_ref(), key)
                } else {
                    return Err(VariableError::Unsupported(format!("the field {path}")));
                };
                map.0.and_then(|values| values.get(&map.1)).cloned()
            }
        };
        Ok(value.unwrap_or_default())
    }
}

/// What the kubelet calls an object: once as the API server does, once by its kind.
struct Kind {
    resource: &'static str,
    kind: &'static str,
}

const SECRET: Kind = Kind { resource: "secret", kind: "Secret" };
const CONFIG_MAP: Kind = Kind { resource: "configmap", kind: "ConfigMap" };

impl Kind {
    fn absent(&self, name: &str) -> VariableError {
        VariableError::NoObject { kind: self.resource, name: name.to_owned() }
    }
}

type Entries<'a> = BTreeMap<&'a str, &'a [u8]>;

fn secret_data(secret: &Secret) -> Entries<'_> {
    secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect()
}

fn config_map_data(map: &ConfigMap) -> Entries<'_> {
    map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes())).collect()
}

fn text(value: &[u8], key: &str, kind: &Kind, name: &str) -> Result<String, VariableError> {
    String::from_utf8(value.to_vec()).map_err(|_| VariableError::NotText {
        key: key.to_owned(),
        kind: kind.kind,
        name: name.to_owned(),
    })
}

/// Kubernetes takes any printable ASCII name without `=` since 1.34; before, a C identifier with `-` and `.`.
fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| !first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "JSON literals read better without a reference")]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "demo-0", "namespace": "a", "uid": "u1", "labels": {"app": "demo"},
                         "annotations": {"x/y": "z"}},
            "spec": {"nodeName": "n", "serviceAccountName": "sa", "containers": []},
            "status": {"podIP": "10.64.0.9", "hostIP": "127.0.0.1"},
        }))
        .unwrap()
    }

    fn sources() -> Sources {
        let secret = json!({"data": {"uri": "cG9zdGdyZXM=", "9bad": "eA==", "binary": "/w=="}});
        let map = json!({"data": {"level": "debug", "uri": "from-map"}});
        Sources {
            secrets: [("creds".to_owned(), serde_json::from_value(secret).unwrap())].into(),
            config_maps: [("settings".to_owned(), serde_json::from_value(map).unwrap())].into(),
            ..Sources::default()
        }
    }

    fn container(env: Value, env_from: Value) -> Container {
        serde_json::from_value(json!({"name": "c", "env": env, "envFrom": env_from})).unwrap()
    }

    fn variables(env: Value, env_from: Value) -> Result<BTreeMap<String, String>, VariableError> {
        resolve(&container(env, env_from), &pod(), &sources())
    }

    fn value_of(source: Value) -> Result<Option<String>, VariableError> {
        Ok(variables(json!([{"name": "V", "valueFrom": source}]), json!([]))?.remove("V"))
    }

    #[rstest]
    #[case(json!({"secretKeyRef": {"name": "creds", "key": "uri"}}), Some("postgres"))]
    #[case(json!({"secretKeyRef": {"name": "creds", "key": "none", "optional": true}}), None)]
    #[case(json!({"secretKeyRef": {"name": "none", "key": "uri", "optional": true}}), None)]
    #[case(json!({"configMapKeyRef": {"name": "settings", "key": "level"}}), Some("debug"))]
    #[case(json!({"fieldRef": {"fieldPath": "metadata.name"}}), Some("demo-0"))]
    #[case(json!({"fieldRef": {"fieldPath": "metadata.namespace"}}), Some("a"))]
    #[case(json!({"fieldRef": {"fieldPath": "metadata.uid"}}), Some("u1"))]
    #[case(json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}}), Some("demo"))]
    #[case(json!({"fieldRef": {"fieldPath": "metadata.labels['none']"}}), Some(""))]
    #[case(json!({"fieldRef": {"fieldPath": "metadata.annotations['x/y']"}}), Some("z"))]
    #[case(json!({"fieldRef": {"fieldPath": "spec.nodeName"}}), Some("n"))]
    #[case(json!({"fieldRef": {"fieldPath": "spec.serviceAccountName"}}), Some("sa"))]
    #[case(json!({"fieldRef": {"fieldPath": "status.podIP"}}), Some("10.64.0.9"))]
    #[case(json!({"fieldRef": {"fieldPath": "status.hostIP"}}), Some("127.0.0.1"))]
    fn a_value_comes_from_its_source(#[case] source: Value, #[case] expected: Option<&str>) {
        assert_eq!(value_of(source).unwrap().as_deref(), expected);
    }

    #[rstest]
    #[case(json!({"secretKeyRef": {"name": "creds", "key": "none"}}), "couldn't find key none in Secret a/creds")]
    #[case(json!({"secretKeyRef": {"name": "none", "key": "uri"}}), r#"secret "none" not found"#)]
    #[case(json!({"configMapKeyRef": {"name": "settings", "key": "none"}}), "couldn't find key none in ConfigMap a/settings")]
    #[case(json!({"configMapKeyRef": {"name": "none", "key": "x"}}), r#"configmap "none" not found"#)]
    #[case(json!({"secretKeyRef": {"name": "creds", "key": "binary"}}),
        "key binary in Secret creds is not UTF-8: the node double cannot pass it on")]
    #[case(json!({"fieldRef": {"fieldPath": "spec.replicas"}}), "the node double does not know the field spec.replicas")]
    #[case(json!({"resourceFieldRef": {"resource": "limits.cpu"}}),
        "the node double does not know resourceFieldRef and fileKeyRef")]
    fn what_is_missing_is_said_in_the_kubelets_words(#[case] source: Value, #[case] message: &str) {
        assert_eq!(value_of(source).unwrap_err().to_string(), message);
    }

    #[test]
    fn env_comes_after_env_from_and_later_sources_win() {
        let found = variables(
            json!([{"name": "level", "value": "info"}]),
            json!([
                {"configMapRef": {"name": "settings"}},
                {"secretRef": {"name": "none", "optional": true}},
                {"prefix": "S_", "configMapRef": {"name": "settings"}},
            ]),
        )
        .unwrap();
        let expected = [("S_level", "debug"), ("S_uri", "from-map"), ("level", "info"), ("uri", "from-map")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_missing_source_of_env_from_is_an_error_unless_it_is_optional() {
        let error = variables(json!([]), json!([{"secretRef": {"name": "none"}}])).unwrap_err();
        assert_eq!(error.to_string(), r#"secret "none" not found"#);
    }

    #[test]
    fn a_key_that_is_no_variable_name_is_left_out() {
        let mut sources = sources();
        sources.secrets.get_mut("creds").unwrap().data.as_mut().unwrap().remove("binary");
        let container = container(json!([]), json!([{"secretRef": {"name": "creds"}}]));
        let found = resolve(&container, &pod(), &sources).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["uri"]);
    }

    #[test]
    fn a_reference_sees_what_stands_before_it() {
        let found = variables(
            json!([
                {"name": "EARLY", "value": "$(LATE)"},
                {"name": "LATE", "value": "x"},
                {"name": "BOTH", "value": "$(level)/$(LATE)"},
                {"name": "HOST", "value": "$(HOSTNAME)"},
                {"name": "EMPTY"},
            ]),
            json!([{"configMapRef": {"name": "settings"}}]),
        )
        .unwrap();
        let values = ["EARLY", "BOTH", "HOST", "EMPTY"].map(|name| found[name].as_str());
        assert_eq!(values, ["$(LATE)", "debug/x", "$(HOSTNAME)", ""]);
    }

    #[test]
    fn everything_that_is_referred_to_is_named_once() {
        let container = container(
            json!([
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "uri"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "host"}}},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ]),
            json!([{"configMapRef": {"name": "settings"}}]),
        );
        let expected = [Reference::Secret("creds".into()), Reference::ConfigMap("settings".into())];
        assert_eq!(references(&container), expected.into());
    }
}
