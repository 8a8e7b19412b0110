//! What a pod's claim stands for: whether it is bound, to which volume, and whether the pod may use it so. The claim and
//! the volume are looked up by whoever asks; here is what follows from them, in the kubelet's words.
//! Rule: upstream `pkg/kubelet/volumemanager/populator/desired_state_of_world_populator.go` `createVolumeSpec`;
//! `k8s.io/component-helpers/storage/ephemeral`.

use kube_model::core::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube_model::pod;

use crate::spec::Kind;

/// Keeps a claim that is being deleted for the pods that use it.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The group that owns what is in the volume, beside that of the pod.
const GID: &str = "pv.beta.kubernetes.io/gid";

/// A claim that a pod's volume refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// In the pod's namespace.
    pub name: String,
    /// `persistentVolumeClaim.readOnly`
    pub read_only: bool,
    /// Whether it is made for the pod, and goes with it.
    pub ephemeral: bool,
}

/// The claim of a volume, if it has one.
pub fn of_volume(pod: &Pod, volume: &Volume) -> Option<Claim> {
    let Kind::Claim(named) = Kind::of(volume) else { return None };
    if let Some(claim) = named {
        let read_only = claim.read_only.unwrap_or(false);
        return Some(Claim { name: claim.claim_name.clone(), read_only, ephemeral: false });
    }
    let name = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
    Some(Claim { name, read_only: false, ephemeral: true })
}

/// `volumeMode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The volume is mounted.
    Filesystem,
    /// The volume is a device.
    Block,
}

impl Mode {
    fn of(volume: &PersistentVolume) -> Self {
        let mode = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
        if mode == Some("Block") { Self::Block } else { Self::Filesystem }
    }
}

/// A volume that a pod may use through its claim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound<'a> {
    /// The volume.
    pub volume: &'a PersistentVolume,
    /// How it is used.
    pub mode: Mode,
    /// One more group for the pod's processes.
    pub gid: Option<&'a str>,
}

/// Why a claim can not be used now. It is looked at again: what is missing may come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Something about the claim or its volume.
    #[error("error processing PVC {claim}: {why}")]
    Processing {
        /// Namespace and name.
        claim: String,
        /// What.
        why: String,
    },
    /// The claim of a generic ephemeral volume is somebody else's.
    #[error("PVC {claim} was not created for pod {pod} (pod is not owner)")]
    NotOwner {
        /// Namespace and name.
        claim: String,
        /// Namespace and name.
        pod: String,
    },
    /// Another pod has the volume.
    #[error("volume uses the ReadWriteOncePod access mode and is already in use by another pod")]
    InUse,
    /// A device is to be mounted, or a file system used as a device.
    #[error("volume {volume} has volumeMode {mode:?}, but is specified in {field}")]
    Mode {
        /// Name in the pod.
        volume: String,
        /// What it is.
        mode: Mode,
        /// What it is used as.
        field: &'static str,
    },
}

/// Whether a pod may mount the volume, which another pod of this node has or has not (upstream
/// `pkg/volume/util/operationexecutor/operation_generator.go`).
///
/// # Errors
/// One pod has it, and it is for one alone. Of a volume of several access modes nobody knows which one is meant.
pub fn may_mount(volume: &PersistentVolume, mounted_elsewhere: bool) -> Result<(), ClaimError> {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    if mounted_elsewhere && modes == ["ReadWriteOncePod"] { Err(ClaimError::InUse) } else { Ok(()) }
}

/// What is said of claim or volume, not being able to look it up; the kubelet's words around those of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFound {
    /// The claim.
    Claim(String),
    /// The volume of this name.
    Volume(String, String),
}

fn name_of(pod: &Pod, claim: &Claim) -> String {
    format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), claim.name)
}

fn processing(pod: &Pod, claim: &Claim, why: impl Into<String>) -> ClaimError {
    ClaimError::Processing { claim: name_of(pod, claim), why: why.into() }
}

/// What to say when the claim or the volume could not be had.
pub fn not_found(pod: &Pod, claim: &Claim, what: &NotFound) -> ClaimError {
    match what {
        NotFound::Claim(why) => processing(pod, claim, format!("failed to fetch PVC from API server: {why}")),
        NotFound::Volume(name, why) => {
            processing(pod, claim, format!("failed to fetch PV {name} from API server: {why}"))
        }
    }
}

