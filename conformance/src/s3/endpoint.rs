//! Where an object storage is and who may use it.

use std::fmt;

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

/// The access key that a server accepts, and its secret key.
pub(super) struct Key {
    pub access: String,
    pub secret: String,
}

impl Key {
    /// Makes an access key with a secret key, of the lengths that AWS uses.
    pub fn generate() -> Self {
        let access = format!("AKIA{}", Alphanumeric.sample_string(&mut rand::rng(), 16).to_uppercase());
        let secret = Alphanumeric.sample_string(&mut rand::rng(), 40);
        redact::register(&secret);
        Self { access, secret }
    }
}

#[async_trait::async_trait]
impl s3s::auth::S3Auth for Key {
    async fn get_secret_key(&self, access: &str) -> s3s::S3Result<s3s::auth::SecretKey> {
        if access == self.access {
            return Ok(self.secret.as_str().into());
        }
        // The library's own `SimpleAuth` says `NotSignedUp`, which S3 does not.
        Err(s3s::s3_error!(InvalidAccessKeyId))
    }
}
