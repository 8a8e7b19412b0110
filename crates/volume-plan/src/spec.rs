//! What a volume of a pod is: one of these kinds, and what follows from the kind alone.

use kube_model::core::{EmptyDirVolumeSource, HostPathVolumeSource, ImageVolumeSource, Volume};

use crate::payload::Content;

/// A volume by its kind. Kinds that the agent does not mount yet are one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind<'a> {
    /// `emptyDir`, also that of a volume that says nothing (upstream `pkg/apis/core/v1/defaults.go` `SetDefaults_Volume`).
    EmptyDir(Option<&'a EmptyDirVolumeSource>),
    /// `hostPath`
    HostPath(&'a HostPathVolumeSource),
    /// `configMap`, `secret`, `downwardAPI`, `projected`: files that the agent writes, and writes again when what they
    /// come from has changed.
    Content(Content<'a>),
    /// `image`: the runtime mounts it, so that nothing of it is on the node but the image.
    Image(&'a ImageVolumeSource),
    /// Another one, by the name of its field: `persistentVolumeClaim`.
    Other(&'static str),
}

impl<'a> Kind<'a> {
    /// The kind of a volume. Of several fields, which validation refuses, the first counts.
    pub fn of(volume: &'a Volume) -> Self {
        let others = [
            ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
            ("ephemeral", volume.ephemeral.is_some()),
            ("csi", volume.csi.is_some()),
            ("nfs", volume.nfs.is_some()),
            ("iscsi", volume.iscsi.is_some()),
            ("fc", volume.fc.is_some()),
            ("flexVolume", volume.flex_volume.is_some()),
            ("gitRepo", volume.git_repo.is_some()),
            ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
            ("azureDisk", volume.azure_disk.is_some()),
            ("azureFile", volume.azure_file.is_some()),
            ("cephfs", volume.cephfs.is_some()),
            ("cinder", volume.cinder.is_some()),
            ("flocker", volume.flocker.is_some()),
            ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
            ("glusterfs", volume.glusterfs.is_some()),
            ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
            ("portworxVolume", volume.portworx_volume.is_some()),
            ("quobyte", volume.quobyte.is_some()),
            ("rbd", volume.rbd.is_some()),
            ("scaleIO", volume.scale_io.is_some()),
            ("storageos", volume.storageos.is_some()),
            ("vsphereVolume", volume.vsphere_volume.is_some()),
        ];
        let ours = [
            volume.host_path.as_ref().map(Self::HostPath),
            Content::of(volume).map(Self::Content),
            volume.image.as_ref().map(Self::Image),
            volume.empty_dir.as_ref().map(|source| Self::EmptyDir(Some(source))),
        ];
        let other = || others.into_iter().find(|(_, is)| *is).map(|(field, _)| Self::Other(field));
        ours.into_iter().flatten().next().or_else(other).unwrap_or(Self::EmptyDir(None))
    }

    /// The field of the spec.
    pub fn field(self) -> &'static str {
        match self {
            Self::EmptyDir(_) => "emptyDir",
            Self::HostPath(_) => "hostPath",
            Self::Image(_) => "image",
            Self::Content(Content::ConfigMap(_)) => "configMap",
            Self::Content(Content::Secret(_)) => "secret",
            Self::Content(Content::DownwardApi(_)) => "downwardAPI",
            Self::Content(Content::Projected(_)) => "projected",
            Self::Other(field) => field,
        }
    }

    /// The plugin, as a folder is called after it below the pod's `volumes`; `None` of a kind that has nothing there.
    pub fn plugin_dir(self) -> Option<&'static str> {
        match self {
            Self::EmptyDir(_) => Some("kubernetes.io~empty-dir"),
            Self::Content(Content::ConfigMap(_)) => Some("kubernetes.io~configmap"),
            Self::Content(Content::Secret(_)) => Some("kubernetes.io~secret"),
            Self::Content(Content::DownwardApi(_)) => Some("kubernetes.io~downward-api"),
            Self::Content(Content::Projected(_)) => Some("kubernetes.io~projected"),
            Self::HostPath(_) | Self::Image(_) | Self::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(json: &str) -> Volume {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_volume_is_of_the_kind_that_it_names_and_else_an_empty_dir() {
        for (json, field, dir) in [
            (r#"{"name":"v"}"#, "emptyDir", Some("kubernetes.io~empty-dir")),
            (r#"{"name":"v","emptyDir":{}}"#, "emptyDir", Some("kubernetes.io~empty-dir")),
            (r#"{"name":"v","hostPath":{"path":"/"}}"#, "hostPath", None),
            (r#"{"name":"v","configMap":{"name":"c"}}"#, "configMap", Some("kubernetes.io~configmap")),
            (r#"{"name":"v","secret":{"secretName":"s"}}"#, "secret", Some("kubernetes.io~secret")),
            (r#"{"name":"v","downwardAPI":{}}"#, "downwardAPI", Some("kubernetes.io~downward-api")),
            (r#"{"name":"v","projected":{}}"#, "projected", Some("kubernetes.io~projected")),
            (r#"{"name":"v","persistentVolumeClaim":{"claimName":"p"}}"#, "persistentVolumeClaim", None),
            (r#"{"name":"v","image":{"reference":"i"}}"#, "image", None),
        ] {
            let volume = volume(json);
            let kind = Kind::of(&volume);
            assert_eq!((kind.field(), kind.plugin_dir()), (field, dir), "{json}");
        }
    }
}