/// The name of the volume that the claim is bound to.
///
/// # Errors
/// It is not bound, it goes away, or it is not the pod's.
pub fn volume_name<'a>(
    pod: &Pod,
    claim: &Claim,
    found: &'a PersistentVolumeClaim,
) -> Result<&'a str, ClaimError> {
    let meta = &found.metadata;
    let protected = meta.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    if meta.deletion_timestamp.is_some() && !protected {
        return Err(processing(pod, claim, "PVC is being deleted"));
    }
    if found.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err(processing(pod, claim, "PVC is not bound"));
    }
    let volume = found.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if volume.is_empty() {
        return Err(processing(pod, claim, "PVC has empty pvc.Spec.VolumeName"));
    }
    let owned = || {
        let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        controller.is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
    };
    if claim.ephemeral && !owned() {
        let (_, key) = pod::identity(pod);
        return Err(ClaimError::NotOwner { claim: name_of(pod, claim), pod: key.to_string() });
    }
    Ok(volume)
}

/// The volume as the pod may use it.
///
/// # Errors
/// It is not bound to the claim, or of the other mode than the containers use it in.
pub fn bound<'a>(
    pod: &Pod,
    volume: &Volume,
    claim: &Claim,
    found: &PersistentVolumeClaim,
    of_claim: &'a PersistentVolume,
) -> Result<Bound<'a>, ClaimError> {
    let name = of_claim.metadata.name.as_deref().unwrap_or_default();
    let uid = found.metadata.uid.as_deref().unwrap_or_default();
    let claim_ref = of_claim.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let Some(claim_ref) = claim_ref else {
        let why = format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        );
        return Err(processing(pod, claim, why));
    };
    let of_volume = claim_ref.uid.as_deref().unwrap_or_default();
    if of_volume != uid {
        let why = format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {of_volume} does not point to claim.UID {uid}"
        );
        return Err(processing(pod, claim, why));
    }
    let mode = Mode::of(of_claim);
    let field = match mode {
        Mode::Block if is_used(pod, volume, Use::Mounts) => Some("volumeMounts"),
        Mode::Filesystem if is_used(pod, volume, Use::Devices) => Some("volumeDevices"),
        _ => None,
    };
    if let Some(field) = field {
        return Err(ClaimError::Mode { volume: volume.name.clone(), mode, field });
    }
    let gid = of_claim.metadata.annotations.as_ref().and_then(|all| all.get(GID)).map(String::as_str);
    Ok(Bound { volume: of_claim, mode, gid: gid.filter(|gid| !gid.is_empty()) })
}

#[derive(Clone, Copy)]
enum Use {
    Mounts,
    Devices,
}

