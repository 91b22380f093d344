//! What a pod and a container need before they can run.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt as _;

use super::Worker;
use crate::node::surroundings::Surroundings;
use crate::node::{Image, NODE_ADDRESS, mounts, sources, variables};

impl Worker {
    /// Looks whether all that the pod's volumes are made of is there. What is missing is told once.
    pub(super) async fn set_up_volumes(&mut self) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let namespace = self.pod.namespace().unwrap_or_default();
        let read = sources::read(&self.context.client, &namespace, mounts::references(&spec)).await;
        let missing = read.map(|sources| mounts::missing(&spec, &namespace, &sources));
        match missing {
            Ok(missing) if missing.is_empty() => self.lifecycle.has_volumes(),
            Ok(missing) => {
                self.lifecycle.lacks_volumes(Timestamp::now());
                for message in missing {
                    if self.told.insert(message.clone()) {
                        self.warn("FailedMount", message);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(pod = self.pod.name_any(), %error, "cannot read what a pod's volumes are made of");
                self.lifecycle.has_unread_volumes(Timestamp::now());
            }
        }
    }

    pub(super) async fn surroundings(&self, container: &Container, image: &Image) -> Result<Surroundings, String> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let read = sources::read(&self.context.client, &namespace, variables::references(container));
        let sources = read.await.map_err(|error| error.to_string())?;
        let mut pod = self.pod.clone();
        let status = pod.status.get_or_insert_default();
        status.pod_ip = Some(self.address.pod().to_string());
        status.host_ip = Some(NODE_ADDRESS.to_string());
        let directory = self.directory.join(&container.name);
        Surroundings::new(&pod, container, image, &self.address, &sources, &self.context.hosts, &directory)
            .map_err(|error| error.to_string())
    }
}
