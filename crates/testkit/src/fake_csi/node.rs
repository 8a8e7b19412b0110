//! The services Identity and Node: each call is recorded, meets its fault, and then does what the spec says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use node_proto::csi::v1::identity_server::Identity;
use node_proto::csi::v1::node_server::Node;
use node_proto::csi::v1::node_service_capability::{Rpc, Type, rpc};
use node_proto::csi::v1::volume_capability::AccessType;
use node_proto::csi::v1::volume_usage::Unit;
use node_proto::csi::v1::*;
use tonic::{Request, Response, Status};

use super::{Call, Shared, lock, mounts};
use crate::faults::Fault;

#[derive(Clone)]
pub(super) struct Service(pub(super) Arc<Shared>);

type Answer<T> = Result<T, Status>;

impl Service {
    async fn call<Req, Res>(
        &self,
        method: &'static str,
        request: Request<Req>,
        act: impl FnOnce(&Shared, &Req) -> Answer<Res> + Send + 'static,
    ) -> Answer<Response<Res>>
    where
        Req: Send + Sync + 'static,
        Res: Default + Send + 'static,
    {
        let request = Arc::new(request.into_inner());
        let (fault, mut cleared) = {
            let mut faults = lock(&self.0.faults);
            (faults.take(&*request), faults.cleared())
        };
        lock(&self.0.calls).push(Call { method, request: request.clone() });
        if let Some(fault) = &fault {
            if matches!(fault, Fault::Disconnect) {
                self.0.disconnect();
            }
            fault.before(&mut cleared).await?;
        }
        let lies = *lock(&self.0.lying) && ["NodeStageVolume", "NodePublishVolume"].contains(&method);
        let answer = if lies {
            Ok(Res::default())
        } else {
            let shared = Arc::clone(&self.0);
            // What mounts waits for the kernel.
            let done = tokio::task::spawn_blocking(move || {
                let _one = lock(&shared.mounting);
                act(&shared, &request)
            });
            done.await.map_err(|error| Status::internal(error.to_string()))?
        };
        if let Some(fault) = &fault {
            fault.after(&mut cleared).await;
        }
        answer.map(Response::new)
    }
}

impl Shared {
    fn can(&self, what: rpc::Type) -> bool {
        self.options.capabilities.contains(&what)
    }

    fn must(&self, what: rpc::Type) -> Answer<()> {
        if self.can(what) {
            return Ok(());
        }
        Err(Status::unimplemented(format!("the driver cannot {}", what.as_str_name())))
    }

    /// What is on the device that a volume is.
    fn image(&self, volume: &str) -> PathBuf {
        self.data.join(format!("{volume}.image"))
    }

    fn data_of(&self, volume: &str) -> Answer<PathBuf> {
        let path = self.data.join(volume);
        std::fs::create_dir_all(&path).map_err(internal)?;
        Ok(path)
    }
}

fn internal(error: std::io::Error) -> Status {
    Status::internal(error.to_string())
}

/// What the spec calls required.
fn required<'a>(field: &str, value: &'a str) -> Answer<&'a str> {
    if value.is_empty() { Err(Status::invalid_argument(format!("{field} is required"))) } else { Ok(value) }
}

fn required_path<'a>(field: &str, value: &'a str) -> Answer<&'a Path> {
    let path = Path::new(required(field, value)?);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Status::invalid_argument(format!("{field} is not absolute")))
    }
}

/// What is to be mounted; `None` for a device.
fn capability<'a>(
    shared: &Shared,
    given: Option<&'a VolumeCapability>,
) -> Answer<Option<&'a volume_capability::MountVolume>> {
    let given = given.ok_or_else(|| Status::invalid_argument("volume_capability is required"))?;
    let mode = given.access_mode.map(|mode| mode.mode());
    match mode {
        None | Some(volume_capability::access_mode::Mode::Unknown) => {
            return Err(Status::invalid_argument("access_mode is required"));
        }
        Some(
            volume_capability::access_mode::Mode::SingleNodeSingleWriter
            | volume_capability::access_mode::Mode::SingleNodeMultiWriter,
        ) => shared.must(rpc::Type::SingleNodeMultiWriter)?,
        Some(_) => {}
    }
    match &given.access_type {
        None => Err(Status::invalid_argument("access_type is required")),
        Some(AccessType::Block(_)) => Ok(None),
        Some(AccessType::Mount(mount)) => {
            if !mount.volume_mount_group.is_empty() {
                shared.must(rpc::Type::VolumeMountGroup)?;
            }
            Ok(Some(mount))
        }
    }
}

