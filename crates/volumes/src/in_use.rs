//! Which volumes of the node a cluster must not detach: it is told before any of them is mounted for the first time, and
//! until none is any more (upstream `pkg/kubelet/volumemanager/volume_manager.go` `GetVolumesInUse`).

use std::collections::BTreeSet;

use tokio::sync::watch;
use volume_plan::persistent::Source;

use crate::manager::{Inner, Volumes};

impl Volumes {
    /// The names of these volumes, as `node.status.volumesInUse` has them.
    pub fn in_use(&self) -> watch::Receiver<BTreeSet<String>> {
        self.inner.in_use.subscribe()
    }
}

impl Inner {
    /// Looks again, when a claim was found or the volumes of a pod are gone.
    pub(crate) fn look_at_in_use(&self) {
        // Only what drivers mount is attached.
        let attached = |claimed: &crate::claimed::Claimed| match claimed.source() {
            source @ Source::Csi(_) => Some(source.unique_name(&claimed.volume)),
            _ => None,
        };
        let pods = self.pods();
        let names: BTreeSet<_> =
            pods.values().flat_map(|entry| entry.claimed()).filter_map(attached).collect();
        // With the pods held: of two who look, the later has the last word.
        self.in_use.send_if_modified(|known| {
            let changed = *known != names;
            *known = names;
            changed
        });
    }
}
