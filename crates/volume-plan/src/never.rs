//! Kinds of volumes that upstream had in its own tree, and that this agent mounts for nobody: which driver does it now
//! (upstream `staging/src/k8s.io/csi-translation-lib/plugins` has the names of those that a cluster can go over to).

use std::fmt;

/// Such a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Never {
    /// The field of the spec: `rbd`.
    pub field: &'static str,
    /// What to use instead.
    pub instead: &'static str,
}

/// Upstream's words, and behind them what to do.
impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, instead } = self;
        write!(f, "no volume plugin matched (volumes of the kind {field} are not mounted: use {instead})")
    }
}

/// `gitRepo`, which only pods have.
pub(crate) const GIT_REPO: Never =
    Never { field: "gitRepo", instead: "an init container that clones into an emptyDir" };

/// The kind of a volume of a pod, or of a persistent volume: both have these fields.
macro_rules! never {
    ($source:expr) => {{
        let source = $source;
        let found = [
            $crate::never::of(source.iscsi.is_some(), "iscsi", "the CSI driver iscsi.csi.k8s.io"),
            $crate::never::of(source.fc.is_some(), "fc", "the CSI driver of the storage's vendor"),
            $crate::never::of(
                source.flex_volume.is_some(),
                "flexVolume",
                "the CSI driver of the storage's vendor",
            ),
            $crate::never::of(
                source.aws_elastic_block_store.is_some(),
                "awsElasticBlockStore",
                "the CSI driver ebs.csi.aws.com",
            ),
            $crate::never::of(source.azure_disk.is_some(), "azureDisk", "the CSI driver disk.csi.azure.com"),
            $crate::never::of(source.azure_file.is_some(), "azureFile", "the CSI driver file.csi.azure.com"),
            $crate::never::of(source.cephfs.is_some(), "cephfs", "the CSI driver cephfs.csi.ceph.com"),
            $crate::never::of(source.cinder.is_some(), "cinder", "the CSI driver cinder.csi.openstack.org"),
            $crate::never::of(source.flocker.is_some(), "flocker", "another storage with a CSI driver"),
            $crate::never::of(
                source.gce_persistent_disk.is_some(),
                "gcePersistentDisk",
                "the CSI driver pd.csi.storage.gke.io",
            ),
            $crate::never::of(source.glusterfs.is_some(), "glusterfs", "a CSI driver for GlusterFS"),
            $crate::never::of(
                source.photon_persistent_disk.is_some(),
                "photonPersistentDisk",
                "another storage with a CSI driver",
            ),
            $crate::never::of(
                source.portworx_volume.is_some(),
                "portworxVolume",
                "the CSI driver pxd.portworx.com",
            ),
            $crate::never::of(source.quobyte.is_some(), "quobyte", "the CSI driver csi.quobyte.com"),
            $crate::never::of(source.rbd.is_some(), "rbd", "the CSI driver rbd.csi.ceph.com"),
            $crate::never::of(
                source.scale_io.is_some(),
                "scaleIO",
                "the CSI driver csi-vxflexos.dellemc.com",
            ),
            $crate::never::of(source.storageos.is_some(), "storageos", "another storage with a CSI driver"),
            $crate::never::of(
                source.vsphere_volume.is_some(),
                "vsphereVolume",
                "the CSI driver csi.vsphere.vmware.com",
            ),
        ];
        found.into_iter().flatten().next()
    }};
}
pub(crate) use never;

pub(crate) fn of(is: bool, field: &'static str, instead: &'static str) -> Option<Never> {
    is.then_some(Never { field, instead })
}
