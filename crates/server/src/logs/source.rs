//! Which instance of a container a log is wanted of. Rule and texts: upstream `pkg/kubelet/kubelet_pods.go`
//! `validateContainerLogStatus`.

use kube_model::core::PodStatus;
use kube_model::pod::container_statuses;

/// The runtime's ID with its scheme (`containerd://...`), or what to tell the client.
pub(crate) fn container_id<'a>(
    pod: &str,
    status: &'a PodStatus,
    container: &str,
    previous: bool,
) -> Result<&'a str, String> {
    let which = format!("container {container:?} in pod {pod:?}");
    let Some(status) = container_statuses(status).find(|status| status.name == container) else {
        return Err(format!("{which} is not available"));
    };
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last_id = last.and_then(|last| last.container_id.as_deref()).filter(|id| !id.is_empty());
    if previous {
        return last_id.ok_or(format!("previous terminated {which} not found"));
    }
    let state = status.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        return Ok(status.container_id.as_deref().unwrap_or_default());
    }
    if let Some(terminated) = state.and_then(|state| state.terminated.as_ref()) {
        let own = terminated.container_id.as_deref().filter(|id| !id.is_empty());
        // Without one of its own the next instance was never made.
        return own.or(last_id).ok_or(format!("{which} is terminated"));
    }
    if last.is_some() {
        return last_id.ok_or(format!("{which} is terminated"));
    }
    let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) else {
        return Err(format!("{which} is waiting to start - no logs yet"));
    };
    Err(match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" => format!("{which} is waiting to start: image can't be pulled"),
        "ImagePullBackOff" => format!("{which} is waiting to start: trying and failing to pull image"),
        reason => format!("{which} is waiting to start: {reason}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_state_of_a_container_says_which_log_there_is() {
        let running = json!({ "running": {} });
        let ended = |id: &str| json!({ "terminated": { "exitCode": 1, "containerID": id } });
        let waiting = |reason: &str| json!({ "waiting": { "reason": reason } });
        let text = |text: &str| Err(text.replace("app", "container \"app\" in pod \"p\""));
        for (name, state, last, previous, expected) in [
            ("running", running.clone(), json!({}), false, Ok("c://now")),
            ("running, its previous one", running.clone(), ended("c://old"), true, Ok("c://old")),
            (
                "running, without a previous one",
                running,
                json!({}),
                true,
                text("previous terminated app not found"),
            ),
            ("ended", ended("c://end"), ended("c://old"), false, Ok("c://end")),
            ("ended, never made", ended(""), ended("c://old"), false, Ok("c://old")),
            ("ended, none ever made", ended(""), json!({}), false, text("app is terminated")),
            ("backing off", waiting("CrashLoopBackOff"), ended("c://old"), false, Ok("c://old")),
            (
                "backing off, none ever made",
                waiting("CrashLoopBackOff"),
                ended(""),
                false,
                text("app is terminated"),
            ),
            (
                "pulling",
                waiting("ErrImagePull"),
                json!({}),
                false,
                text("app is waiting to start: image can't be pulled"),
            ),
            (
                "pulling again",
                waiting("ImagePullBackOff"),
                json!({}),
                false,
                text("app is waiting to start: trying and failing to pull image"),
            ),
            (
                "creating",
                waiting("ContainerCreating"),
                json!({}),
                false,
                text("app is waiting to start: ContainerCreating"),
            ),
            ("unknown", json!({}), json!({}), false, text("app is waiting to start - no logs yet")),
        ] {
            let status: PodStatus = serde_json::from_value(json!({ "initContainerStatuses": [{
                "name": "app", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                "containerID": "c://now", "state": state, "lastState": last,
            }] }))
            .unwrap();
            assert_eq!(container_id("p", &status, "app", previous), expected, "{name}");
        }
        let none = PodStatus::default();
        assert_eq!(container_id("p", &none, "app", false), text("app is not available"));
    }
}
