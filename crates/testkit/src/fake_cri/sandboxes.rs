//! Sandboxes: ready, not ready, gone.

use std::net::Ipv4Addr;

use node_proto::cri::v1::*;
use tonic::Status;

use super::model::{Answer, Model, labelled};

pub(super) struct Sandbox {
    pub(super) status: PodSandboxStatus,
    pub(super) log_directory: String,
}

impl Sandbox {
    pub(super) fn is_ready(&self) -> bool {
        self.status.state() == PodSandboxState::SandboxReady
    }

    fn matches(&self, filter: &PodSandboxFilter) -> bool {
        (filter.id.is_empty() || filter.id == self.status.id)
            && filter.state.is_none_or(|wanted| wanted.state() == self.status.state())
            && labelled(&self.status.labels, &filter.label_selector)
    }

    fn listed(&self) -> PodSandbox {
        let status = &self.status;
        PodSandbox {
            id: status.id.clone(),
            metadata: status.metadata.clone(),
            state: status.state,
            created_at: status.created_at,
            labels: status.labels.clone(),
            annotations: status.annotations.clone(),
            runtime_handler: status.runtime_handler.clone(),
        }
    }
}

fn namespaces(config: &PodSandboxConfig) -> Option<NamespaceOption> {
    config.linux.as_ref()?.security_context.as_ref()?.namespace_options.clone()
}

impl Model {
    pub(super) fn run_pod_sandbox(
        &mut self,
        request: &RunPodSandboxRequest,
    ) -> Answer<RunPodSandboxResponse> {
        let config =
            request.config.as_ref().ok_or_else(|| Status::invalid_argument("sandbox config is nil"))?;
        let metadata = config
            .metadata
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("sandbox config must include metadata"))?;
        if let Some(taken) = self.sandboxes.values().find(|s| s.status.metadata.as_ref() == Some(metadata)) {
            let PodSandboxMetadata { name, uid, namespace, attempt } = metadata;
            let id = &taken.status.id;
            return Err(Status::unknown(format!(
                "failed to reserve sandbox name \"{name}_{namespace}_{uid}_{attempt}\": it is reserved for \"{id}\""
            )));
        }
        if !request.runtime_handler.is_empty() {
            return Err(Status::unknown(format!(
                "failed to get sandbox runtime: no runtime for \"{}\" is configured",
                request.runtime_handler
            )));
        }
        let namespaces = namespaces(config);
        let host_network = namespaces.as_ref().is_some_and(|n| n.network() == NamespaceMode::Node);
        if !host_network && !self.network_ready {
            return Err(Status::unknown("failed to setup network for sandbox: cni plugin not initialized"));
        }
        let id = self.new_id();
        let network = (!host_network).then(|| {
            self.addresses += 1;
            let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 88, 0, 1).to_bits() + self.addresses);
            PodSandboxNetworkStatus { ip: ip.to_string(), additional_ips: Vec::new() }
        });
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: Some(metadata.clone()),
            state: PodSandboxState::SandboxReady.into(),
            created_at: self.now(),
            network,
            linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options: namespaces }) }),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            runtime_handler: String::new(),
        };
        let log_directory = config.log_directory.clone();
        self.sandboxes.insert(id.clone(), Sandbox { status, log_directory });
        self.emit(ContainerEventType::ContainerCreatedEvent, &id, &id);
        self.emit(ContainerEventType::ContainerStartedEvent, &id, &id);
        Ok(RunPodSandboxResponse { pod_sandbox_id: id })
    }

    pub(super) fn stop_pod_sandbox(
        &mut self,
        request: &StopPodSandboxRequest,
    ) -> Answer<StopPodSandboxResponse> {
        for container in self.ids_in(&request.pod_sandbox_id) {
            self.exit(&container, 137, "Error");
        }
        self.sandbox_died(&request.pod_sandbox_id);
        Ok(StopPodSandboxResponse {})
    }

    pub(super) fn remove_pod_sandbox(
        &mut self,
        request: &RemovePodSandboxRequest,
    ) -> Answer<RemovePodSandboxResponse> {
        let id = &request.pod_sandbox_id;
        self.stop_pod_sandbox(&StopPodSandboxRequest { pod_sandbox_id: id.clone() })?;
        for container_id in self.ids_in(id) {
            self.remove_container(&RemoveContainerRequest { container_id })?;
        }
        if self.sandboxes.remove(id).is_some() {
            self.emit(ContainerEventType::ContainerDeletedEvent, id, id);
        }
        Ok(RemovePodSandboxResponse {})
    }

    pub(super) fn pod_sandbox_status(
        &mut self,
        request: &PodSandboxStatusRequest,
    ) -> Answer<PodSandboxStatusResponse> {
        let id = &request.pod_sandbox_id;
        let sandbox = self.sandboxes.get(id).ok_or_else(no_sandbox)?;
        Ok(PodSandboxStatusResponse {
            status: Some(sandbox.status.clone()),
            containers_statuses: self.statuses_in(id),
            timestamp: self.now(),
            ..Default::default()
        })
    }

    pub(super) fn list_pod_sandbox(
        &mut self,
        request: &ListPodSandboxRequest,
    ) -> Answer<ListPodSandboxResponse> {
        let filter = request.filter.clone().unwrap_or_default();
        let items = self.sandboxes.values().filter(|s| s.matches(&filter)).map(Sandbox::listed);
        Ok(ListPodSandboxResponse { items: items.collect() })
    }

    pub(super) fn update_pod_sandbox_resources(
        &mut self,
        request: &UpdatePodSandboxResourcesRequest,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        let id = &request.pod_sandbox_id;
        self.sandboxes.get(id).ok_or_else(no_sandbox)?;
        Ok(UpdatePodSandboxResourcesResponse {})
    }

    /// The sandbox's own process ends and its network goes. False if it is not ready.
    pub(super) fn sandbox_died(&mut self, id: &str) -> bool {
        let Some(sandbox) = self.sandboxes.get_mut(id).filter(|s| s.is_ready()) else { return false };
        sandbox.status.set_state(PodSandboxState::SandboxNotready);
        sandbox.status.network = None;
        self.emit(ContainerEventType::ContainerStoppedEvent, id, id);
        true
    }

    pub(super) fn sandbox_statuses(&self) -> Vec<PodSandboxStatus> {
        self.sandboxes.values().map(|s| s.status.clone()).collect()
    }
}

/// In containerd's words.
pub(super) fn no_sandbox() -> Status {
    Status::not_found("an error occurred when try to find sandbox: not found")
}
