//! What a driver is sent.

use std::collections::BTreeMap;
use std::path::Path;

use ::csi::v1::volume_capability::access_mode::Mode as Access;
use ::csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use ::csi::v1::{
    CapacityRange, NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
};
use kube_model::core::{CSIPersistentVolumeSource, SecretReference};
use kube_model::pod;
use serde_json::{Value, json};
use volume_plan::claims::Mode;
use volume_plan::csi::{DriverRules, access_modes, pod_info};
use volume_plan::payload;

use super::{Of, Operation, Volume};
use crate::empty_dir::fs_group;
use crate::error::SetUpError;
use crate::set_up::Job;

pub(super) type Map = BTreeMap<String, String>;

/// Where drivers find the tokens that they want.
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// The tokens that a driver wants, as it gets them. Not to be printed.
pub(super) struct Tokens(Option<String>);

impl Tokens {
    /// By their audiences: `{"vault": {"token": "...", "expirationTimestamp": "..."}}`.
    pub(super) async fn of(job: &Job, wanted: DriverRules<'_>) -> Result<Self, SetUpError> {
        let mut all = BTreeMap::<&str, Value>::new();
        for (audience, expiration_seconds) in wanted.tokens() {
            let request = payload::Token { audience, expiration_seconds };
            let token = job.inner.content.token(&job.pod, request).await;
            let token = token.map_err(|error| {
                SetUpError(format!(
                    "kubernetes.io/csi: mounter.SetUpAt failed to get service accoount token attributes: {error}"
                ))
            })?;
            all.insert(audience, json!({"token": &*token.token, "expirationTimestamp": token.expires}));
        }
        Ok(Self((!all.is_empty()).then(|| json!(all).to_string())))
    }
}

pub(super) async fn publish_secrets(job: &Job, volume: &Volume<'_>) -> Result<Map, SetUpError> {
    let (_, key) = pod::identity(&job.pod);
    let reference = match &volume.of {
        Of::Pod(source) => source.node_publish_secret_ref.as_ref().map(|secret| SecretReference {
            name: Some(secret.name.clone()),
            namespace: Some(key.namespace.to_string()),
        }),
        Of::Claim(source, _) => source.node_publish_secret_ref.clone(),
    };
    secrets(job, ("fetching NodePublishSecretRef", " failed"), reference.as_ref()).await
}

pub(super) async fn stage_secrets(job: &Job, source: &CSIPersistentVolumeSource) -> Result<Map, SetUpError> {
    secrets(job, ("fetching NodeStageSecretRef", " failed"), source.node_stage_secret_ref.as_ref()).await
}

pub(super) async fn expand_secrets(job: &Job, source: &CSIPersistentVolumeSource) -> Result<Map, SetUpError> {
    let reference = source.node_expand_secret_ref.as_ref();
    secrets(job, ("expander.NodeExpand failed to get NodeExpandSecretRef", ""), reference).await
}

/// `words`: around the name of one that cannot be had.
async fn secrets(
    job: &Job,
    words: (&str, &str),
    reference: Option<&SecretReference>,
) -> Result<Map, SetUpError> {
    let Some(reference) = reference else { return Ok(Map::new()) };
    let (namespace, name) =
        (reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default());
    job.inner.storage.secret(namespace, name).await.map_err(|error| {
        let (doing, failed) = words;
        SetUpError(format!(
            "{doing} {namespace}/{name}{failed}: kubernetes.io/csi: failed to find the secret {name} in the namespace \
             {namespace} with error: {error}"
        ))
    })
}

/// How it is used. `mounts`: it is mounted now, and so gets its group and label.
fn capability(operation: &Operation<'_>, mounts: bool) -> VolumeCapability {
    let Operation { can, volume, .. } = operation;
    let mut options = match &volume.of {
        Of::Pod(_) => Vec::new(),
        Of::Claim(_, claimed) => claimed.mount_options(),
    };
    // In quotes, as a label may have commas.
    options.extend(operation.label().filter(|_| mounts).map(|label| format!("context={label:?}")));
    let group = group(operation).filter(|_| mounts);
    let mount = MountVolume {
        fs_type: volume.fs_type().unwrap_or_default().to_owned(),
        mount_flags: options,
        volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
    };
    let mode = volume.persistent().and_then(|volume| access_modes(volume).first()).map(String::as_str);
    let access_type = match &volume.of {
        Of::Claim(_, claimed) if claimed.mode == Mode::Block => AccessType::Block(BlockVolume {}),
        Of::Claim(..) | Of::Pod(_) => AccessType::Mount(mount),
    };
    VolumeCapability {
        access_type: Some(access_type),
        access_mode: Some(AccessMode { mode: access_mode(mode, can.single_node_multi_writer).into() }),
    }
}

