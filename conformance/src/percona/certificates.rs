//! The certificate authority of a cluster and what it signs.
//!
//! The certificate in `<cluster>-cluster-cert` is the one that PostgreSQL really shows; the others are real too, so that
//! whoever reads these Secrets finds what the real operator puts there.

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::context::{Context, Kind};
use super::names::{Key, owner};
use super::objects::{Plan, Replica, pgbouncer_labels, secret};
use super::secret::{Data, PasswordType, generate};
use crate::pki::{Authority, Identity, PkiError};

/// Common name of every cluster's authority, as the real operator has it.
const AUTHORITY: &str = "postgres-operator-ca";

/// A certificate could not be made, or the API server refused it.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// The decoded data of a Secret; empty when there is none.
pub fn data(secret: Option<&DynamicObject>) -> Data {
    use base64::Engine as _;
    let decode = |text: &Value| base64::engine::general_purpose::STANDARD.decode(text.as_str()?).ok();
    let fields = secret.and_then(|secret| secret.data["data"].as_object());
    fields.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), decode(value)?))).collect()
}

fn text(data: &Data, key: &str) -> String {
    data.get(key).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// What a cluster's certificates are made with.
pub struct Issuer<'a> {
    context: &'a Context,
    plan: &'a Plan<'a>,
    authority: Authority,
}

impl<'a> Issuer<'a> {
    /// The authority in Secret `C-cluster-ca-cert`, which dies with the cluster; a new one when it is not there.
    pub async fn new(
        context: &'a Context,
        plan: &'a Plan<'a>,
        inner: &DynamicObject,
    ) -> Result<Self, CertificateError> {
        let name = plan.key.named("cluster-ca-cert");
        let held = data(context.get(Kind::SECRET, &plan.key.namespace, &name).await?.as_ref());
        if let Ok(authority) = Authority::from_pem(&text(&held, "root.crt"), &text(&held, "root.key")) {
            return Ok(Self { context, plan, authority });
        }
        let authority = Authority::create(AUTHORITY)?;
        let key = authority.key();
        let pair = [("root.crt", authority.certificate().as_bytes()), ("root.key", key.as_bytes())];
        let mut object = secret(plan.key, &name, &Map::new(), &pair);
        object["metadata"]["ownerReferences"] = json!([owner(inner, false)]);
        context.apply(&object).await?;
        Ok(Self { context, plan, authority })
    }

    /// Applies a Secret unless it holds certificates of this authority already.
    async fn secret(
        &self,
        name: &str,
        labels: &Map<String, Value>,
        authority_key: &str,
        issue: impl FnOnce() -> Result<Vec<(&'static str, String)>, PkiError>,
    ) -> Result<(), CertificateError> {
        let held = data(self.context.get(Kind::SECRET, &self.plan.key.namespace, name).await?.as_ref());
        if text(&held, authority_key) == self.authority.certificate() {
            return Ok(());
        }
        let issued = issue()?;
        let fields: Vec<(&str, &[u8])> = issued.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        self.context.apply(&secret(self.plan.key, name, labels, &fields)).await?;
        Ok(())
    }

    fn root(&self) -> String {
        self.authority.certificate().to_owned()
    }

    fn pair(&self, identity: Identity) -> Vec<(&'static str, String)> {
        vec![("ca.crt", self.root()), ("tls.crt", identity.certificate), ("tls.key", identity.key)]
    }

    /// Secret `C-replication-cert`: a client's.
    pub async fn replication(&self) -> Result<(), CertificateError> {
        let name = self.plan.key.named("replication-cert");
        let labels = self.plan.key.labels([("cluster-certificate", "replication-client-tls")]);
        self.secret(&name, &labels, "ca.crt", || Ok(self.pair(self.authority.client("_crunchyrepl", None)?))).await
    }

    /// Secret `C-cluster-cert`: what PostgreSQL shows.
    ///
    /// The double has no PgBouncer: its Service leads to PostgreSQL itself, so the certificate holds that name too.
    pub async fn cluster(&self) -> Result<(), CertificateError> {
        let labels = self.plan.key.labels([("cluster-certificate", "postgres-tls")]);
        let names = ["primary", "replicas", "pgbouncer"].into_iter().flat_map(|service| names(self.plan.key, service));
        let make = || Ok(self.pair(self.authority.server(names)?));
        self.secret(&self.plan.key.named("cluster-cert"), &labels, "ca.crt", make).await
    }

    /// Secret `I-certs` of an instance.
    pub async fn instance(&self, replica: &Replica) -> Result<(), CertificateError> {
        let labels = self.plan.instance_labels(replica, []);
        let name = format!("{}-certs", replica.name);
        self.secret(&name, &labels, "patroni.ca-roots", || {
            let dns = self.authority.server([format!("{}-0.{}", replica.name, self.plan.key.named("pods"))])?;
            let combined = format!("{}{}", dns.key, dns.certificate);
            Ok(vec![
                ("dns.crt", dns.certificate.clone()),
                ("dns.key", dns.key.clone()),
                ("patroni.ca-roots", self.root()),
                ("patroni.crt-combined", combined),
                ("pgbackrest-server.crt", dns.certificate),
                ("pgbackrest-server.key", dns.key),
            ])
        })
        .await
    }

    /// Secret `C-pgbackrest`: of the repository host and those who talk to it.
    pub async fn repo_host(&self) -> Result<(), CertificateError> {
        let key = self.plan.key;
        let labels = key.labels([
            ("pgbackrest", ""),
            ("pgbackrest-config", ""),
            ("pgv2.percona.com/version", super::names::VERSION),
        ]);
        let make = || {
            let client = self.authority.client(&format!("pgbackrest@{}", key.name), None)?;
            let host = self.authority.server([format!("{}-0.{}", key.named("repo-host"), key.named("pods"))])?;
            Ok(vec![
                ("pgbackrest-client.crt", client.certificate),
                ("pgbackrest-client.key", client.key),
                ("pgbackrest-repo-host.crt", host.certificate),
                ("pgbackrest-repo-host.key", host.key),
                ("pgbackrest.ca-roots", self.root()),
            ])
        };
        self.secret(&key.named("pgbackrest"), &labels, "pgbackrest.ca-roots", make).await
    }

    /// Secret `C-pgbouncer`.
    pub async fn pgbouncer(&self) -> Result<(), CertificateError> {
        let make = || {
            let front = self.authority.server(names(self.plan.key, "pgbouncer"))?;
            let password = generate(PasswordType::AlphaNumeric, &mut rand::rng());
            crate::redact::register(&password);
            let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
            Ok(vec![
                ("pgbouncer-frontend.ca-roots", self.root()),
                ("pgbouncer-frontend.crt", front.certificate),
                ("pgbouncer-frontend.key", front.key),
                ("pgbouncer-users.txt", format!("\"_crunchypgbouncer\" \"{password}\"\n")),
                ("pgbouncer-password", password),
                ("pgbouncer-verifier", verifier),
            ])
        };
        let labels = pgbouncer_labels(self.plan.key);
        self.secret(&self.plan.key.named("pgbouncer"), &labels, "pgbouncer-frontend.ca-roots", make).await
    }
}

/// The names of a Service, the one that the user Secret uses first.
fn names(key: &Key, service: &str) -> [String; 5] {
    let (name, namespace) = (key.named(service), &key.namespace);
    [
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
        format!("{name}.{namespace}.svc.cluster.local."),
        format!("{name}.{namespace}"),
        name,
    ]
}
