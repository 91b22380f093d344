//! The objects of a cluster, beside its Secrets.
//!
//! Pure. Source: `contract.md` 5 and the dumps `objects-a.yaml`, `objects-i.yaml`: names, labels, owners, selectors and
//! ports are the recorded ones. Scripts and configuration files are not: no kubelet runs these pods, the double itself does
//! (see `pods`), so their ConfigMaps hold the recorded keys with a word in place of the content.

use serde_json::{Map, Value, json};

use super::backup::objects::{has_repositories, volume};
use super::names::{CRUNCHY, Key, NODE, VERSION};
use crate::postgres::{PORT, Place};

/// What the objects of a cluster are made from.
pub struct Plan<'a> {
    /// Namespace and name.
    pub key: &'a Key,
    /// `spec` of the `PostgresCluster`.
    pub spec: &'a Value,
    /// Owner reference to the `PostgresCluster`, as its controller.
    pub owner: Value,
    /// Where the server is.
    pub place: Place,
}

/// An instance: one PostgreSQL pod and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Name of its instance set.
    pub set: String,
    /// `<cluster>-<set>-<four characters>`.
    pub name: String,
}

impl Plan<'_> {
    fn object(&self, api: &str, kind: &str, name: &str, labels: &Map<String, Value>) -> Value {
        json!({
            "apiVersion": api, "kind": kind,
            "metadata": {
                "namespace": self.key.namespace, "name": name, "labels": labels, "ownerReferences": [self.owner],
            },
        })
    }

    fn service(
        &self,
        suffix: &str,
        labels: &Map<String, Value>,
        headless: bool,
        selector: &Value,
        port: &Value,
    ) -> Value {
        let mut service = self.object("v1", "Service", &self.key.named(suffix), labels);
        service["spec"] = json!({ "type": "ClusterIP", "selector": selector });
        if headless {
            service["spec"]["clusterIP"] = json!("None");
        }
        if port.is_object() {
            service["spec"]["ports"] = json!([port]);
        }
        if service["spec"]["selector"].is_null() {
            service["spec"].as_object_mut().map(|spec| spec.remove("selector"));
        }
        service
    }

    fn postgres_port(&self) -> Value {
        json!({ "name": "postgres", "port": self.place.port, "protocol": "TCP", "targetPort": "postgres" })
    }

    fn selector(&self, role: &str) -> Value {
        let mut selector = self.key.label();
        selector.insert(format!("{CRUNCHY}role"), json!(role));
        Value::Object(selector)
    }

    /// What comes before the certificates: up to ConfigMap `C-config`.
    pub fn first(&self) -> Vec<Value> {
        let label = || self.key.label();
        let mut pods = self.service("pods", &label(), true, &Value::Object(label()), &Value::Null);
        pods["spec"]["publishNotReadyAddresses"] = json!(true);
        let mut objects = vec![pods];
        objects.extend(self.account("instance", &label()));
        let mut config = self.object("v1", "ConfigMap", &self.key.named("config"), &label());
        config["data"] = json!({ "patroni.yaml": "double" });
        objects.push(config);
        objects
    }

    /// `ServiceAccount`, `Role` and `RoleBinding` `C-<suffix>`.
    pub fn account(&self, suffix: &str, labels: &Map<String, Value>) -> [Value; 3] {
        const RBAC: &str = "rbac.authorization.k8s.io/v1";
        let name = self.key.named(suffix);
        let account = self.object("v1", "ServiceAccount", &name, labels);
        let mut role = self.object(RBAC, "Role", &name, labels);
        role["rules"] = json!([]);
        let mut binding = self.object(RBAC, "RoleBinding", &name, labels);
        binding["roleRef"] = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
        binding["subjects"] = json!([{ "kind": "ServiceAccount", "name": name }]);
        [account, role, binding]
    }

    /// The Service that Patroni's leader stands behind.
    pub fn leader(&self) -> Value {
        let patroni = self.key.named("ha");
        let labels = self.key.labels([("patroni", patroni.as_str())]);
        self.service("ha", &labels, false, &Value::Null, &self.postgres_port())
    }

    /// Service and Endpoints `C-primary` (whose address is the leader Service's) and Service `C-replicas`.
    pub fn roles(&self, leader: &str) -> Vec<Value> {
        let labels = |role| self.key.labels([("role", role), ("app.kubernetes.io/component", "pg")]);
        let mut endpoints = self.object("v1", "Endpoints", &self.key.named("primary"), &labels("primary"));
        endpoints["subsets"] = json!([{
            "addresses": [{ "ip": leader }], "ports": [{ "name": "postgres", "port": self.place.port, "protocol": "TCP" }],
        }]);
        vec![
            self.service("primary", &labels("primary"), true, &Value::Null, &self.postgres_port()),
            endpoints,
            self.service("replicas", &labels("replica"), false, &self.selector("replica"), &self.postgres_port()),
        ]
    }

    /// The Service that Patroni keeps its configuration under.
    pub fn configuration(&self) -> Value {
        let patroni = self.key.named("ha");
        self.service("ha-config", &self.key.labels([("patroni", patroni.as_str())]), true, &Value::Null, &Value::Null)
    }

    /// The labels of everything that belongs to one instance.
    pub fn instance_labels<'a>(
        &self,
        replica: &'a Replica,
        more: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Map<String, Value> {
        let common = [
            ("instance", replica.name.as_str()),
            ("instance-set", replica.set.as_str()),
            ("pgv2.percona.com/version", VERSION),
        ];
        self.key.labels(common.into_iter().chain(more))
    }

    /// ConfigMap, volume claim and StatefulSet of one instance. The claim has no owner: it outlives the cluster.
    pub fn instance(&self, replica: &Replica, set: &Value, replicas: i64) -> [Value; 3] {
        let labels = self.instance_labels(replica, [("app.kubernetes.io/component", "pg")]);
        let mut config = self.object("v1", "ConfigMap", &format!("{}-config", replica.name), &labels);
        config["data"] = json!({ "patroni.yaml": "double" });

        let labels = self.instance_labels(replica, [("role", "pgdata"), ("data", "postgres")]);
        let mut claim = self.object("v1", "PersistentVolumeClaim", &claim(&replica.name), &labels);
        claim["metadata"].as_object_mut().map(|metadata| metadata.remove("ownerReferences"));
        claim["spec"] = set["dataVolumeClaimSpec"].clone();

        let labels = self.instance_labels(replica, [("app.kubernetes.io/component", "pg"), ("data", "postgres")]);
        let mut pod_labels = labels.clone();
        pod_labels.insert(format!("{CRUNCHY}patroni"), json!(self.key.named("ha")));
        let mut selector = self.key.label();
        selector.insert(format!("{CRUNCHY}instance"), json!(replica.name));
        selector.insert(format!("{CRUNCHY}instance-set"), json!(replica.set));
        let image = &self.spec["image"];
        let container = |name: &str| json!({ "name": name, "image": image });
        let mut containers = vec![
            json!({ "name": "database", "image": image,
                "ports": [{ "name": "postgres", "containerPort": self.place.listen.port(), "protocol": "TCP" }] }),
            container("replication-cert-copy"),
        ];
        let mut volumes = vec![json!({
            "name": "postgres-data", "persistentVolumeClaim": { "claimName": claim["metadata"]["name"] },
        })];
        if has_repositories(self.spec) {
            containers.extend([container("pgbackrest"), container("pgbackrest-config")]);
            volumes.push(volume(self.key, self.spec, "pgbackrest_instance.conf"));
        }
        let mut stateful = self.object("apps/v1", "StatefulSet", &replica.name, &labels);
        stateful["spec"] = json!({
            "replicas": replicas,
            "serviceName": self.key.named("pods"),
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": { "type": "OnDelete" },
            "selector": { "matchLabels": selector },
            "template": {
                "metadata": { "labels": pod_labels },
                "spec": {
                    "nodeName": NODE,
                    "serviceAccountName": self.key.named("instance"),
                    "automountServiceAccountToken": false,
                    "subdomain": self.key.named("pods"),
                    "initContainers": [
                        container("database-init"), container("postgres-startup"), container("nss-wrapper-init"),
                    ],
                    "containers": containers,
                    "volumes": volumes,
                },
            },
        });
        restrict(&mut stateful);
        [config, claim, stateful]
    }

    /// Service, ConfigMap and Deployment of PgBouncer.
    pub fn pgbouncer(&self, replicas: i64) -> [Value; 3] {
        let labels = || pgbouncer_labels(self.key);
        let bouncer = &self.spec["proxy"]["pgBouncer"];
        let port = bouncer["port"].as_u64().and_then(|port| port.try_into().ok()).unwrap_or(PORT);
        let of_postgresql = port == PORT;
        let (port, listening) = if of_postgresql { (self.place.port, self.place.listen.port()) } else { (port, port) };
        let service = self.service(
            "pgbouncer",
            &labels(),
            false,
            &self.selector("pgbouncer"),
            &json!({ "name": "pgbouncer", "port": port, "protocol": "TCP", "targetPort": "pgbouncer" }),
        );
        let mut config = self.object("v1", "ConfigMap", &self.key.named("pgbouncer"), &labels());
        config["data"] = json!({ "pgbouncer-empty": "", "pgbouncer.ini": "double" });
        let mut deployment = self.object("apps/v1", "Deployment", &self.key.named("pgbouncer"), &labels());
        let image = &bouncer["image"];
        deployment["spec"] = json!({
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": "25%" } },
            "selector": { "matchLabels": self.selector("pgbouncer") },
            "template": {
                "metadata": { "labels": labels() },
                "spec": {
                    "nodeName": NODE,
                    "automountServiceAccountToken": false,
                    "containers": [
                        { "name": "pgbouncer", "image": image,
                          "ports": [{ "name": "pgbouncer", "containerPort": listening, "protocol": "TCP" }] },
                        { "name": "pgbouncer-config", "image": image },
                    ],
                },
            },
        });
        restrict(&mut deployment);
        [service, config, deployment]
    }
}

