//! Starting a container: image, files, creation, start, log link, postStart hook (upstream
//! `pkg/kubelet/kuberuntime/kuberuntime_container.go`).

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::images::{PullPolicy, Reason};
use cri_client::v1::{CreateContainerRequest, StartContainerRequest};
use cri_config::{ContainerInputs, ImageUser, hosts, paths};
use kube_model::core::{Container, Pod};
use kube_model::view::EventType;
use kube_model::{PodKey, PodUid, pod};
use pod_lifecycle::{FailureReason, has_post_start_hook};
use pod_workers::{Reporter, StartContainer, StepError};

use super::references::Found;
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
        let StartContainer { pod, name, sandbox, .. } = request;
        let (uid, key) = pod::identity(pod);
        let node = self.config.load_full();
        let config_error = |e: &dyn std::error::Error| failed(FailureReason::CreateContainerConfigError, e);
        let container = pod.spec.as_ref().and_then(|spec| pod::container(spec, name)).map(|(_, c)| c);
        let container = container.ok_or_else(|| {
            let text = format!("container {name} is not in the spec of pod {key}");
            StepError::new(FailureReason::CreateContainerConfigError, text)
        })?;
        let (image_ref, image_user) = self.image(pod, container, reporter).await?;

        reporter.doing(format!("preparing container {name}"));
        let restart_count = self.restart_count(&request, &uid, &key).await;
        let ips = self.ips(&sandbox.ips, pod);
        let hosts_text = {
            let node_hosts = fs::read_to_string(hosts::HOSTS_PATH).unwrap_or_default();
            hosts::etc_hosts(pod, &ips, &node_hosts, &node.dns.domain).map_err(|e| config_error(&e))?
        };
        let termination_log = {
            let (uid, key, name) = (uid.clone(), key.clone(), name.to_owned());
            let work = move |files: &super::Files| files.prepare_container(&uid, &key, &name, &hosts_text);
            self.files.run(work).await.map_err(|e| config_error(&e))?
        };
        let found = match &self.references {
            Some(references) => {
                reporter.doing(format!("looking up what the variables of container {name} come from"));
                let found = references.of_container(pod, container).await;
                Some(found.map_err(|e| config_error(&e))?)
            }
            None => None,
        };
        let references = found.as_ref().map(Found::as_inputs);
        let hosts_file = paths::hosts_file(&node.root_dir, &uid);
        let inputs = ContainerInputs {
            pod,
            container,
            restart_count,
            image_ref: &image_ref,
            image_user: &image_user,
            pod_ips: &ips,
            hosts_file: Some(&hosts_file),
            termination_log: &termination_log,
            references: references.as_ref(),
        };
        let config = cri_config::container_config(inputs, &node).map_err(|e| config_error(&e))?;
        let sandbox_config = cri_config::sandbox_config(pod, sandbox.attempt, &node);
        let log_path = config.log_path.clone();
        let create = CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.map_err(|e| config_error(&e))?),
        };
        reporter.doing(format!("creating container {name}"));
        let created = self.client.create_container(create).await;
        let id = created.map_err(|e| failed(FailureReason::CreateContainerError, &e))?.container_id;
        reporter.event(EventType::Normal, "Created", "Container created");
        if has_post_start_hook(container) {
            let (uid, name, id) = (uid.clone(), name.to_owned(), id.clone());
            let noted = self.files.run(move |files| files.hook_begins(&uid, &name, &id)).await;
            noted.map_err(|e| failed(FailureReason::RunContainerError, &e))?;
        }
        reporter.doing(format!("starting container {name}"));
        let started = self.client.start_container(StartContainerRequest { container_id: id.clone() }).await;
        started.map_err(|e| failed(FailureReason::RunContainerError, &e))?;
        reporter.event(EventType::Normal, "Started", "Container started");
        self.link_log(&key, name, &id, &uid, &log_path).await;
        self.run_post_start(pod, container, &id, &ips, reporter).await
    }

    /// What the runtime knows the image by, and the user that it names.
    async fn image(
        &self,
        pod: &Pod,
        container: &Container,
        reporter: &Reporter,
    ) -> Result<(String, ImageUser), StepError> {
        let image = container.image.as_deref().unwrap_or_default();
        reporter.doing(format!("getting image {image:?} for container {}", container.name));
        let report = |event: ::images::ImageEvent| reporter.event(event.kind, event.reason, event.message);
        match self.images.ensure(pod, image, PullPolicy::of(container), &report).await {
            Ok(found) => Ok((
                found.id,
                match found.user {
                    ::images::ImageUser::Uid(uid) => ImageUser::Uid(uid),
                    ::images::ImageUser::Name(name) => ImageUser::Name(name),
                },
            )),
            Err(error) => Err(StepError {
                reason: reason(error.reason),
                retry_after: error.retry_after,
                message: error.message,
            }),
        }
    }

    /// The planned count, unless logs tell of runs that the runtime has forgotten (upstream
    /// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
    async fn restart_count(&self, request: &StartContainer<'_>, uid: &PodUid, key: &PodKey) -> u32 {
        if request.restart_count > 0 {
            return request.restart_count;
        }
        let (uid, key, name) = (uid.clone(), key.clone(), request.name.to_owned());
        let highest = self.files.run(move |files| Ok(files.highest_log(&uid, &key, &name))).await;
        highest.ok().flatten().map_or(0, |n| n.saturating_add(1))
    }

    /// The pod's addresses: its sandbox's, or the node's.
    pub(super) fn ips(&self, sandbox: &[IpAddr], pod: &Pod) -> Vec<IpAddr> {
        match pod.spec.as_ref().is_some_and(pod::host_network) {
            true => self.config.load().node_ips.clone(),
            false => sandbox.to_vec(),
        }
    }

    /// Links the log for log shippers. Failing that is no reason not to run the container.
    async fn link_log(&self, key: &PodKey, name: &str, id: &str, uid: &PodUid, log_path: &str) {
        let log: PathBuf =
            paths::pod_logs_dir(&self.config.load().pod_logs_dir, uid, key).join(Path::new(log_path));
        let (for_link, name, id) = (key.clone(), name.to_owned(), id.to_owned());
        let linked = self.files.run(move |files| files.link_log(&for_link, &name, &id, &log)).await;
        if let Err(error) = linked {
            tracing::warn!(pod = %key, "the log is not linked: {}", failed(FailureReason::FailedPrepare, &error));
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
        let (uid, key) = pod::identity(pod);
        let outcome = match self.hooks.run(handler, container, id, ips.first().copied(), reporter).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure = failed(FailureReason::PostStartHookError, &error);
                tracing::warn!(pod = %key, container = container.name, "postStart hook: {failure}");
                reporter.event(EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
                reporter.event(EventType::Normal, "Killing", "FailedPostStartHook");
                self.stop_by_id(id, pod::termination_grace_seconds(pod)).await?;
                Err(failure)
            }
        };
        let name = container.name.clone();
        if let Err(error) = self.files.run(move |files| files.hook_ended(&uid, &name)).await {
            let text = failed(FailureReason::FailedPrepare, &error);
            tracing::warn!(pod = %key, container = container.name, "a restarted agent will run the postStart hook again: {text}");
        }
        outcome
    }
}

fn reason(reason: Reason) -> FailureReason {
    match reason {
        Reason::ErrImagePull => FailureReason::ErrImagePull,
        Reason::ImagePullBackOff => FailureReason::ImagePullBackOff,
        Reason::ErrImageNeverPull => FailureReason::ErrImageNeverPull,
        Reason::InvalidImageName => FailureReason::InvalidImageName,
        Reason::ImageInspectError => FailureReason::ImageInspectError,
        Reason::RegistryUnavailable => FailureReason::RegistryUnavailable,
        Reason::SignatureValidationFailed => FailureReason::SignatureValidationFailed,
    }
}
