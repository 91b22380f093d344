//! The views of the recorder that made the traces, made again: what it wrote of each kind.

use std::collections::BTreeMap;

use base64::Engine as _;
use conformance::percona::secret::belongs;
use kube::core::DynamicObject;
use kube::{Resource as _, ResourceExt as _};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

/// Numbers secret values in the order in which they appear, so that they can be told apart without being shown.
#[derive(Default)]
pub struct Numbers(BTreeMap<&'static str, Vec<Vec<u8>>>);

impl Numbers {
    fn of(&mut self, what: &'static str, value: &[u8]) -> String {
        if value.is_empty() {
            return "empty".to_owned();
        }
        let known = self.0.entry(what).or_default();
        let index = known.iter().position(|each| each == value).unwrap_or_else(|| {
            known.push(value.to_vec());
            known.len() - 1
        });
        format!("{what}#{}", index + 1)
    }
}

/// The view of an object.
pub fn view(kind: &str, object: &DynamicObject, numbers: &mut Numbers) -> Map<String, Value> {
    let metadata = object.meta();
    let data = &object.data;
    let owners: Vec<Value> = object
        .owner_references()
        .iter()
        .map(|owner| {
            let mut view = json!({ "kind": owner.kind, "name": owner.name });
            if let Some(controller) = owner.controller {
                view["controller"] = json!(controller);
            }
            if let Some(block) = owner.block_owner_deletion {
                view["blockOwnerDeletion"] = json!(block);
            }
            view
        })
        .collect();
    let mut view = Map::new();
    let mut set = |key: &str, value: Value| drop(view.insert(key.to_owned(), value));
    set("labels", json!(metadata.labels.clone().unwrap_or_default()));
    set("ownerReferences", json!(owners));
    if let Some(finalizers) = &metadata.finalizers {
        set("finalizers", json!(finalizers));
    }
    if metadata.deletion_timestamp.is_some() {
        set("deletionTimestamp", json!("<time>"));
    }
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let replicas = |set: &mut dyn FnMut(&str, Value)| {
        let status: Map<String, Value> = data["status"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| {
                ["replicas", "readyReplicas", "updatedReplicas", "availableReplicas"].contains(&key.as_str())
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        set("replicas_spec", data["spec"]["replicas"].clone());
        set("status", json!(status));
    };
    match kind {
        "PerconaPGCluster" => {
            set("annotations", json!(annotations));
            set("generation", json!(metadata.generation));
            set("status", data["status"].clone());
            set("spec.crVersion", data["spec"]["crVersion"].clone());
            set("spec.pause", data["spec"]["pause"].clone());
            set("spec.manual", data["spec"]["backups"]["pgbackrest"]["manual"].clone());
        }
        "PostgresCluster" => {
            set("annotations", json!(annotations));
            set("generation", json!(metadata.generation));
            set("status", data["status"].clone());
            set("spec.shutdown", data["spec"]["shutdown"].clone());
        }
        "PerconaPGBackup" => {
            set("annotations", json!(annotations));
            set("generation", json!(metadata.generation));
            set("status", data["status"].clone());
            set("spec", data["spec"].clone());
        }
        "Secret" => {
            set("annotations", json!(annotations));
            if object.name_any().contains("-pguser-") {
                set("pguser", user_secret(data, numbers));
                set("managedFields", managers(object));
            } else {
                let keys: Vec<&String> = data["data"].as_object().into_iter().flat_map(|data| data.keys()).collect();
                set("keys", json!(keys));
                set("type", data["type"].clone());
            }
        }
        "ConfigMap" => {
            let keys: Vec<&String> = data["data"].as_object().into_iter().flat_map(|data| data.keys()).collect();
            set("keys", json!(keys));
        }
        "Service" => service(data, &annotations, &mut set),
        "Endpoints" => endpoints(data, &annotations, &mut set),
        "PersistentVolumeClaim" => set("phase", data["status"]["phase"].clone()),
        "StatefulSet" | "Deployment" => replicas(&mut set),
        "Job" => {
            let conditions: Vec<Value> = data["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|condition| json!([condition["type"], condition["status"], condition["reason"]]))
                .collect();
            set("annotations", json!(annotations));
            set("conditions", json!(conditions));
        }
        "Pod" => pod(data, &annotations, &mut set),
        _ => {}
    }
    view
}

fn service(data: &Value, annotations: &BTreeMap<String, String>, set: &mut dyn FnMut(&str, Value)) {
    let spec = &data["spec"];
    let ports: Vec<Value> =
        spec["ports"].as_array().into_iter().flatten().map(|port| json!([port["name"], port["port"]])).collect();
    set("type", spec["type"].clone());
    set("headless", json!(spec["clusterIP"] == "None"));
    set("selector", spec["selector"].clone());
    set("ports", json!(ports));
    set("annotations", json!(annotations));
    set("publishNotReady", spec["publishNotReadyAddresses"].clone());
}

fn endpoints(data: &Value, annotations: &BTreeMap<String, String>, set: &mut dyn FnMut(&str, Value)) {
    let ips = |subset: &Value, field: &str| -> Vec<Value> {
        subset[field].as_array().into_iter().flatten().map(|address| address["ip"].clone()).collect()
    };
    let subsets: Vec<Value> = data["subsets"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|subset| {
            let ports = subset["ports"].as_array().into_iter().flatten();
            let ports: Vec<Value> = ports.map(|port| json!([port["name"], port["port"]])).collect();
            json!({
                "ips": ips(subset, "addresses"), "notReady": ips(subset, "notReadyAddresses"), "ports": ports,
            })
        })
        .collect();
    set("subsets", json!(subsets));
    set("annotation_keys", json!(annotations.keys().collect::<Vec<_>>()));
    if let Some(leader) = annotations.get("leader") {
        set("leader", json!(leader));
    }
}

fn pod(data: &Value, annotations: &BTreeMap<String, String>, set: &mut dyn FnMut(&str, Value)) {
    let names = |field: &str| -> Vec<Value> {
        data["spec"][field].as_array().into_iter().flatten().map(|container| container["name"].clone()).collect()
    };
    let conditions = data["status"]["conditions"].as_array();
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
    set("phase", data["status"]["phase"].clone());
    set("ready", ready.map_or(Value::Null, |ready| ready["status"].clone()));
    set("containers", json!(names("containers")));
    set("initContainers", json!(names("initContainers")));
    let patroni = annotations.get("status").and_then(|text| serde_json::from_str::<Value>(text).ok());
    set(
        "patroniStatus",
        patroni.map_or(Value::Null, |status| json!({ "role": status["role"], "state": status["state"] })),
    );
}

fn managers(object: &DynamicObject) -> Value {
    let mut seen: Vec<Value> = Vec::new();
    for entry in object.managed_fields() {
        let view = json!({ "manager": entry.manager, "operation": entry.operation });
        if !seen.contains(&view) {
            seen.push(view);
        }
    }
    json!(seen)
}

fn user_secret(data: &Value, numbers: &mut Numbers) -> Value {
    let decode = |text: &Value| base64::engine::general_purpose::STANDARD.decode(text.as_str()?).ok();
    let fields: BTreeMap<String, Vec<u8>> = data["data"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), decode(value)?)))
        .collect();
    let text = |key: &str| fields.get(key).map(|value| String::from_utf8_lossy(value).into_owned());
    let mut view = json!({ "keys": fields.keys().collect::<Vec<_>>(), "type": data["type"] });
    let password = fields.get("password");
    if let Some(password) = password {
        let special = b"()*+,-./:;<=>?@[]^_{|}";
        let ascii = password.iter().all(|byte| byte.is_ascii_alphanumeric() || special.contains(byte));
        let class = if password.is_empty() {
            "empty"
        } else if ascii && password.len() == 24 {
            "ascii-percona"
        } else {
            "other"
        };
        view["password"] = json!({ "id": numbers.of("pw", password), "length": password.len(), "class": class });
    }
    if let Some(verifier) = text("verifier").filter(|verifier| !verifier.is_empty()) {
        view["verifier"] = json!({
            "id": numbers.of("verifier", verifier.as_bytes()),
            "format": "SCRAM-SHA-256$4096:<salt>$<stored>:<server>",
            "matches_password": password.is_some_and(|password| belongs(&verifier, password)),
        });
    }
    for key in ["uri", "pgbouncer-uri", "jdbc-uri", "pgbouncer-jdbc-uri"] {
        let Some(uri) = text(key) else { continue };
        let (before, secret, after) = cut(&uri);
        let current = password.is_some_and(|password| {
            !password.is_empty() && percent_decode_str(secret).collect::<Vec<u8>>() == *password
        });
        view[key] = json!(format!("{before}{}{after}", if current { "<PW>" } else { "<OTHER-PW>" }));
    }
    for key in ["host", "port", "user", "dbname", "pgbouncer-host", "pgbouncer-port"] {
        if let Some(value) = text(key) {
            view[key] = json!(value);
        }
    }
    view
}

/// A URI before, in and after its password.
fn cut(uri: &str) -> (&str, &str, &str) {
    let (start, end) = if uri.starts_with("jdbc:") {
        let start = uri.find("password=").map_or(uri.len(), |at| at + "password=".len());
        (start, uri[start..].find('&').map_or(uri.len(), |at| start + at))
    } else {
        let start = uri.find("://").and_then(|at| uri[at + 3..].find(':').map(|colon| at + 3 + colon + 1));
        let start = start.unwrap_or(uri.len());
        (start, uri[start..].rfind('@').map_or(uri.len(), |at| start + at))
    };
    (&uri[..start], &uri[start..end], &uri[end..])
}
