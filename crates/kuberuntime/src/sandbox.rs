//! Sandboxes: directories and cgroup before, the runtime's call after.

use std::sync::Arc;

use cgroups::PodLimits;
use cri_client::v1::{RemovePodSandboxRequest, RunPodSandboxRequest, StopPodSandboxRequest};
use kube_model::core::Pod;
use kube_model::qos::QosClass;
use kube_model::{PodUid, pod};
use pod_lifecycle::FailureReason;
use pod_workers::StepError;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{CriRuntime, failed};
use crate::resolver;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

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
            let (class, limits) = (QosClass::of(pod), PodLimits::of(pod));
            let ensured = cgroups.run(move |cgroups| cgroups.ensure_pod(&uid, class, &limits)).await;
            self.metrics.cgroup("create", began);
            ensured.map_err(|e| failed(FailureReason::FailedPrepare, &e))?;
        }
        let fail = |e: &dyn std::error::Error| failed(FailureReason::FailedCreatePodSandBox, e);
        self.read_resolver(pod).await.map_err(|e| fail(&*e))?;
        let groups = self.volumes.supplemental_groups(pod);
        let config = cri_config::sandbox_config(pod, attempt, &groups, &self.config.load());
        let config = config.map_err(|e| fail(&e))?;
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        self.client.run_pod_sandbox(request).await.map_err(|e| fail(&e))?;
        Ok(())
    }

    /// Each sandbox gets what the node's resolver configuration says at that time. Whether it can be read is only the
    /// matter of pods that need it; the rest of a pod goes on with what was read last.
    async fn read_resolver(&self, pod: &Pod) -> Result<(), AnyError> {
        let Some(path) = self.resolv_conf.clone().filter(|_| cri_config::dns::needs_host(pod)) else {
            return Ok(());
        };
        let conf = spawn_blocking(move || resolver::read(&path)).await??;
        if self.config.load().dns.host.as_ref() != Some(&conf) {
            self.config.rcu(|config| {
                let mut changed = (**config).clone();
                changed.dns.host = Some(conf.clone());
                changed
            });
        }
        Ok(())
    }

    pub(super) async fn stop_pod_sandbox(&self, uid: &PodUid, id: &str) -> Result<(), StepError> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.or_kill(uid, id, || self.client.stop_pod_sandbox(request.clone())).await
    }

    pub(super) async fn remove_pod_sandbox(&self, uid: &PodUid, id: &str) -> Result<(), StepError> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.or_kill(uid, id, || self.client.remove_pod_sandbox(request.clone())).await
    }
}
