//! The runtime's state and what spans all of it: identities, time, events, conditions.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use node_proto::cri::v1::{
    CgroupDriver, ContainerEventResponse, ContainerEventType, ExecSyncRequest, ExecSyncResponse, Image,
    LinuxRuntimeConfiguration, RuntimeCondition, RuntimeConfigRequest, RuntimeConfigResponse, RuntimeStatus,
    StatusRequest, StatusResponse, UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse, VersionRequest,
    VersionResponse,
};
use tokio::sync::broadcast;
use tonic::Status;

use super::containers::Container;
use super::sandboxes::Sandbox;

/// Events kept for new subscribers, and for a slow one before it loses some.
const KEPT_EVENTS: usize = 1000;

pub(super) type Answer<T> = Result<T, Status>;

pub(super) struct Model {
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    pub(super) containers: BTreeMap<String, Container>,
    /// By ID.
    pub(super) images: BTreeMap<String, Image>,
    pub(super) network_ready: bool,
    pub(super) events_offered: bool,
    pub(super) exec: Box<dyn Fn(&ExecSyncRequest) -> ExecSyncResponse + Send>,
    pub(super) addresses: u32,
    ids: u64,
    last_time: i64,
    replay: VecDeque<ContainerEventResponse>,
    events: broadcast::Sender<ContainerEventResponse>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            network_ready: true,
            events_offered: true,
            exec: Box::new(|_| ExecSyncResponse::default()),
            addresses: 0,
            ids: 0,
            last_time: 0,
            replay: VecDeque::new(),
            events: broadcast::Sender::new(KEPT_EVENTS),
        }
    }
}

impl Model {
    /// A new identity of the runtimes' form; later ones sort later.
    pub(super) fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("{:064x}", self.ids)
    }

    /// Nanoseconds since the epoch, never the same twice.
    pub(super) fn now(&mut self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.last_time = i64::try_from(now).unwrap_or(i64::MAX).max(self.last_time + 1);
        self.last_time
    }

    /// Tells of a change of a container, or of the sandbox itself under its own ID.
    pub(super) fn emit(&mut self, kind: ContainerEventType, sandbox: &str, container: &str) {
        let event = ContainerEventResponse {
            container_id: container.to_owned(),
            container_event_type: kind.into(),
            created_at: self.now(),
            pod_sandbox_status: self.sandboxes.get(sandbox).map(|s| s.status.clone()),
            containers_statuses: self.statuses_in(sandbox),
        };
        self.replay.push_back(event.clone());
        if self.replay.len() > KEPT_EVENTS {
            self.replay.pop_front();
        }
        // No subscriber is no failure.
        let _ = self.events.send(event);
    }

    /// What happened lately, as containerd 2.1 replays it, and what happens from now on.
    pub(super) fn subscribe(
        &self,
    ) -> Answer<(VecDeque<ContainerEventResponse>, broadcast::Receiver<ContainerEventResponse>)> {
        if !self.events_offered {
            return Err(Status::unimplemented("unknown method GetContainerEvents"));
        }
        Ok((self.replay.clone(), self.events.subscribe()))
    }

    pub(super) fn version(&mut self, _: &VersionRequest) -> Answer<VersionResponse> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake-cri".into(),
            runtime_version: "0.1.0".into(),
            runtime_api_version: "v1".into(),
        })
    }

    pub(super) fn status(&mut self, _: &StatusRequest) -> Answer<StatusResponse> {
        let mut network =
            RuntimeCondition { r#type: "NetworkReady".into(), status: true, ..Default::default() };
        if !self.network_ready {
            network.status = false;
            network.reason = "NetworkPluginNotReady".into();
            network.message = "Network plugin returns error: cni plugin not initialized".into();
        }
        let runtime = RuntimeCondition { r#type: "RuntimeReady".into(), status: true, ..Default::default() };
        let status = Some(RuntimeStatus { conditions: vec![runtime, network] });
        Ok(StatusResponse { status, ..Default::default() })
    }

    pub(super) fn runtime_config(&mut self, _: &RuntimeConfigRequest) -> Answer<RuntimeConfigResponse> {
        let linux = Some(LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs.into() });
        Ok(RuntimeConfigResponse { linux })
    }

    pub(super) fn update_runtime_config(
        &mut self,
        _: &UpdateRuntimeConfigRequest,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        Ok(UpdateRuntimeConfigResponse {})
    }
}

/// Whether all wanted labels are there.
pub(super) fn labelled(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
