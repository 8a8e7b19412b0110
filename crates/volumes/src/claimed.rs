//! What a pod's claim stands for, looked up anew each time that the volume is set up; it is known from then on what the
//! pod's containers have of it.

use std::path::PathBuf;
use std::sync::Arc;

use kube_model::core::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube_model::{PodUid, pod};
use volume_plan::claims::{self, Claim, Mode, NotFound};
use volume_plan::container_mounts::Attributes;
use volume_plan::persistent::{Source, check_node_affinity};
use volume_plan::spec::Kind;

use crate::csi;
use crate::error::{Failed, SetUpError, Step};
use crate::manager::{Inner, Volumes};
use crate::settings::PodDirs;

/// The persistent volume of a claim, as a pod has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claimed {
    /// Without what only servers need.
    pub(crate) volume: PersistentVolume,
    /// How it is used.
    pub(crate) mode: Mode,
    /// The pod only reads it.
    pub(crate) read_only: bool,
    /// One more group for the pod's processes.
    pub(crate) gid: Option<String>,
    /// Namespace and name of the claim.
    pub(crate) claim: (String, String),
    /// The label of SELinux that it is mounted with; `None`: the runtime gives one to each file.
    pub(crate) label: Option<String>,
}

impl Claimed {
    /// The name of the persistent volume: folders and events are called after it.
    pub(crate) fn name(&self) -> &str {
        self.volume.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::of(&self.volume)
    }

    /// Of all volumes of the node.
    pub(crate) fn unique_name(&self) -> String {
        self.source().unique_name(&self.volume)
    }

    /// Where it is on the node, if it is mounted for the pod.
    pub(crate) fn host_path(&self, dirs: &PodDirs) -> Option<PathBuf> {
        match (self.source(), self.mode) {
            (_, Mode::Block) => None,
            (Source::HostPath(source), _) => Some(PathBuf::from(&source.path)),
            (Source::Csi(_), _) => Some(csi::mounted(dirs, self.name())),
            (source, _) => Some(dirs.volume(source.plugin_dir()?, self.name())),
        }
    }

    /// The CSI driver that mounts it, if one does.
    pub(crate) fn driver(&self) -> Option<&str> {
        match self.source() {
            Source::Csi(source) => Some(&source.driver),
            _ => None,
        }
    }

    /// `mountOptions`
    pub(crate) fn mount_options(&self) -> Vec<String> {
        self.volume.spec.as_ref().and_then(|spec| spec.mount_options.clone()).unwrap_or_default()
    }

    /// Whether it is for one pod alone, when another has it.
    pub(crate) fn may_mount(&self, used_elsewhere: bool) -> Result<(), SetUpError> {
        claims::may_mount(&self.volume, used_elsewhere).map_err(|error| SetUpError(error.to_string()))
    }
}

/// A device that a container may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is on the node.
    pub host_path: PathBuf,
    /// Nothing is written to it.
    pub read_only: bool,
}

impl Volumes {
    /// What decides how containers mount a volume of the pod; `None` if it is not mounted.
    pub fn attributes(&self, uid: &PodUid, volume: &Volume) -> Option<Attributes> {
        let kind = Kind::of(volume);
        if !matches!(kind, Kind::Claim(_)) {
            return Attributes::of(kind);
        }
        let claimed = self.inner.claimed(uid, &volume.name)?;
        let attributes = claimed.source().attributes(claimed.read_only)?;
        let selinux_relabel = attributes.selinux_relabel && claimed.label.is_none();
        (claimed.mode == Mode::Filesystem).then_some(Attributes { selinux_relabel, ..attributes })
    }

    /// A volume of the pod that is a device; `None` if it is none.
    pub fn device(&self, uid: &PodUid, volume: &Volume) -> Option<Device> {
        let claimed = self.inner.claimed(uid, &volume.name)?;
        let plugin = claimed.source().plugin_dir().filter(|_| claimed.mode == Mode::Block)?;
        let host_path = self.dirs(uid).device(plugin, claimed.name());
        Some(Device { host_path, read_only: claimed.read_only })
    }

    /// Groups that the pod's processes have for its persistent volumes, beside those of its spec (upstream
    /// `pkg/kubelet/volumemanager/volume_manager.go` `GetExtraSupplementalGroupsForPod`).
    pub fn supplemental_groups(&self, pod: &Pod) -> Vec<i64> {
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let own = context.and_then(|context| context.supplemental_groups.as_deref()).unwrap_or_default();
        let (uid, _) = pod::identity(pod);
        let claimed = self.inner.all_claimed(&uid);
        let groups = claimed.iter().filter_map(|claimed| claimed.gid.as_ref()?.parse().ok());
        let groups: std::collections::BTreeSet<i64> = groups.filter(|group| !own.contains(group)).collect();
        groups.into_iter().collect()
    }
}

/// Asks for claim and volume, and whether this pod may use them so, on this node. The claim is as it was then.
pub(crate) async fn look_up(
    inner: &Inner,
    pod: &Pod,
    volume: &Volume,
) -> Result<(Arc<Claimed>, PersistentVolumeClaim), Failed> {
    let process = |why: String| Failed { step: Step::Process, error: SetUpError(why) };
    let claim: Claim = claims::of_volume(pod, volume)
        .ok_or_else(|| process(format!("the volume {:?} has no claim", volume.name)))?;
    let (_, key) = pod::identity(pod);
    if pod::is_static(pod) {
        // A claim of that name is meant for others.
        let why = format!(
            "error processing PVC {}/{}: claims are the API server's, and this pod is not",
            key.namespace, claim.name
        );
        return Err(process(why));
    }
    let storage = &inner.storage;
    let not_found = |what| process(claims::not_found(pod, &claim, &what).to_string());
    let found = storage.claim(&key.namespace, &claim.name).await;
    let found = found.map_err(|error| not_found(NotFound::Claim(error.to_string())))?;
    let refused = |error: claims::ClaimError| process(error.to_string());
    let name = claims::volume_name(pod, &claim, &found).map_err(refused)?;
    let of_claim = storage.volume(name).await;
    let mut of_claim =
        of_claim.map_err(|error| not_found(NotFound::Volume(name.to_owned(), error.to_string())))?;
    of_claim.metadata.managed_fields = None;
    let bound = claims::bound(pod, volume, &claim, &found, &of_claim).map_err(refused)?;
    let (mode, gid) = (bound.mode, bound.gid.map(str::to_owned));
    let (read_only, claim) = (claim.read_only, (key.namespace.to_string(), claim.name));
    Ok((Arc::new(Claimed { volume: of_claim, mode, read_only, gid, claim, label: None }), found))
}

/// Whether the volume can be had on this node.
pub(crate) fn check_affinity(inner: &Inner, claimed: &Claimed) -> Result<(), Failed> {
    let step = match claimed.mode {
        Mode::Filesystem => Step::NodeAffinity,
        Mode::Block => Step::MapNodeAffinity,
    };
    let node = inner.storage.node();
    let checked = check_node_affinity(&claimed.volume, node.as_deref());
    checked.map_err(|why| Failed { step, error: SetUpError(why) })
}
