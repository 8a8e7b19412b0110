//! Pods that go by another UID than the one that their source made of the manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::core::Pod;
use kube_model::{PodUid, labels, pod};

#[derive(Debug, Default)]
pub(super) struct Renamed {
    /// By the UID of the source.
    uids: BTreeMap<PodUid, PodUid>,
    /// What was made of such a pod, by its source and its UID there: one that did not change keeps its `Arc`.
    made: BTreeMap<(&'static str, PodUid), Made>,
}

#[derive(Debug)]
struct Made {
    of: Arc<Pod>,
    renamed: Arc<Pod>,
}

impl Renamed {
    pub(super) fn add(&mut self, uids: impl IntoIterator<Item = (PodUid, PodUid)>) {
        self.uids.extend(uids.into_iter().filter(|(own, other)| own != other));
    }

    /// What goes by the name of a pod with this UID at its source.
    pub(super) fn of<'a>(&'a self, own: &'a PodUid) -> &'a PodUid {
        self.uids.get(own).unwrap_or(own)
    }

    /// The UID that a pod has at its source.
    pub(super) fn own<'a>(&'a self, uid: &'a PodUid) -> &'a PodUid {
        self.uids.iter().find(|(_, other)| *other == uid).map_or(uid, |(own, _)| own)
    }

    /// The pods of a source as they go.
    pub(super) fn pods(&mut self, source: &'static str, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let mut made = std::mem::take(&mut self.made);
        let mut rename = |pod: &Arc<Pod>| {
            let own = pod::identity(pod).0;
            let Some(uid) = self.uids.get(&own) else { return Arc::clone(pod) };
            let known = made.remove(&(source, own.clone())).filter(|known| Arc::ptr_eq(&known.of, pod));
            let renamed = known.map_or_else(|| Arc::new(renamed(pod, uid)), |known| known.renamed);
            let made = Made { of: Arc::clone(pod), renamed: Arc::clone(&renamed) };
            self.made.insert((source, own), made);
            renamed
        };
        let renamed = pods.iter().map(&mut rename).collect();
        // What other sources have.
        made.retain(|(of, _), _| *of != source);
        self.made.append(&mut made);
        renamed
    }
}

fn renamed(pod: &Pod, uid: &PodUid) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.uid = Some(uid.to_string());
    // The hash of a static pod is its UID (upstream `pkg/kubelet/config/common.go`).
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_HASH.to_owned(), uid.to_string());
    pod
}
