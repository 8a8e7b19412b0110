//! What a volume of a pod is: one of these kinds, and what follows from the kind alone.

use kube_model::core::{
    CSIVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, ImageVolumeSource, NFSVolumeSource,
    PersistentVolumeClaimVolumeSource, Volume,
};

use crate::never::{GIT_REPO, Never, never};
use crate::payload::Content;

/// A volume by its kind.
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
    /// `persistentVolumeClaim`, or (`None`) `ephemeral`, whose claim is made for the pod: what the volume is stands in
    /// the persistent volume that the claim is bound to.
    Claim(Option<&'a PersistentVolumeClaimVolumeSource>),
    /// `nfs`
    Nfs(&'a NFSVolumeSource),
    /// `csi`: made by a driver for the pod, and gone with it.
    Csi(&'a CSIVolumeSource),
    /// One that this agent mounts for nobody.
    Never(Never),
}

impl<'a> Kind<'a> {
    /// The kind of a volume. Of several fields, which validation refuses, the first counts.
    pub fn of(volume: &'a Volume) -> Self {
        let ours = [
            volume.host_path.as_ref().map(Self::HostPath),
            Content::of(volume).map(Self::Content),
            volume.image.as_ref().map(Self::Image),
            volume.empty_dir.as_ref().map(|source| Self::EmptyDir(Some(source))),
            volume.persistent_volume_claim.as_ref().map(|source| Self::Claim(Some(source))),
            volume.ephemeral.as_ref().map(|_| Self::Claim(None)),
            volume.nfs.as_ref().map(Self::Nfs),
            volume.csi.as_ref().map(Self::Csi),
            volume.git_repo.as_ref().map(|_| Self::Never(GIT_REPO)),
            never!(volume).map(Self::Never),
        ];
        ours.into_iter().flatten().next().unwrap_or(Self::EmptyDir(None))
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
            Self::Claim(Some(_)) => "persistentVolumeClaim",
            Self::Claim(None) => "ephemeral",
            Self::Nfs(_) => "nfs",
            Self::Csi(_) => "csi",
            Self::Never(never) => never.field,
        }
    }

    /// The plugin, as a folder is called after it below the pod's `volumes`; `None` of a kind that has nothing there, and
    /// of a claim, where that of the persistent volume counts.
    pub fn plugin_dir(self) -> Option<&'static str> {
        match self {
            Self::EmptyDir(_) => Some("kubernetes.io~empty-dir"),
            Self::Content(Content::ConfigMap(_)) => Some("kubernetes.io~configmap"),
            Self::Content(Content::Secret(_)) => Some("kubernetes.io~secret"),
            Self::Content(Content::DownwardApi(_)) => Some("kubernetes.io~downward-api"),
            Self::Content(Content::Projected(_)) => Some("kubernetes.io~projected"),
            Self::Nfs(_) => Some(plugin::NFS),
            Self::Csi(_) => Some(plugin::CSI),
            Self::HostPath(_) | Self::Image(_) | Self::Claim(_) | Self::Never(_) => None,
        }
    }
}

/// Folders of plugins that make volumes of the pod's own and of claims.
pub mod plugin {
    /// `local`
    pub const LOCAL: &str = "kubernetes.io~local-volume";
    /// `nfs`
    pub const NFS: &str = "kubernetes.io~nfs";
    /// `csi`
    pub const CSI: &str = "kubernetes.io~csi";
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
            (r#"{"name":"v","ephemeral":{}}"#, "ephemeral", None),
            (r#"{"name":"v","image":{"reference":"i"}}"#, "image", None),
            (r#"{"name":"v","nfs":{"server":"s","path":"/"}}"#, "nfs", Some("kubernetes.io~nfs")),
            (r#"{"name":"v","csi":{"driver":"d"}}"#, "csi", Some("kubernetes.io~csi")),
            (r#"{"name":"v","gitRepo":{"repository":"r"}}"#, "gitRepo", None),
            (r#"{"name":"v","rbd":{"monitors":[],"image":"i"}}"#, "rbd", None),
        ] {
            let volume = volume(json);
            let kind = Kind::of(&volume);
            assert_eq!((kind.field(), kind.plugin_dir()), (field, dir), "{json}");
        }
    }
}
