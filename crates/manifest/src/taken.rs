//! Names and UIDs are unique within a source: the first pod has them (upstream `pkg/kubelet/config/config.go`).

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;

use kube_model::core::Pod;
use kube_model::{PodKey, PodUid, pod};

/// The pods that have their names and UIDs, each with the place where it stands.
#[derive(Debug)]
pub struct Taken<'a, P> {
    names: BTreeMap<PodKey, (Cow<'a, str>, P)>,
    uids: BTreeMap<PodUid, Cow<'a, str>>,
}

impl<P> Default for Taken<'_, P> {
    fn default() -> Self {
        Self { names: BTreeMap::new(), uids: BTreeMap::new() }
    }
}

impl<'a, P: Borrow<Pod>> Taken<'a, P> {
    /// Takes the pod that stands at `place`, unless one before it has its name or UID: then the field that is
    /// not unique, and what to say of it.
    pub fn take(&mut self, pod: P, place: Cow<'a, str>) -> Result<(), (&'static str, String)> {
        let (uid, key) = pod::identity(pod.borrow());
        let clash = |what: String, other: &str| format!("{what} is already in {other}; that one runs");
        if let Some((other, _)) = self.names.get(&key) {
            return Err(("metadata.name", clash(format!("the pod {key}"), other)));
        }
        if let Some(other) = self.uids.get(&uid) {
            return Err(("metadata.uid", clash(format!("a pod with UID {uid}"), other)));
        }
        self.uids.insert(uid, place.clone());
        self.names.insert(key, (place, pod));
        Ok(())
    }

    /// The pods by namespace and name.
    pub fn into_pods(self) -> Vec<P> {
        self.names.into_values().map(|(_, pod)| pod).collect()
    }
}
