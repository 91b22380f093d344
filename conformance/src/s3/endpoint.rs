//! Where an object storage is and who may use it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rand::distr::{Alphanumeric, SampleString as _};
use serde::{Deserialize, Serialize};

use crate::redact;

/// How to reach an object storage: together with a bucket's name, the value of `$env.s3` in a scenario.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// `host:port`, as pgBackRest wants it. The protocol is always HTTPS and the style of addresses is path style.
    pub endpoint: String,
    /// The same for this machine, when `endpoint` is a name that only a cluster knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// The region that signatures name.
    pub region: String,
    /// Access key.
    pub access_key: String,
    /// Secret key, registered with [`redact`].
    pub secret_key: String,
    /// PEM of the CA that signed the server's certificate.
    pub ca: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, access_key, .. } = self;
        formatter
            .debug_struct("Endpoint")
            .field("endpoint", endpoint)
            .field("region", region)
            .field("access_key", access_key)
            .finish_non_exhaustive()
    }
}

/// The access keys that a server accepts, and their secret keys. They can be added and revoked while it runs.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<BTreeMap<String, String>>>);

impl Keys {
    /// Makes an access key with a secret key of the lengths that AWS uses, and accepts it from now on.
    pub fn generate(&self) -> (String, String) {
        let access = format!("AKIA{}", Alphanumeric.sample_string(&mut rand::rng(), 16).to_uppercase());
        let secret = Alphanumeric.sample_string(&mut rand::rng(), 40);
        self.add(&access, &secret);
        (access, secret)
    }

    /// Accepts `secret` for `access`, in place of what was accepted before.
    pub fn add(&self, access: &str, secret: &str) {
        redact::register(secret);
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(access.to_owned(), secret.to_owned());
    }

    /// Refuses `access` from now on, also on connections that are open.
    pub fn revoke(&self, access: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(access);
    }
}

#[async_trait::async_trait]
impl s3s::auth::S3Auth for Keys {
    async fn get_secret_key(&self, access: &str) -> s3s::S3Result<s3s::auth::SecretKey> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(access).map(|secret| secret.as_str().into()).ok_or_else(|| s3s::s3_error!(InvalidAccessKeyId))
    }
}
