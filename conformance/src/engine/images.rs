//! Images that pods of a scenario wait for in vain: nothing that is waited for can come then.
//!
//! Pure but for the watch that it reads.

use std::sync::Arc;

use serde_json::Value;

use super::containers::statuses;
use super::trouble::Trouble;
use super::watch::Feed;

/// Why a container waits for an image that it will not get by itself: the reasons of the kubelet.
const REASONS: [&str; 4] = ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"];

/// Waits until a pod in `pods` cannot start for lack of an image. One that `scenario`, the text of the file, names by itself
/// may be missing on purpose.
pub async fn missing(pods: Arc<Feed>, scenario: &str) -> Trouble {
    let mut changes = pods.changes();
    loop {
        let found = pods.read(|record| record.objects().values().find_map(|pod| lacking(pod, scenario)));
        if let Some(message) = found {
            return Trouble::broken(message);
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a pod lacks, as its status has it, and what to do.
fn lacking(pod: &Value, scenario: &str) -> Option<String> {
    statuses(pod).find_map(|container| {
        let waiting = &container["state"]["waiting"];
        let reason = waiting["reason"].as_str().filter(|reason| REASONS.contains(reason))?;
        let image = container["image"].as_str().unwrap_or_default();
        if !image.is_empty() && scenario.contains(image) {
            return None;
        }
        Some(format!(
            "container {} of pod {} cannot start, for its image {image} is not to be had ({reason}: {}); on kind, \
             `--image-archive` puts an image into the nodes",
            container["name"].as_str().unwrap_or_default(),
            pod["metadata"]["name"].as_str().unwrap_or_default(),
            waiting["message"].as_str().unwrap_or("no message"),
        ))
    })
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::super::watch::Kind;
    use super::*;

    fn pod(reason: &str) -> Value {
        json!({
            "metadata": {"name": "demo-0"},
            "status": {"initContainerStatuses": [{"name": "wait", "image": "postgres:16-alpine", "state": {
                "waiting": {"reason": reason, "message": "not found"}}}]},
        })
    }

    #[test]
    fn a_missing_image_is_named_with_its_pod_and_what_to_do() {
        insta::assert_snapshot!(lacking(&pod("ErrImageNeverPull"), "").unwrap(), @"container wait of pod demo-0 cannot start, for its image postgres:16-alpine is not to be had (ErrImageNeverPull: not found); on kind, `--image-archive` puts an image into the nodes");
    }

    #[rstest::rstest]
    #[case::not_yet("ContainerCreating", "")]
    #[case::for_lack_of_a_key("CreateContainerConfigError", "")]
    #[case::on_purpose("ErrImagePull", "image: postgres:16-alpine")]
    fn other_reasons_and_the_scenario_s_own_images_say_nothing(#[case] reason: &str, #[case] scenario: &str) {
        assert_eq!(lacking(&pod(reason), scenario), None);
    }

    #[tokio::test]
    async fn a_pod_that_comes_later_ends_the_wait() {
        let feed = Arc::new(Feed::new(Kind::new("v1", "Pod"), Some("a".to_owned())));
        let waiting = tokio::spawn(missing(feed.clone(), ""));
        feed.observe(Event::Init);
        feed.observe(Event::InitDone);
        let pod: DynamicObject = serde_json::from_value(pod("ErrImagePull")).unwrap();
        feed.observe(Event::Apply(pod));
        assert!(matches!(waiting.await.unwrap(), Trouble::Broken(message) if message.contains("pod demo-0")));
    }
}