/// Whether a container uses the volume so.
fn is_used(pod: &Pod, volume: &Volume, how: Use) -> bool {
    let Some(spec) = &pod.spec else { return false };
    pod::containers(spec).any(|(_, container)| match how {
        Use::Mounts => container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name),
        Use::Devices => container.volume_devices.iter().flatten().any(|device| device.name == volume.name),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod(used: &Value) -> Pod {
        let mut container = json!({"name": "c"});
        container.as_object_mut().unwrap().extend(used.as_object().unwrap().clone());
        of(json!({"metadata": {"name": "db", "namespace": "shop", "uid": "pod-uid"},
            "spec": {"containers": [container]}}))
    }

    fn volume(source: Value) -> Volume {
        let mut volume = json!({"name": "data"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        of(volume)
    }

    fn claim_object(more: Value) -> PersistentVolumeClaim {
        let mut object = json!({"metadata": {"name": "data", "uid": "claim-uid"}, "spec": {"volumeName": "pv1"},
            "status": {"phase": "Bound"}});
        for (key, value) in more.as_object().unwrap() {
            let fields = object[key].as_object_mut().unwrap();
            fields.extend(value.as_object().unwrap().clone());
        }
        of(object)
    }

    #[test]
    fn a_volume_for_one_pod_is_mounted_by_one() {
        for (modes, elsewhere, ok) in [
            (json!(["ReadWriteOncePod"]), false, true),
            (json!(["ReadWriteOncePod"]), true, false),
            (json!(["ReadWriteOncePod", "ReadOnlyMany"]), true, true),
            (json!(["ReadWriteOnce"]), true, true),
        ] {
            let volume = of(json!({"metadata": {"name": "pv1"}, "spec": {"accessModes": modes}}));
            assert_eq!(may_mount(&volume, elsewhere).is_ok(), ok, "{modes} {elsewhere}");
        }
    }

    #[test]
    fn what_a_claim_is_called() {
        let pod = pod(&json!({}));
        let plain = volume(json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}));
        let claim = Claim { name: "c".to_owned(), read_only: true, ephemeral: false };
        assert_eq!(of_volume(&pod, &plain), Some(claim));
        let ephemeral = of_volume(&pod, &volume(json!({"ephemeral": {}}))).unwrap();
        assert_eq!((ephemeral.name.as_str(), ephemeral.ephemeral), ("db-data", true));
        assert_eq!(of_volume(&pod, &volume(json!({"emptyDir": {}}))), None);
    }

    #[test]
    fn what_a_claim_is_bound_to() {
        let pod = pod(&json!({}));
        let owner = |uid: &str| {
            json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "db", "uid": uid, "controller": true}]}})
        };
        let deleted = "2026-01-01T00:00:00Z";
        let processing = |why: &str| Err(format!("error processing PVC shop/data: {why}"));
        for (ephemeral, more, want) in [
            (false, json!({}), Ok("pv1".to_owned())),
            (false, json!({"status": {"phase": "Pending"}}), processing("PVC is not bound")),
            (false, json!({"spec": {"volumeName": ""}}), processing("PVC has empty pvc.Spec.VolumeName")),
            (false, json!({"metadata": {"deletionTimestamp": deleted}}), processing("PVC is being deleted")),
            (
                false,
                json!({"metadata": {"deletionTimestamp": deleted, "finalizers": [PROTECTION]}}),
                Ok("pv1".to_owned()),
            ),
            (true, owner("pod-uid"), Ok("pv1".to_owned())),
            (
                true,
                owner("other"),
                Err("PVC shop/data was not created for pod shop/db (pod is not owner)".to_owned()),
            ),
            (
                true,
                json!({}),
                Err("PVC shop/data was not created for pod shop/db (pod is not owner)".to_owned()),
            ),
            // Who does not know yet whether it is bound does not ask whose it is.
            (true, json!({"status": {"phase": "Pending"}}), processing("PVC is not bound")),
        ] {
            let claim = Claim { name: "data".to_owned(), read_only: false, ephemeral };
            let object = claim_object(more.clone());
            let found = volume_name(&pod, &claim, &object);
            assert_eq!(found.map(str::to_owned).map_err(|e| e.to_string()), want, "{ephemeral} {more}");
        }
        let claim = Claim { name: "data".to_owned(), read_only: false, ephemeral: false };
        let missing = NotFound::Claim("persistentvolumeclaims \"data\" not found".to_owned());
        assert_eq!(
            not_found(&pod, &claim, &missing).to_string(),
            "error processing PVC shop/data: failed to fetch PVC from API server: persistentvolumeclaims \"data\" not found"
        );
    }

    #[test]
    fn a_volume_is_used_by_its_claim_in_its_mode() {
        let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/d"}]});
        let devices = json!({"volumeDevices": [{"name": "data", "devicePath": "/dev/d"}]});
        let claim_ref = |uid: &str| json!({"claimRef": {"uid": uid}});
        let block = json!({"claimRef": {"uid": "claim-uid"}, "volumeMode": "Block"});
        let processing = |why: &str| Err(format!("error processing PVC shop/data: {why}"));
        for (used, spec, want) in [
            (&mounts, claim_ref("claim-uid"), Ok(Mode::Filesystem)),
            (&devices, block.clone(), Ok(Mode::Block)),
            (
                &mounts,
                json!({}),
                processing(
                    "found PV object pv1 but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim",
                ),
            ),
            (
                &mounts,
                claim_ref("x"),
                processing(
                    "found PV object pv1 but its pv.Spec.ClaimRef.UID x does not point to claim.UID claim-uid",
                ),
            ),
            (
                &mounts,
                block,
                Err("volume data has volumeMode Block, but is specified in volumeMounts".to_owned()),
            ),
            (
                &devices,
                claim_ref("claim-uid"),
                Err("volume data has volumeMode Filesystem, but is specified in volumeDevices".to_owned()),
            ),
        ] {
            let annotations = json!({"pv.beta.kubernetes.io/gid": "1234"});
            let object: PersistentVolume =
                of(json!({"metadata": {"name": "pv1", "annotations": annotations}, "spec": spec}));
            let volume = volume(json!({"persistentVolumeClaim": {"claimName": "data"}}));
            let pod = pod(used);
            let claim = of_volume(&pod, &volume).unwrap();
            let found = bound(&pod, &volume, &claim, &claim_object(json!({})), &object);
            if let Ok(bound) = &found {
                assert_eq!(bound.gid, Some("1234"));
            }
            assert_eq!(found.map(|bound| bound.mode).map_err(|e| e.to_string()), want, "{used} {spec}");
        }
    }
}
