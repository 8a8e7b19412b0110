//! Events about pods that do not run because their own source has another one of their name.
//! Rule: upstream `pkg/kubelet/config/config.go` `filterInvalidPods`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use apiserver_sync::events::Recorder;
use kube_model::PodUid;
use kube_model::core::Pod;
use kube_model::pod::identity;
use kube_model::view::EventType;
use pod_manager::{Conflict, PodManager};

/// Tells of each such pod when it comes; the kubelet does so whenever it reads the source.
pub(super) struct Duplicates {
    recorder: Recorder,
    reported: Mutex<BTreeSet<PodUid>>,
}

impl Duplicates {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, reported: Mutex::default() }
    }

    /// To be called when the pods or the conflicts between them may have changed.
    pub(super) fn tell(&self, pods: &PodManager) {
        let now: Vec<&Conflict> = of_one_source(pods).collect();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for conflict in now.iter().filter(|conflict| !reported.contains(&conflict.uid)) {
            let (pod, message) = refusal(conflict);
            self.recorder.pod(&pod, None, EventType::Warning, "FailedValidation", message);
        }
        *reported = now.into_iter().map(|conflict| conflict.uid.clone()).collect();
    }
}

/// Pods of two sources may share a name: the second comes in by itself when the first lets go.
fn of_one_source(pods: &PodManager) -> impl Iterator<Item = &Conflict> {
    let has_its_name = |c: &&Conflict| pods.by_key(&c.key).is_some_and(|pod| identity(pod).0 == c.holder);
    pods.conflicts().iter().filter(|c| c.source == c.holder_source).filter(has_its_name)
}

/// The pod, as far as an event names it, and what is said.
fn refusal(conflict: &Conflict) -> (Pod, String) {
    let Conflict { source, uid, key, .. } = conflict;
    let mut pod = Pod::default();
    pod.metadata.name = Some(key.name.to_string());
    pod.metadata.namespace = Some(key.namespace.to_string());
    pod.metadata.uid = Some(uid.to_string());
    let (name, namespace) = (&key.name, &key.namespace);
    let message = format!(
        "Error validating pod {name}_{namespace}({uid}) from {source} due to duplicate pod name {name:?}, ignoring"
    );
    (pod, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pod(name: &str, uid: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some("default".to_owned());
        pod.metadata.uid = Some(uid.to_owned());
        Arc::new(pod)
    }

    #[test]
    fn only_the_later_pod_of_the_same_source_is_refused() {
        let mut pods = PodManager::new(["file", "http"]);
        pods.apply("file", vec![pod("web", "1"), pod("web", "2"), pod("db", "3"), pod("other", "3")]);
        pods.apply("http", vec![pod("web", "4")]);
        assert_eq!(pods.conflicts().len(), 3);
        let refused: Vec<_> = of_one_source(&pods).map(refusal).collect();
        let [(refused, message)] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!(identity(refused).0, "2".into());
        assert_eq!(
            message,
            "Error validating pod web_default(2) from file due to duplicate pod name \"web\", ignoring"
        );
    }
}
