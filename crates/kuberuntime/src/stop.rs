//! Stopping and removing containers (upstream `pkg/kubelet/kuberuntime/kuberuntime_container.go`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cri_client::v1::{PodSandboxStatusRequest, RemoveContainerRequest, StopContainerRequest};
use kube_model::core::Pod;
use kube_model::observed::{Container, ObservedPod};
use kube_model::view::EventType;
use kube_model::{PodUid, pod};
use pod_lifecycle::FailureReason;
use pod_workers::{Reporter, StepError};
use tokio::time::timeout;

use super::{CriRuntime, failed, gone_is_done};

/// Least time between SIGTERM and SIGKILL, in seconds, whatever a preStop hook has used up (upstream
/// `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
const LEAST_GRACE_SECONDS: i64 = 2;

impl CriRuntime {
    /// Stops a container. What the runtime cannot stop though the grace period is over is killed.
    pub(super) async fn stop(
        &self,
        uid: &PodUid,
        container: &Container,
        grace_seconds: i64,
    ) -> Result<(), StepError> {
        if grace_seconds > LEAST_GRACE_SECONDS {
            return self.stop_by_id(&container.id, grace_seconds).await;
        }
        let request =
            StopContainerRequest { container_id: container.id.clone(), timeout: LEAST_GRACE_SECONDS };
        let stop = || self.client.stop_container(request.clone());
        self.or_kill(uid, &container.id, stop).await
    }

    pub(super) async fn stop_by_id(&self, id: &str, grace_seconds: i64) -> Result<(), StepError> {
        let timeout = grace_seconds.max(LEAST_GRACE_SECONDS);
        let request = StopContainerRequest { container_id: id.to_owned(), timeout };
        let stopped = gone_is_done(self.client.stop_container(request).await);
        stopped.map_err(|e| failed(FailureReason::FailedKillPod, &e))
    }

    /// Runs the preStop hook within the grace period; its failure does not hold up the end.
    pub(super) async fn run_pre_stop(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        grace: i64,
        reporter: &Reporter,
    ) {
        let spec = pod.spec.as_ref().and_then(|spec| pod::container(spec, &container.name)).map(|(_, c)| c);
        let Some((spec, handler)) = spec.and_then(|c| Some((c, c.lifecycle.as_ref()?.pre_stop.as_ref()?)))
        else {
            return;
        };
        let Ok(limit @ 1..) = u64::try_from(grace) else { return };
        reporter.doing(format!("running the preStop hook of container {}", container.name));
        let ip = match handler.http_get {
            Some(_) => self.pod_ip(pod, &container.sandbox_id).await,
            None => None,
        };
        let hook = self.hooks.run(handler, spec, &container.id, ip, reporter);
        let why = match timeout(Duration::from_secs(limit), hook).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => failed(FailureReason::FailedKillPod, &error).message,
            Err(_) => format!("it did not end within the grace period of {limit} s"),
        };
        tracing::warn!(container = container.name, "preStop hook: {why}");
        reporter.event(EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
    }

    async fn pod_ip(&self, pod: &Pod, sandbox_id: &str) -> Option<std::net::IpAddr> {
        if pod.spec.as_ref().is_some_and(pod::host_network) {
            return self.config.load().node_ips.first().copied();
        }
        let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox_id.to_owned(), verbose: false };
        let status = self.client.pod_sandbox_status(request).await.ok()?.status?;
        status.network?.ip.parse().ok()
    }

    pub(super) async fn remove(&self, pod: &ObservedPod, container: &Container) -> Result<(), StepError> {
        let request = RemoveContainerRequest { container_id: container.id.clone() };
        let remove = || self.client.remove_container(request.clone());
        self.or_kill(&pod.uid, &container.id, remove).await?;
        let (key, name, id) = (pod.key.clone(), container.name.clone(), container.id.clone());
        let log = Some(PathBuf::from(&container.log_path)).filter(|p| p.is_absolute());
        let work = move |files: &super::Files| files.remove_container(&key, &name, &id, log.as_deref());
        self.files.run(work).await.map_err(|e| failed(FailureReason::FailedKillPod, &e))
    }
}
