//! Reads what a container's environment or a pod's volumes refer to.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::{Api, Client};

use super::variables::{Reference, Sources};

/// What is there of `references`, as it is now.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    references: impl IntoIterator<Item = Reference>,
) -> kube::Result<Sources> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    let mut sources = Sources::default();
    for reference in references {
        match reference {
            Reference::Secret(name) => {
                sources.secrets.extend(secrets.get_opt(&name).await?.map(|secret| (name, secret)));
            }
            Reference::ConfigMap(name) => {
                sources.config_maps.extend(config_maps.get_opt(&name).await?.map(|map| (name, map)));
            }
            Reference::Claim(name) => {
                sources.claims.extend(claims.get_metadata_opt(&name).await?.map(|_| name));
            }
        }
    }
    Ok(sources)
}