/// What is in the volume is the group's.
fn give_to(path: &Path, group: &str) -> Answer<()> {
    if group.is_empty() {
        return Ok(());
    }
    let group = group.parse().map_err(|_| Status::invalid_argument("volume_mount_group is no number"))?;
    std::os::unix::fs::chown(path, None, Some(group)).map_err(internal)
}

fn stage(shared: &Shared, request: &NodeStageVolumeRequest) -> Answer<NodeStageVolumeResponse> {
    shared.must(rpc::Type::StageUnstageVolume)?;
    let volume = required("volume_id", &request.volume_id)?;
    let target = required_path("staging_target_path", &request.staging_target_path)?;
    let mount = capability(shared, request.volume_capability.as_ref())?;
    let data = shared.data_of(volume)?;
    if let Some(mount) = mount {
        mounts::bind(&data, target, false).map_err(internal)?;
        give_to(target, &mount.volume_mount_group)?;
    }
    Ok(NodeStageVolumeResponse {})
}

fn unstage(shared: &Shared, request: &NodeUnstageVolumeRequest) -> Answer<NodeUnstageVolumeResponse> {
    shared.must(rpc::Type::StageUnstageVolume)?;
    required("volume_id", &request.volume_id)?;
    let target = required_path("staging_target_path", &request.staging_target_path)?;
    mounts::unbind(target, false).map_err(internal)?;
    Ok(NodeUnstageVolumeResponse {})
}

fn publish(shared: &Shared, request: &NodePublishVolumeRequest) -> Answer<NodePublishVolumeResponse> {
    let volume = required("volume_id", &request.volume_id)?;
    let target = required_path("target_path", &request.target_path)?;
    let mount = capability(shared, request.volume_capability.as_ref())?;
    let ephemeral =
        request.volume_context.get("csi.storage.k8s.io/ephemeral").is_some_and(|text| text == "true");
    let staged = shared.can(rpc::Type::StageUnstageVolume) && !ephemeral;
    let Some(mount) = mount else {
        let device = mounts::attach(&shared.image(volume)).map_err(internal)?;
        mounts::bind_device(&device, target).map_err(internal)?;
        return Ok(NodePublishVolumeResponse {});
    };
    let source = if staged {
        let staging = required_path("staging_target_path", &request.staging_target_path)?.to_owned();
        if !mounts::is_mounted(&staging).map_err(internal)? {
            let text = format!("{volume} is not staged at {}", staging.display());
            return Err(Status::failed_precondition(text));
        }
        staging
    } else {
        shared.data_of(volume)?
    };
    mounts::bind(&source, target, request.readonly).map_err(internal)?;
    give_to(target, &mount.volume_mount_group)?;
    Ok(NodePublishVolumeResponse {})
}

fn unpublish(shared: &Shared, request: &NodeUnpublishVolumeRequest) -> Answer<NodeUnpublishVolumeResponse> {
    let volume = required("volume_id", &request.volume_id)?;
    let target = required_path("target_path", &request.target_path)?;
    mounts::unbind(target, true).map_err(internal)?;
    if shared.image(volume).exists() {
        // The kernel waits with it for those who have it yet.
        mounts::detach(&shared.image(volume)).map_err(internal)?;
    }
    Ok(NodeUnpublishVolumeResponse {})
}

