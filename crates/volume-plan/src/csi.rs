//! What follows from a CSI volume and its driver's object (CSIDriver), without asking anybody (upstream
//! `pkg/volume/csi/{csi_attacher,csi_mounter,csi_util}.go`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kube_model::core::{PersistentVolume, Pod};
use kube_model::k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec, VolumeAttachment};
use kube_model::pod;
use ring::digest::{SHA256, digest};

/// Where a driver's volume comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// It was there before the pod, and stays.
    Persistent,
    /// It is the pod's own.
    Ephemeral,
}

impl Lifecycle {
    /// As the API, and `vol_data.json`, has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Persistent => "Persistent",
            Self::Ephemeral => "Ephemeral",
        }
    }
}

/// The name of the VolumeAttachment of a volume to a node.
pub fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", sha256(&[handle, driver, node]))
}

/// What the driver calls a volume that is the pod's own.
pub fn inline_handle(pod_uid: &str, volume: &str) -> String {
    format!("csi-{}", sha256(&[pod_uid, volume]))
}

/// The folder of a volume that is staged, below its driver's.
pub fn stage_dir(handle: &str) -> String {
    sha256(&[handle])
}

/// Whether a folder may be one of those.
pub fn is_stage_dir(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

fn sha256(parts: &[&str]) -> String {
    let bytes = digest(&SHA256, parts.concat().as_bytes());
    bytes.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}

/// What the cluster says of a driver; an object is not needed.
#[derive(Debug, Clone, Copy)]
pub struct DriverRules<'a>(Option<&'a CSIDriverSpec>);

/// Who gives the files of a volume to the pod's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsGroupPolicy {
    /// The agent, if the volume has a file system and one writer.
    ReadWriteOnceWithFsType,
    /// The agent, always.
    File,
    /// Nobody.
    None,
}

impl<'a> DriverRules<'a> {
    /// Those of a driver with this object, or none.
    pub fn of(object: Option<&'a CSIDriver>) -> Self {
        Self(object.map(|object| &object.spec))
    }

    fn is(self, flag: impl Fn(&CSIDriverSpec) -> Option<bool>) -> bool {
        self.0.and_then(flag).unwrap_or(false)
    }

    /// Whether volumes are attached to the node before they are mounted; so it is without an object.
    pub fn attaches(self) -> bool {
        self.0.and_then(|spec| spec.attach_required).unwrap_or(true)
    }

    /// Whether the driver wants to know which pod it mounts for.
    pub fn wants_pod_info(self) -> bool {
        self.is(|spec| spec.pod_info_on_mount)
    }

    /// How often the driver is to say anew how many volumes the node can take.
    pub fn renewal(self) -> Option<Duration> {
        let seconds = self.0?.node_allocatable_update_period_seconds?;
        u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// Whether volumes can be mounted with a label of SELinux for all of their files.
    pub fn mounts_with_label(self) -> bool {
        self.is(|spec| spec.se_linux_mount)
    }

    /// Whether volumes are to be published again from time to time.
    pub fn republishes(self) -> bool {
        self.is(|spec| spec.requires_republish)
    }

    /// The tokens that the driver wants: audience, empty for that of the API server, and lifetime in seconds.
    pub fn tokens(self) -> impl Iterator<Item = (&'a str, Option<i64>)> {
        let requests = self.0.into_iter().flat_map(|spec| spec.token_requests.iter().flatten());
        requests.map(|request| (request.audience.as_str(), request.expiration_seconds))
    }

    /// Whether the driver wants them among the secrets, where they are not logged.
    pub fn wants_tokens_as_secrets(self) -> bool {
        self.is(|spec| spec.service_account_token_in_secrets)
    }

    /// Whether it mounts volumes of this kind.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn supports(self, driver: &str, lifecycle: Lifecycle) -> Result<(), String> {
        let mode = lifecycle.as_str();
        let refused = |why: &str| {
            Err(format!(
                "kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: volume mode {mode:?} not \
                 supported by driver {driver} ({why})"
            ))
        };
        match (self.0, lifecycle) {
            (None, Lifecycle::Persistent) => Ok(()),
            (None, Lifecycle::Ephemeral) => refused("no CSIDriver object"),
            (Some(spec), _) => {
                // What the API server fills in where nothing is said.
                let default = [Lifecycle::Persistent.as_str().to_owned()];
                let modes = spec.volume_lifecycle_modes.as_deref().filter(|modes| !modes.is_empty());
                let modes = modes.unwrap_or(&default);
                if modes.iter().any(|has| has == mode) {
                    return Ok(());
                }
                let modes: Vec<_> = modes.iter().map(|mode| format!("{mode:?}")).collect();
                refused(&format!("only supports [{}]", modes.join(" ")))
            }
        }
    }

