//! Access to the API server, as a kubeconfig file and as a client configuration.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};

use crate::pki::Identity;
use crate::private;

/// The one name used in the file for cluster, user and context.
const NAME: &str = "dittofs-conformance";

/// Who calls which API server.
#[derive(Clone, Debug)]
pub struct Access {
    kubeconfig: Kubeconfig,
}

impl Access {
    /// Access by a client certificate.
    pub fn by_certificate(server: &str, authority: &str, identity: &Identity) -> Self {
        Self::new(
            server,
            authority,
            "default",
            AuthInfo {
                client_certificate_data: Some(STANDARD.encode(&identity.certificate)),
                client_key_data: Some(STANDARD.encode(&identity.key).into()),
                ..AuthInfo::default()
            },
        )
    }

    /// Access to the same server by a bearer token, such as one of a service account.
    ///
    /// The token is registered with [`crate::redact`].
    #[must_use]
    pub fn with_token(&self, namespace: &str, token: &str) -> Self {
        crate::redact::register(token);
        let mut access = self.clone();
        for user in &mut access.kubeconfig.auth_infos {
            user.auth_info = Some(AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() });
        }
        for context in &mut access.kubeconfig.contexts {
            if let Some(context) = &mut context.context {
                context.namespace = Some(namespace.to_owned());
            }
        }
        access
    }

    /// Access by the same credentials to another server, whose certificate is signed by `authority` (PEM).
    #[must_use]
    pub fn through(&self, server: &str, authority: &str) -> Self {
        let mut access = self.clone();
        for cluster in access.kubeconfig.clusters.iter_mut().filter_map(|cluster| cluster.cluster.as_mut()) {
            cluster.server = Some(server.to_owned());
            cluster.certificate_authority_data = Some(STANDARD.encode(authority));
        }
        access
    }

    fn new(server: &str, authority: &str, namespace: &str, user: AuthInfo) -> Self {
        let cluster = Cluster {
            server: Some(server.to_owned()),
            certificate_authority_data: Some(STANDARD.encode(authority)),
            ..Cluster::default()
        };
        let context = Context {
            cluster: NAME.to_owned(),
            user: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..Context::default()
        };
        Self {
            kubeconfig: Kubeconfig {
                kind: Some("Config".to_owned()),
                api_version: Some("v1".to_owned()),
                clusters: vec![NamedCluster { name: NAME.to_owned(), cluster: Some(cluster), ..Default::default() }],
                auth_infos: vec![NamedAuthInfo { name: NAME.to_owned(), auth_info: Some(user), ..Default::default() }],
                contexts: vec![NamedContext { name: NAME.to_owned(), context: Some(context), ..Default::default() }],
                current_context: Some(NAME.to_owned()),
                ..Kubeconfig::default()
            },
        }
    }

    /// Writes the kubeconfig, readable by its owner only.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_yaml::to_string(&self.kubeconfig).map_err(io::Error::other)?;
        private::write(path, text)
    }

    /// The client configuration.
    pub async fn config(&self) -> anyhow::Result<kube::Config> {
        kube::Config::from_custom_kubeconfig(self.kubeconfig.clone(), &KubeConfigOptions::default())
            .await
            .context("reading our own kubeconfig")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let identity = Identity { certificate: "certificate".to_owned(), key: "key".to_owned() };
        Access::by_certificate("https://127.0.0.1:6443", "authority", &identity)
    }

    fn rendered(access: &Access) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        access.write(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_kubeconfig_holds_the_certificate() {
        insta::assert_snapshot!(rendered(&access()));
    }

    #[test]
    fn a_token_replaces_the_certificate() {
        insta::assert_snapshot!(rendered(&access().with_token("dittofs-system", "a-token")));
    }
}
