//! Sandboxes: directories and cgroup before, the runtime's call after.

use std::sync::Arc;

use cgroups::PodLimits;
use cri_client::v1::{RemovePodSandboxRequest, RunPodSandboxRequest, StopPodSandboxRequest};
use kube_model::core::Pod;
use kube_model::pod;
use kube_model::qos::QosClass;
use pod_lifecycle::FailureReason;
use pod_workers::StepError;
use tokio::time::Instant;

use super::{CriRuntime, failed, gone_is_done};

impl CriRuntime {
    /// Makes what the pod needs on the node, then its sandbox.
    pub(super) async fn run_sandbox(&self, pod: &Arc<Pod>, attempt: u32) -> Result<(), StepError> {
        let (uid, key) = pod::identity(pod);
        let prepared = {
            let (uid, key) = (uid.clone(), key);
            self.files.run(move |files| files.prepare_pod(&uid, &key)).await
        };
        prepared.map_err(|e| failed(FailureReason::FailedPrepare, &e))?;
        if let Some(cgroups) = &self.cgroups {
            let began = Instant::now();
            let ensured = cgroups.ensure_pod(&uid, QosClass::of(pod), &PodLimits::of(pod));
            self.metrics.cgroup("create", began);
            ensured.map_err(|e| failed(FailureReason::FailedPrepare, &e))?;
        }
        let fail = |e: &dyn std::error::Error| failed(FailureReason::FailedCreatePodSandBox, e);
        let config = cri_config::sandbox_config(pod, attempt, &self.config.load()).map_err(|e| fail(&e))?;
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        self.client.run_pod_sandbox(request).await.map_err(|e| fail(&e))?;
        Ok(())
    }

    pub(super) async fn stop_pod_sandbox(&self, id: &str) -> Result<(), StepError> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let stopped = gone_is_done(self.client.stop_pod_sandbox(request).await);
        stopped.map_err(|e| failed(FailureReason::FailedKillPod, &e))
    }

    pub(super) async fn remove_pod_sandbox(&self, id: &str) -> Result<(), StepError> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let removed = gone_is_done(self.client.remove_pod_sandbox(request).await);
        removed.map_err(|e| failed(FailureReason::FailedKillPod, &e))
    }
}