    /// Who gives the files to the pod's group.
    pub fn fs_group_policy(self) -> FsGroupPolicy {
        match self.0.and_then(|spec| spec.fs_group_policy.as_deref()) {
            Some("File") => FsGroupPolicy::File,
            Some("None") => FsGroupPolicy::None,
            _ => FsGroupPolicy::ReadWriteOnceWithFsType,
        }
    }
}

/// Whether the agent gives the files of a volume to the pod's group, where the driver does not do so itself.
/// `volume` is the persistent one, if it is one.
pub fn applies_fs_group(
    policy: FsGroupPolicy,
    read_only: bool,
    fs_type: Option<&str>,
    volume: Option<&PersistentVolume>,
) -> bool {
    if read_only {
        return false;
    }
    match policy {
        FsGroupPolicy::None => false,
        FsGroupPolicy::File => true,
        FsGroupPolicy::ReadWriteOnceWithFsType => {
            let has_one_writer = |volume: &PersistentVolume| {
                access_modes(volume).iter().any(|mode| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod")
            };
            fs_type.is_some_and(|fs_type| !fs_type.is_empty()) && volume.is_none_or(has_one_writer)
        }
    }
}

/// `accessModes`
pub fn access_modes(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// Whether the volume is attached.
///
/// # Errors
/// In upstream's words why it is not, or not yet.
pub fn is_attached(attachment: &VolumeAttachment, handle: &str) -> Result<(), String> {
    if attachment.metadata.deletion_timestamp.is_some() {
        return Err("volume attachment is being deleted".to_owned());
    }
    let status = attachment.status.as_ref();
    if status.is_some_and(|status| status.attached) {
        return Ok(());
    }
    let error = status.and_then(|status| status.attach_error.as_ref()?.message.clone());
    let name = attachment.metadata.name.as_deref().unwrap_or_default();
    Err(error.unwrap_or_else(|| format!("volume {handle} is not attached for volume attachment {name}")))
}

/// Whether it was not attached because the node has as many volumes as it can take.
pub fn is_exhausted(attachment: &VolumeAttachment) -> bool {
    /// gRPC's `ResourceExhausted`.
    const EXHAUSTED: i32 = 8;
    let error = attachment.status.as_ref().and_then(|status| status.attach_error.as_ref());
    error.and_then(|error| error.error_code) == Some(EXHAUSTED)
}

/// What a driver that wants it is told of the pod.
pub fn pod_info(of: &Pod, lifecycle: Lifecycle) -> BTreeMap<String, String> {
    let (uid, key) = pod::identity(of);
    let account = of.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_default();
    let ephemeral = (lifecycle == Lifecycle::Ephemeral).to_string();
    let said = [
        ("pod.name", key.name.to_string()),
        ("pod.namespace", key.namespace.to_string()),
        ("pod.uid", uid.as_str().to_owned()),
        ("serviceAccount.name", account),
        ("ephemeral", ephemeral),
    ];
    said.into_iter().map(|(name, value)| (format!("csi.storage.k8s.io/{name}"), value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(spec: Value) -> CSIDriver {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).unwrap()
    }

    #[test]
    fn names_are_upstreams() {
        // As sha256sum has them.
        assert_eq!(stage_dir("v"), "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080");
        let name = "csi-f6543f8bea2891cc00a459964655191915ab214b9a56d0f1d7bd1a2d56de77d7";
        assert_eq!(attachment_name("v", "d", "n"), name);
        assert_eq!(inline_handle("vd", "n"), name);
    }

    #[test]
    fn a_driver_without_an_object_mounts_persistent_volumes_that_are_attached() {
        let rules = DriverRules::of(None);
        assert!(rules.attaches() && !rules.wants_pod_info() && !rules.republishes());
        assert_eq!(rules.fs_group_policy(), FsGroupPolicy::ReadWriteOnceWithFsType);
        assert_eq!(rules.supports("d", Lifecycle::Persistent), Ok(()));
        let why = rules.supports("d", Lifecycle::Ephemeral).unwrap_err();
        assert!(
            why.ends_with("volume mode \"Ephemeral\" not supported by driver d (no CSIDriver object)"),
            "{why}"
        );
    }

    #[test]
    fn an_object_says_what_the_driver_wants() {
        let all = object(json!({
            "attachRequired": false, "podInfoOnMount": true, "requiresRepublish": true, "fsGroupPolicy": "File",
            "volumeLifecycleModes": ["Ephemeral"], "serviceAccountTokenInSecrets": true,
            "tokenRequests": [{"audience": ""}, {"audience": "vault", "expirationSeconds": 600}],
        }));
        let rules = DriverRules::of(Some(&all));
        assert!(!rules.attaches() && rules.wants_pod_info() && rules.republishes());
        assert!(rules.wants_tokens_as_secrets());
        assert_eq!(rules.tokens().collect::<Vec<_>>(), [("", None), ("vault", Some(600))]);
        assert_eq!(rules.fs_group_policy(), FsGroupPolicy::File);
        assert_eq!(rules.supports("d", Lifecycle::Ephemeral), Ok(()));
        let why = rules.supports("d", Lifecycle::Persistent).unwrap_err();
        assert!(why.ends_with("(only supports [\"Ephemeral\"])"), "{why}");
        let plain = object(json!({}));
        assert_eq!(DriverRules::of(Some(&plain)).supports("d", Lifecycle::Persistent), Ok(()));
    }

    #[test]
    fn the_agent_gives_files_to_the_group_where_it_may() {
        let volume = |modes: Value| -> PersistentVolume {
            serde_json::from_value(json!({"spec": {"accessModes": modes}})).unwrap()
        };
        use FsGroupPolicy::{File, None as Nobody, ReadWriteOnceWithFsType as Usual};
        for (policy, read_only, fs_type, modes, want) in [
            (Usual, false, Some("ext4"), Some(json!(["ReadWriteOnce"])), true),
            (Usual, false, Some("ext4"), Some(json!(["ReadWriteOncePod"])), true),
            (Usual, false, Some("ext4"), Some(json!(["ReadWriteMany"])), false),
            (Usual, false, None, Some(json!(["ReadWriteOnce"])), false),
            (Usual, false, Some(""), Some(json!(["ReadWriteOnce"])), false),
            (Usual, true, Some("ext4"), Some(json!(["ReadWriteOnce"])), false),
            (Usual, false, Some("ext4"), None, true),
            (Usual, false, None, None, false),
            (File, false, None, Some(json!(["ReadWriteMany"])), true),
            (File, true, None, None, false),
            (Nobody, false, Some("ext4"), None, false),
        ] {
            let volume = modes.clone().map(volume);
            let found = applies_fs_group(policy, read_only, fs_type, volume.as_ref());
            assert_eq!(found, want, "{policy:?} {read_only} {fs_type:?} {modes:?}");
        }
    }

    #[test]
    fn a_volume_is_attached_when_its_attachment_says_so() {
        let deleted = "2026-01-01T00:00:00Z";
        for (metadata, status, want) in [
            (json!({}), json!({"attached": true}), Ok(())),
            (json!({}), json!({"attached": false}), Err("volume v is not attached for volume attachment a")),
            (json!({}), Value::Null, Err("volume v is not attached for volume attachment a")),
            (
                json!({"deletionTimestamp": deleted}),
                json!({"attached": true}),
                Err("volume attachment is being deleted"),
            ),
            (json!({}), json!({"attached": false, "attachError": {"message": "no disk"}}), Err("no disk")),
        ] {
            let mut all = json!({"name": "a"});
            all.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
            let spec = json!({"attacher": "d", "nodeName": "n", "source": {}});
            let attachment = json!({"metadata": all, "spec": spec, "status": status});
            let attachment: VolumeAttachment = serde_json::from_value(attachment).unwrap();
            assert_eq!(is_attached(&attachment, "v"), want.map_err(str::to_owned), "{metadata} {status}");
        }
    }

    #[test]
    fn the_driver_hears_which_pod_it_is() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"serviceAccountName": "sa", "containers": []},
        }))
        .unwrap();
        let said = pod_info(&pod, Lifecycle::Ephemeral);
        let want = json!({
            "csi.storage.k8s.io/pod.name": "p", "csi.storage.k8s.io/pod.namespace": "ns",
            "csi.storage.k8s.io/pod.uid": "u", "csi.storage.k8s.io/serviceAccount.name": "sa",
            "csi.storage.k8s.io/ephemeral": "true",
        });
        assert_eq!(serde_json::to_value(said).unwrap(), want);
    }
}