/// Gives every container of a workload's template what Percona's have, so that it may run under the strictest of the Pod
/// Security Standards.
pub fn restrict(workload: &mut Value) {
    let spec = &mut workload["spec"]["template"]["spec"];
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["securityContext"] = json!({
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
            });
        }
    }
}

/// Endpoints that Patroni itself writes: no owner, two labels. With a `leader`, they lead to its address.
pub fn patroni(key: &Key, suffix: &str, port: u16, annotations: &Value, leader: Option<&str>) -> Value {
    let mut labels = key.label();
    labels.insert(format!("{CRUNCHY}patroni"), json!(key.named("ha")));
    let addresses = |ip| json!([{ "ip": ip }]);
    let ports = json!([{ "name": "postgres", "port": port, "protocol": "TCP" }]);
    let subsets = leader.map_or(json!([]), |ip| json!([{ "addresses": addresses(ip), "ports": ports }]));
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "namespace": key.namespace, "name": key.named(suffix), "labels": labels, "annotations": annotations,
        },
        "subsets": subsets,
    })
}

/// The labels of everything that belongs to PgBouncer.
pub fn pgbouncer_labels(key: &Key) -> Map<String, Value> {
    key.labels([
        ("app.kubernetes.io/component", "pgbouncer"),
        ("pgv2.percona.com/version", VERSION),
        ("role", "pgbouncer"),
    ])
}

/// Name of an instance's volume claim.
pub fn claim(instance: &str) -> String {
    format!("{instance}-pgdata")
}

/// A Secret without an owner: it outlives the cluster.
pub fn secret(key: &Key, name: &str, labels: &Map<String, Value>, data: &[(&str, &[u8])]) -> Value {
    use base64::Engine as _;
    let encode = |value: &[u8]| base64::engine::general_purpose::STANDARD.encode(value);
    let data: Map<String, Value> =
        data.iter().map(|(name, value)| ((*name).to_owned(), json!(encode(value)))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
        "metadata": { "namespace": key.namespace, "name": name, "labels": labels },
    })
}
