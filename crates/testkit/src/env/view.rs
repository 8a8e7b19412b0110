//! Reading what `node-agent pods -o json` prints.

use serde_json::Value;

/// The view of one pod, by its name with or without the node's name that static pods get.
#[must_use]
pub fn pod<'a>(view: &'a Value, name: &str) -> Option<&'a Value> {
    view["items"].as_array()?.iter().find(|pod| {
        let found = pod["metadata"]["name"].as_str().unwrap_or_default();
        found == name || found.strip_suffix("-node1") == Some(name)
    })
}

/// The status of one container of a pod, init containers included.
#[must_use]
pub fn container_status<'a>(view: &'a Value, pod_name: &str, container: &str) -> Option<&'a Value> {
    let status = &pod(view, pod_name)?["status"];
    ["containerStatuses", "initContainerStatuses"]
        .iter()
        .filter_map(|list| status[list].as_array())
        .flatten()
        .find(|status| status["name"] == container)
}

/// Whether the pod's condition `Ready` is true.
#[must_use]
pub fn is_ready(view: &Value, pod_name: &str) -> bool {
    let conditions = pod(view, pod_name).and_then(|pod| pod["status"]["conditions"].as_array());
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_and_containers_are_found_by_the_names_in_the_manifest() {
        let view = json!({"items": [{
            "metadata": {"name": "web-node1"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "app", "restartCount": 2}],
                "initContainerStatuses": [{"name": "first", "restartCount": 0}],
            },
        }]});
        assert!(is_ready(&view, "web"));
        assert!(!is_ready(&view, "web2"));
        assert_eq!(container_status(&view, "web-node1", "app").unwrap()["restartCount"], 2);
        assert!(container_status(&view, "web", "first").is_some());
        assert!(container_status(&view, "web", "other").is_none());
    }
}