fn stats(shared: &Shared, request: &NodeGetVolumeStatsRequest) -> Answer<NodeGetVolumeStatsResponse> {
    shared.must(rpc::Type::GetVolumeStats)?;
    required("volume_id", &request.volume_id)?;
    let path = required_path("volume_path", &request.volume_path)?;
    if !mounts::is_mounted(path).map_err(internal)? {
        return Err(Status::not_found(format!("no volume is at {}", path.display())));
    }
    let usage =
        |unit: Unit, total, used| VolumeUsage { available: total - used, total, used, unit: unit.into() };
    let usage = vec![usage(Unit::Bytes, 1 << 30, 4096), usage(Unit::Inodes, 1000, 7)];
    Ok(NodeGetVolumeStatsResponse { usage, volume_condition: None })
}

fn expand(shared: &Shared, request: &NodeExpandVolumeRequest) -> Answer<NodeExpandVolumeResponse> {
    shared.must(rpc::Type::ExpandVolume)?;
    required("volume_id", &request.volume_id)?;
    let path = required_path("volume_path", &request.volume_path)?;
    if !mounts::is_mounted(path).map_err(internal)? {
        return Err(Status::not_found(format!("no volume is at {}", path.display())));
    }
    let capacity_bytes = request.capacity_range.map_or(0, |range| range.required_bytes);
    Ok(NodeExpandVolumeResponse { capacity_bytes })
}

fn capabilities(shared: &Shared, _: &NodeGetCapabilitiesRequest) -> Answer<NodeGetCapabilitiesResponse> {
    let all = shared.options.capabilities.iter();
    let capabilities = all
        .map(|&what| NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: what.into() })) })
        .collect();
    Ok(NodeGetCapabilitiesResponse { capabilities })
}

fn node_info(shared: &Shared, _: &NodeGetInfoRequest) -> Answer<NodeGetInfoResponse> {
    let options = &shared.options;
    let topology = Topology { segments: options.topology.clone() };
    Ok(NodeGetInfoResponse {
        node_id: options.node_id.clone(),
        max_volumes_per_node: options.max_volumes,
        accessible_topology: (!topology.segments.is_empty()).then_some(topology),
    })
}

/// Writes a service: which function answers which call.
macro_rules! service {
    ($service:ident { $($name:ident $method:literal ($request:ident) -> $response:ident = $act:expr;)* }) => {
        #[tonic::async_trait]
        impl $service for Service {
            $(async fn $name(&self, request: Request<$request>) -> Answer<Response<$response>> {
                self.call($method, request, $act).await
            })*
        }
    };
}

service! {
    Node {
        node_stage_volume "NodeStageVolume"(NodeStageVolumeRequest) -> NodeStageVolumeResponse = stage;
        node_unstage_volume "NodeUnstageVolume"(NodeUnstageVolumeRequest) -> NodeUnstageVolumeResponse = unstage;
        node_publish_volume "NodePublishVolume"(NodePublishVolumeRequest) -> NodePublishVolumeResponse = publish;
        node_unpublish_volume "NodeUnpublishVolume"(NodeUnpublishVolumeRequest) -> NodeUnpublishVolumeResponse = unpublish;
        node_get_volume_stats "NodeGetVolumeStats"(NodeGetVolumeStatsRequest) -> NodeGetVolumeStatsResponse = stats;
        node_expand_volume "NodeExpandVolume"(NodeExpandVolumeRequest) -> NodeExpandVolumeResponse = expand;
        node_get_capabilities "NodeGetCapabilities"(NodeGetCapabilitiesRequest) -> NodeGetCapabilitiesResponse = capabilities;
        node_get_info "NodeGetInfo"(NodeGetInfoRequest) -> NodeGetInfoResponse = node_info;
    }
}

service! {
    Identity {
        get_plugin_info "GetPluginInfo"(GetPluginInfoRequest) -> GetPluginInfoResponse = |shared, _| {
            Ok(GetPluginInfoResponse {
                name: shared.options.name.clone(),
                vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
                ..GetPluginInfoResponse::default()
            })
        };
        get_plugin_capabilities "GetPluginCapabilities"(GetPluginCapabilitiesRequest) -> GetPluginCapabilitiesResponse =
            |_, _| Ok(GetPluginCapabilitiesResponse::default());
        probe "Probe"(ProbeRequest) -> ProbeResponse = |_, _| Ok(ProbeResponse { ready: Some(true) });
    }
}
