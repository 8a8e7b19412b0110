//! What the lists tell of a sandbox or container whose own status the runtime fails to tell.

use node_proto::cri::v1;

/// A sandbox as the list has it: without addresses and without the namespaces that it shares.
pub fn sandbox_as_listed(listed: &v1::PodSandbox) -> v1::PodSandboxStatus {
    v1::PodSandboxStatus {
        id: listed.id.clone(),
        metadata: listed.metadata.clone(),
        state: listed.state,
        created_at: listed.created_at,
        labels: listed.labels.clone(),
        annotations: listed.annotations.clone(),
        runtime_handler: listed.runtime_handler.clone(),
        ..Default::default()
    }
}

/// A container as the list has it: without times but that of its creation, and without its log. How one has ended is
/// not known; it is taken to have failed, so that its pod does not look as if it succeeded.
/// Rule: upstream `pkg/kubelet/status/status_manager.go` `TerminatePod`.
pub fn container_as_listed(listed: &v1::Container, why: &str) -> v1::ContainerStatus {
    let ended = listed.state() == v1::ContainerState::ContainerExited;
    let (exit_code, reason, message) = match ended {
        true => (137, "ContainerStatusUnknown".to_owned(), why.to_owned()),
        false => (0, String::new(), String::new()),
    };
    v1::ContainerStatus {
        id: listed.id.clone(),
        metadata: listed.metadata.clone(),
        state: listed.state,
        created_at: listed.created_at,
        exit_code,
        image: listed.image.clone(),
        image_ref: listed.image_ref.clone(),
        image_id: listed.image_id.clone(),
        reason,
        message,
        labels: listed.labels.clone(),
        annotations: listed.annotations.clone(),
        ..Default::default()
    }
}