/// The pod's group, where the driver gives files to it.
fn group(operation: &Operation<'_>) -> Option<u32> {
    let spec = operation.job.pod.spec.as_ref();
    spec.and_then(fs_group).filter(|_| operation.can.volume_mount_group)
}

/// The first of the volume's access modes, as CSI calls it (upstream `pkg/volume/csi/csi_client.go`).
fn access_mode(mode: Option<&str>, single_node_multi_writer: bool) -> Access {
    match (mode.unwrap_or("ReadWriteOnce"), single_node_multi_writer) {
        ("ReadWriteOnce" | "ReadWriteOncePod", false) => Access::SingleNodeWriter,
        ("ReadWriteOnce", true) => Access::SingleNodeMultiWriter,
        ("ReadWriteOncePod", true) => Access::SingleNodeSingleWriter,
        ("ReadOnlyMany", _) => Access::MultiNodeReaderOnly,
        ("ReadWriteMany", _) => Access::MultiNodeMultiWriter,
        _ => Access::Unknown,
    }
}

pub(super) fn stage(operation: &Operation<'_>, secrets: Map, staging: &Path) -> NodeStageVolumeRequest {
    let volume = operation.volume;
    NodeStageVolumeRequest {
        volume_id: volume.handle.clone(),
        publish_context: operation.context.clone(),
        staging_target_path: text(staging),
        volume_capability: Some(capability(operation, true)),
        secrets,
        volume_context: volume.attributes(),
    }
}

pub(super) fn publish(
    operation: &Operation<'_>,
    tokens: Tokens,
    secrets: Map,
    staging: Option<&Path>,
    target: &Path,
) -> NodePublishVolumeRequest {
    let (volume, wanted) = (operation.volume, operation.wanted);
    let (mut volume_context, mut secrets) = (volume.attributes(), secrets);
    if wanted.wants_pod_info() {
        volume_context.extend(pod_info(&operation.job.pod, volume.lifecycle()));
    }
    if let Tokens(Some(tokens)) = tokens {
        let to = if wanted.wants_tokens_as_secrets() { &mut secrets } else { &mut volume_context };
        to.insert(TOKENS.to_owned(), tokens);
    }
    NodePublishVolumeRequest {
        volume_id: volume.handle.clone(),
        publish_context: operation.context.clone(),
        staging_target_path: staging.map(text).unwrap_or_default(),
        target_path: text(target),
        volume_capability: Some(capability(operation, true)),
        readonly: volume.read_only,
        secrets,
        volume_context,
    }
}

pub(super) fn expand(
    operation: &Operation<'_>,
    bytes: i64,
    secrets: Map,
    staging: Option<&Path>,
    path: &Path,
) -> NodeExpandVolumeRequest {
    NodeExpandVolumeRequest {
        volume_id: operation.volume.handle.clone(),
        volume_path: text(path),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        staging_target_path: staging.map(text).unwrap_or_default(),
        volume_capability: Some(capability(operation, false)),
        secrets,
    }
}

pub(super) fn unpublish(handle: &str, target: &Path) -> NodeUnpublishVolumeRequest {
    NodeUnpublishVolumeRequest { volume_id: handle.to_owned(), target_path: text(target) }
}

pub(super) fn unstage(handle: &str, staging: &Path) -> NodeUnstageVolumeRequest {
    NodeUnstageVolumeRequest { volume_id: handle.to_owned(), staging_target_path: text(staging) }
}

impl Volume<'_> {
    fn attributes(&self) -> Map {
        match &self.of {
            Of::Pod(source) => source.volume_attributes.clone(),
            Of::Claim(source, _) => source.volume_attributes.clone(),
        }
        .unwrap_or_default()
    }
}

/// Below the root folder of the agent, which is UTF-8.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_modes_are_csis() {
        for (mode, several, want) in [
            (None, false, Access::SingleNodeWriter),
            (Some("ReadWriteOnce"), false, Access::SingleNodeWriter),
            (Some("ReadWriteOnce"), true, Access::SingleNodeMultiWriter),
            (Some("ReadWriteOncePod"), false, Access::SingleNodeWriter),
            (Some("ReadWriteOncePod"), true, Access::SingleNodeSingleWriter),
            (Some("ReadOnlyMany"), true, Access::MultiNodeReaderOnly),
            (Some("ReadWriteMany"), false, Access::MultiNodeMultiWriter),
            (Some("Nonsense"), false, Access::Unknown),
        ] {
            assert_eq!(access_mode(mode, several), want, "{mode:?} {several}");
        }
    }
}
