//! Starting a container: what it needs is gathered, what it is created with decided, then come creation, start, log link
//! and postStart hook (upstream `pkg/kubelet/kuberuntime/kuberuntime_container.go` `startContainer`).

use std::net::IpAddr;
use std::sync::Arc;

use cri_client::v1::{CreateContainerRequest, StartContainerRequest};
use cri_config::paths;
use kube_model::core::{Container, Pod};
use kube_model::pod;
use kube_model::view::EventType;
use pod_lifecycle::{FailureReason, has_post_start_hook};
use pod_workers::{Reporter, StartContainer, StepError};

use super::{CriRuntime, failed};

impl CriRuntime {
    pub(super) async fn start(
        &self,
        request: StartContainer<'_>,
        reporter: &Reporter,
    ) -> Result<(), StepError> {
        let kind = request
            .pod
            .spec
            .as_ref()
            .and_then(|spec| pod::container(spec, request.name))
            .map(|(kind, _)| kind);
        if let Some(kind) = kind {
            self.metrics.container_starts(kind);
        }
        let started = self.try_start(request, reporter).await;
        if let Err(error) = &started {
            if let Some(kind) = kind {
                self.metrics.container_failed(kind, error.reason);
            }
            use FailureReason::{CreateContainerConfigError, CreateContainerError, RunContainerError};
            // Of images and hooks events tell already.
            if let CreateContainerConfigError | CreateContainerError | RunContainerError = error.reason {
                reporter.event(EventType::Warning, "Failed", format!("Error: {}", error.message));
            }
        }
        started
    }

    async fn try_start(&self, request: StartContainer<'_>, reporter: &Reporter) -> Result<(), StepError> {
        let StartContainer { pod, name, .. } = request;
        let config_error = |message| StepError::new(FailureReason::CreateContainerConfigError, message);
        let container = pod.spec.as_ref().and_then(|spec| pod::container(spec, name)).map(|(_, c)| c);
        let container = container.ok_or_else(|| {
            config_error(format!("container {name} is not in the spec of pod {}", pod::identity(pod).1))
        })?;
        let node = self.config.load_full();
        let gathered = self.gather(request, container, &node, reporter).await?;
        let create = gathered.request(request, container, &node);
        let create = create.map_err(|e| failed(FailureReason::CreateContainerConfigError, &e))?;
        let log_path = create.config.as_ref().map(|config| config.log_path.clone()).unwrap_or_default();
        let id = self.create_and_start(request, container, create, reporter).await?;
        self.link_log(pod, name, &id, &log_path).await;
        self.run_post_start(pod, container, &id, &gathered.pod_ips, reporter).await
    }

    /// The runtime's part. Answers with the container's ID.
    async fn create_and_start(
        &self,
        StartContainer { pod, name, .. }: StartContainer<'_>,
        container: &Container,
        create: CreateContainerRequest,
        reporter: &Reporter,
    ) -> Result<String, StepError> {
        reporter.doing(format!("creating container {name}"));
        let created = self.client.create_container(create).await;
        let id = created.map_err(|e| failed(FailureReason::CreateContainerError, &e))?.container_id;
        reporter.event(EventType::Normal, "Created", "Container created");
        if has_post_start_hook(container) {
            let (uid, name, id) = (pod::identity(pod).0, name.to_owned(), id.clone());
            let noted = self.files.run(move |files| files.hook_begins(&uid, &name, &id)).await;
            noted.map_err(|e| failed(FailureReason::RunContainerError, &e))?;
        }
        reporter.doing(format!("starting container {name}"));
        let started = self.client.start_container(StartContainerRequest { container_id: id.clone() }).await;
        started.map_err(|e| failed(FailureReason::RunContainerError, &e))?;
        reporter.event(EventType::Normal, "Started", "Container started");
        Ok(id)
    }

    /// Links the log for log shippers. Failing that is no reason not to run the container.
    async fn link_log(&self, pod: &Pod, name: &str, id: &str, log_path: &str) {
        let (uid, key) = pod::identity(pod);
        let log = paths::pod_logs_dir(&self.config.load().pod_logs_dir, &uid, &key).join(log_path);
        let (for_link, name, id) = (key.clone(), name.to_owned(), id.to_owned());
        let linked = self.files.run(move |files| files.link_log(&for_link, &name, &id, &log)).await;
        if let Err(error) = linked {
            tracing::warn!("the log is not linked: {}", failed(FailureReason::FailedPrepare, &error));
        }
    }

    /// Runs the postStart hook. A container whose hook fails is stopped (upstream
    /// `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
    pub(super) async fn run_post_start(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        id: &str,
        ips: &[IpAddr],
        reporter: &Reporter,
    ) -> Result<(), StepError> {
        let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        reporter.doing(format!("running the postStart hook of container {}", container.name));
        let (uid, _) = pod::identity(pod);
        let outcome = match self.hooks.run(handler, container, id, ips.first().copied(), reporter).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure = failed(FailureReason::PostStartHookError, &error);
                tracing::warn!(container = container.name, "postStart hook: {}", util::causes(&failure));
                reporter.event(EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
                reporter.event(EventType::Normal, "Killing", "FailedPostStartHook");
                self.stop_by_id(id, pod::termination_grace_seconds(pod)).await?;
                Err(failure)
            }
        };
        let name = container.name.clone();
        if let Err(error) = self.files.run(move |files| files.hook_ended(&uid, &name)).await {
            let text = failed(FailureReason::FailedPrepare, &error);
            tracing::warn!(
                container = container.name,
                "a restarted agent will run the postStart hook again: {text}"
            );
        }
        outcome
    }
}
