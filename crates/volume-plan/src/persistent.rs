//! What a persistent volume is. A volume that a pod names itself, and one that it has by a claim, are mounted by the same
//! plugin (upstream `pkg/volume/plugins.go` `Spec`).

use kube_model::core::{
    CSIPersistentVolumeSource, HostPathVolumeSource, LocalVolumeSource, NFSVolumeSource, Node,
    PersistentVolume,
};
use kube_model::node_selector;

use crate::container_mounts::Attributes;
use crate::never::{Never, never};
use crate::spec::plugin;

/// A persistent volume by its kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source<'a> {
    /// `hostPath`
    HostPath(&'a HostPathVolumeSource),
    /// `local`: a folder or a disk of the node.
    Local(&'a LocalVolumeSource),
    /// `nfs`
    Nfs(&'a NFSVolumeSource),
    /// `csi`
    Csi(&'a CSIPersistentVolumeSource),
    /// One that this agent mounts for nobody.
    Never(Never),
    /// It says nothing that is known here.
    Unknown,
}

impl<'a> Source<'a> {
    /// The kind of a persistent volume. Of several fields, which validation refuses, the first counts.
    pub fn of(volume: &'a PersistentVolume) -> Self {
        let Some(spec) = &volume.spec else { return Self::Unknown };
        let known = [
            spec.host_path.as_ref().map(Self::HostPath),
            spec.local.as_ref().map(Self::Local),
            spec.nfs.as_ref().map(Self::Nfs),
            spec.csi.as_ref().map(Self::Csi),
            never!(spec).map(Self::Never),
        ];
        known.into_iter().flatten().next().unwrap_or(Self::Unknown)
    }

    /// The plugin, as folders are called after it; `None` of a kind that has none on the node.
    pub fn plugin_dir(self) -> Option<&'static str> {
        match self {
            Self::Local(_) => Some(plugin::LOCAL),
            Self::Nfs(_) => Some(plugin::NFS),
            Self::Csi(_) => Some(plugin::CSI),
            Self::HostPath(_) | Self::Never(_) | Self::Unknown => None,
        }
    }

    /// What decides how it is mounted, where the claim says this of reading and writing; `None` if it is not mounted.
    pub fn attributes(self, read_only: bool) -> Option<Attributes> {
        match self {
            Self::Local(_) | Self::Csi(_) => Some(Attributes { read_only, selinux_relabel: true }),
            Self::HostPath(_) | Self::Nfs(_) => Some(Attributes { read_only, selinux_relabel: false }),
            Self::Never(_) | Self::Unknown => None,
        }
    }

    /// What tells the volume from all others of the node, however many pods use it (upstream
    /// `pkg/volume/util/util.go` `GetUniqueVolumeName`).
    pub fn unique_name(self, volume: &PersistentVolume) -> String {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        match self {
            Self::HostPath(_) => format!("kubernetes.io/host-path/{name}"),
            Self::Local(_) => format!("kubernetes.io/local-volume/{name}"),
            Self::Nfs(_) => format!("kubernetes.io/nfs/{name}"),
            Self::Csi(csi) => format!("kubernetes.io/csi/{}^{}", csi.driver, csi.volume_handle),
            Self::Never(_) | Self::Unknown => name.to_owned(),
        }
    }
}

/// Whether the volume can be had from a node with these labels.
///
/// # Errors
/// In upstream's words (`component-helpers/storage/volume` `CheckNodeAffinity`).
pub fn check_node_affinity(volume: &PersistentVolume, node: Option<&Node>) -> Result<(), String> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else { return Ok(()) };
    let Some(node) = node else { return Err("error retrieving node: it is not known yet".to_owned()) };
    let labels = node.metadata.labels.clone().unwrap_or_default();
    if node_selector::matches(required, &labels, None) {
        Ok(())
    } else {
        Err("no matching NodeSelectorTerms".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(spec: &Value) -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap()
    }

    #[test]
    fn each_kind_has_its_plugin_and_its_name() {
        for (spec, dir, name) in [
            (json!({"hostPath": {"path": "/p"}}), None, "kubernetes.io/host-path/pv"),
            (
                json!({"local": {"path": "/p"}}),
                Some("kubernetes.io~local-volume"),
                "kubernetes.io/local-volume/pv",
            ),
            (json!({"nfs": {"server": "s", "path": "/"}}), Some("kubernetes.io~nfs"), "kubernetes.io/nfs/pv"),
            (
                json!({"csi": {"driver": "d", "volumeHandle": "h"}}),
                Some("kubernetes.io~csi"),
                "kubernetes.io/csi/d^h",
            ),
            (json!({}), None, "pv"),
        ] {
            let volume = volume(&spec);
            let source = Source::of(&volume);
            assert_eq!((source.plugin_dir(), source.unique_name(&volume).as_str()), (dir, name), "{spec}");
        }
        let old = volume(&json!({"gcePersistentDisk": {"pdName": "d"}}));
        let Source::Never(never) = Source::of(&old) else { panic!("it is mounted") };
        assert_eq!(
            never.to_string(),
            "no volume plugin matched (volumes of the kind gcePersistentDisk are not mounted: use the CSI driver \
             pd.csi.storage.gke.io)"
        );
    }

    #[test]
    fn a_volume_is_mounted_where_its_affinity_is() {
        let at = |host: &str| {
            json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}})
        };
        let node: Node =
            serde_json::from_value(json!({"metadata": {"labels": {"kubernetes.io/hostname": "node1"}}}))
                .unwrap();
        for (spec, node, want) in [
            (json!({}), None, Ok(())),
            (at("node1"), Some(&node), Ok(())),
            (at("other"), Some(&node), Err("no matching NodeSelectorTerms")),
            (at("node1"), None, Err("error retrieving node: it is not known yet")),
            (json!({"nodeAffinity": {}}), None, Ok(())),
        ] {
            let found = check_node_affinity(&volume(&spec), node);
            assert_eq!(found, want.map_err(str::to_owned), "{spec}");
        }
    }
}
