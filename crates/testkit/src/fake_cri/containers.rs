//! Containers: created, running, exited, gone.

use node_proto::cri::v1::*;
use tonic::Status;

use super::images::image_ref;
use super::model::{Answer, Model, labelled};
use super::sandboxes::no_sandbox;

pub(super) struct Container {
    pub(super) status: ContainerStatus,
    sandbox: String,
}

impl Container {
    fn matches(&self, filter: &ContainerFilter) -> bool {
        (filter.id.is_empty() || filter.id == self.status.id)
            && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == self.sandbox)
            && filter.state.is_none_or(|wanted| wanted.state() == self.status.state())
            && labelled(&self.status.labels, &filter.label_selector)
    }

    fn listed(&self) -> node_proto::cri::v1::Container {
        let status = &self.status;
        node_proto::cri::v1::Container {
            id: status.id.clone(),
            pod_sandbox_id: self.sandbox.clone(),
            metadata: status.metadata.clone(),
            image: status.image.clone(),
            image_ref: status.image_ref.clone(),
            state: status.state,
            created_at: status.created_at,
            labels: status.labels.clone(),
            annotations: status.annotations.clone(),
            image_id: status.image_id.clone(),
        }
    }
}

impl Model {
    pub(super) fn create_container(
        &mut self,
        request: &CreateContainerRequest,
    ) -> Answer<CreateContainerResponse> {
        let sandbox_id = &request.pod_sandbox_id;
        let sandbox = self.sandboxes.get(sandbox_id).ok_or_else(no_sandbox)?;
        if !sandbox.is_ready() {
            return Err(Status::unknown(format!("sandbox container \"{sandbox_id}\" is not running")));
        }
        let config =
            request.config.as_ref().ok_or_else(|| Status::invalid_argument("container config is nil"))?;
        let metadata = config
            .metadata
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("container config must include metadata"))?;
        let mut siblings = self.containers.values().filter(|c| c.sandbox == *sandbox_id);
        if let Some(taken) = siblings.find(|c| c.status.metadata.as_ref() == Some(metadata)) {
            let (name, attempt, id) = (&metadata.name, metadata.attempt, &taken.status.id);
            return Err(Status::unknown(format!(
                "failed to reserve container name \"{name}_{attempt}\": it is reserved for \"{id}\""
            )));
        }
        let wanted = config.image.clone().unwrap_or_default();
        let image = self.find_image(&wanted.image).ok_or_else(|| {
            Status::not_found(format!("failed to resolve image \"{}\": not found", wanted.image))
        })?;
        let (image_id, image_ref) = (image.id.clone(), image_ref(image));
        let linux = config.linux.as_ref().and_then(|linux| linux.resources.clone());
        let log_path = format!("{}/{}", sandbox.log_directory, config.log_path);
        let id = self.new_id();
        let status = ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata.clone()),
            state: ContainerState::ContainerCreated.into(),
            created_at: self.now(),
            image: Some(wanted),
            image_ref,
            image_id,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path,
            resources: Some(ContainerResources { linux, windows: None }),
            stop_signal: config.stop_signal,
            ..Default::default()
        };
        self.containers.insert(id.clone(), Container { status, sandbox: sandbox_id.clone() });
        self.emit(ContainerEventType::ContainerCreatedEvent, sandbox_id, &id);
        Ok(CreateContainerResponse { container_id: id })
    }

    pub(super) fn start_container(
        &mut self,
        request: &StartContainerRequest,
    ) -> Answer<StartContainerResponse> {
        let now = self.now();
        let container = self.container(&request.container_id)?;
        if container.status.state() != ContainerState::ContainerCreated {
            let state = container.status.state().as_str_name();
            return Err(Status::unknown(format!("container is in {state} state")));
        }
        container.status.set_state(ContainerState::ContainerRunning);
        container.status.started_at = now;
        let sandbox = container.sandbox.clone();
        self.emit(ContainerEventType::ContainerStartedEvent, &sandbox, &request.container_id);
        Ok(StartContainerResponse {})
    }

    /// The processes of this runtime obey SIGTERM at once.
    pub(super) fn stop_container(&mut self, request: &StopContainerRequest) -> Answer<StopContainerResponse> {
        let exit_code = if request.timeout > 0 { 143 } else { 137 };
        self.exit(&request.container_id, exit_code, "Error");
        Ok(StopContainerResponse {})
    }

    pub(super) fn remove_container(
        &mut self,
        request: &RemoveContainerRequest,
    ) -> Answer<RemoveContainerResponse> {
        let id = &request.container_id;
        self.exit(id, 137, "Error");
        if let Some(container) = self.containers.remove(id) {
            self.emit(ContainerEventType::ContainerDeletedEvent, &container.sandbox, id);
        }
        Ok(RemoveContainerResponse {})
    }

    pub(super) fn container_status(
        &mut self,
        request: &ContainerStatusRequest,
    ) -> Answer<ContainerStatusResponse> {
        let status = Some(self.container(&request.container_id)?.status.clone());
        Ok(ContainerStatusResponse { status, ..Default::default() })
    }

    pub(super) fn list_containers(
        &mut self,
        request: &ListContainersRequest,
    ) -> Answer<ListContainersResponse> {
        let filter = request.filter.clone().unwrap_or_default();
        let containers = self.containers.values().filter(|c| c.matches(&filter)).map(Container::listed);
        Ok(ListContainersResponse { containers: containers.collect() })
    }

    pub(super) fn update_container_resources(
        &mut self,
        request: &UpdateContainerResourcesRequest,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let container = self.container(&request.container_id)?;
        let resources = ContainerResources { linux: request.linux.clone(), windows: None };
        container.status.resources = Some(resources);
        Ok(UpdateContainerResourcesResponse {})
    }

    pub(super) fn reopen_container_log(
        &mut self,
        request: &ReopenContainerLogRequest,
    ) -> Answer<ReopenContainerLogResponse> {
        self.running(&request.container_id)?;
        Ok(ReopenContainerLogResponse {})
    }

    pub(super) fn exec_sync(&mut self, request: &ExecSyncRequest) -> Answer<ExecSyncResponse> {
        self.running(&request.container_id)?;
        Ok((self.exec)(request))
    }

    /// The container's process ends. False if it does not run.
    pub(super) fn exit(&mut self, id: &str, exit_code: i32, reason: &str) -> bool {
        let now = self.now();
        let Ok(container) = self.running(id) else { return false };
        container.status.set_state(ContainerState::ContainerExited);
        container.status.finished_at = now;
        container.status.exit_code = exit_code;
        container.status.reason = reason.to_owned();
        let sandbox = container.sandbox.clone();
        self.emit(ContainerEventType::ContainerStoppedEvent, &sandbox, id);
        true
    }

    pub(super) fn ids_in(&self, sandbox: &str) -> Vec<String> {
        let inside = self.containers.iter().filter(|(_, c)| c.sandbox == sandbox);
        inside.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn statuses_in(&self, sandbox: &str) -> Vec<ContainerStatus> {
        let inside = self.containers.values().filter(|c| c.sandbox == sandbox);
        inside.map(|c| c.status.clone()).collect()
    }

    pub(super) fn container_statuses(&self) -> Vec<ContainerStatus> {
        self.containers.values().map(|c| c.status.clone()).collect()
    }

    fn container(&mut self, id: &str) -> Answer<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| {
            Status::not_found(format!("an error occurred when try to find container \"{id}\": not found"))
        })
    }

    fn running(&mut self, id: &str) -> Answer<&mut Container> {
        let container = self.container(id)?;
        match container.status.state() {
            ContainerState::ContainerRunning => Ok(container),
            state => Err(Status::unknown(format!("container is in {} state", state.as_str_name()))),
        }
    }
}
