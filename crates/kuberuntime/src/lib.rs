#![doc = include_str!("../README.md")]

mod calls;
mod cgroup_driver;
mod files;
mod gather;
mod hooks;
mod images;
mod kill;
mod metrics;
mod node_info;
mod observe;
mod orphaned;
mod pod_cidr;
mod probes;
mod providers;
mod qos;
mod references;
pub mod resolver;
mod sandbox;
mod start;
mod stats;
mod stop;
pub mod streams;
mod volume_content;
mod volume_storage;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cgroups::Cgroups;
use cri_client::Client;
use kube_model::core::Pod;
use kube_model::observed::{Container, ContainerState, ObservedPod, Sandbox};
use kube_model::{PodKey, PodUid, pod};
use pod_lifecycle::{FailureReason, Unmet};
use pod_workers::{CleanUp, Observed, Reporter, Runtime, StartContainer, StepError};
use tokio::time::Instant;

pub use self::metrics::Metrics;
pub use self::stats::NodeStats;
pub use calls::tell;
pub use cgroup_driver::check_cgroup_driver;
pub use files::{FileError, Files, make_dir};
pub use hooks::Hooks;
pub use images::{CriImages, PulledFor};
pub use node_info::{NodeInfo, NodeObject, Runtime as NodeRuntime};
pub use observe::{read, with_termination_messages};
pub use pod_cidr::tell_pod_cidr;
pub use probes::{AgentProbes, CriExec, ProbeFollower, ProbeNews, follow_probes, probe_news};
pub use providers::{Extras, Provider, Providers, Variables};
pub use references::{ApiReferences, LocalObjects, References};
pub use volume_content::VolumeContent;
pub use volume_storage::ApiStorage;
pub use volumes::{VolumeMounts, follow_volumes};

/// What the node is to its containers; its addresses may change.
pub type CriConfig = Arc<ArcSwap<cri_config::Settings>>;

/// Runs pods through a CRI runtime.
pub struct CriRuntime {
    /// The runtime.
    pub client: Client,
    /// What the node is to its containers.
    pub config: CriConfig,
    /// The node's resolver configuration; `None`: pods look nothing up as the node does.
    pub resolv_conf: Option<PathBuf>,
    /// Where pods keep their files.
    pub files: Files,
    /// `None` with `--cgroups-per-qos=false`.
    pub cgroups: Option<Arc<Cgroups>>,
    /// Who gets images.
    pub images: ::images::Images<CriImages>,
    /// Who runs hooks.
    pub hooks: Hooks,
    /// What pods refer to.
    pub references: References,
    /// The volumes of pods: also one of the [`CriRuntime::providers`].
    pub volumes: ::volumes::Volumes,
    /// Who gives pods what they need beside images.
    pub providers: Providers,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Runtime for CriRuntime {
    async fn observe(&self, uid: &PodUid, key: &PodKey) -> Result<Observed, StepError> {
        observe::pod(&self.client, uid, key).await.map_err(|e| failed(FailureReason::FailedPrepare, &e))
    }

    fn preconditions(&self, pod: &Arc<Pod>) -> Vec<Unmet> {
        self.providers.unmet(pod)
    }

    async fn create_sandbox(&self, pod: &Arc<Pod>, attempt: u32, _: &Reporter) -> Result<(), StepError> {
        self.metrics.pod_starts();
        self.run_sandbox(pod, attempt).await.inspect_err(|_| self.metrics.pod_failed())
    }

    async fn stop_sandbox(&self, uid: &PodUid, id: &str) -> Result<(), StepError> {
        self.stop_pod_sandbox(uid, id).await
    }

    async fn remove_sandbox(&self, uid: &PodUid, id: &str) -> Result<(), StepError> {
        self.remove_pod_sandbox(uid, id).await
    }

    async fn start_container(
        &self,
        request: StartContainer<'_>,
        reporter: &Reporter,
    ) -> Result<(), StepError> {
        self.start(request, reporter).await
    }

    async fn post_start(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        sandbox: &Sandbox,
        reporter: &Reporter,
    ) -> Result<(), StepError> {
        let Some((_, spec)) = pod.spec.as_ref().and_then(|spec| pod::container(spec, &container.name)) else {
            return Ok(());
        };
        self.run_post_start(pod, spec, &container.id, &self.ips(&sandbox.ips, pod), reporter).await
    }

    async fn cut_off_hooks(&self, observed: &ObservedPod) -> Vec<String> {
        let uid = observed.uid.clone();
        let running = observed.containers.iter().filter(|c| c.state == ContainerState::Running);
        let running: Vec<_> = running.map(|c| (c.name.clone(), c.id.clone())).collect();
        let cut_off = move |files: &Files| {
            let cut_off = running.into_iter().filter(|(name, id)| files.is_hook_cut_off(&uid, name, id));
            Ok(cut_off.map(|(name, _)| name).collect())
        };
        // Fails only when the agent is going down.
        self.files.run(cut_off).await.unwrap_or_default()
    }

    async fn pre_stop(&self, pod: &Arc<Pod>, container: &Container, grace_seconds: i64, reporter: &Reporter) {
        self.run_pre_stop(pod, container, grace_seconds, reporter).await;
    }

    async fn stop_container(
        &self,
        uid: &PodUid,
        container: &Container,
        grace_seconds: i64,
    ) -> Result<(), StepError> {
        self.stop(uid, container, grace_seconds).await
    }

    async fn remove_container(&self, pod: &ObservedPod, container: &Container) -> Result<(), StepError> {
        self.remove(pod, container).await
    }

    async fn clean_up(&self, uid: &PodUid, key: &PodKey, extent: CleanUp) -> Result<(), StepError> {
        if extent != CleanUp::Forgotten {
            // Before the cgroup, as upstream: memory of a tmpfs is charged to it.
            let taken_down = self.volumes.tear_down(uid).await;
            taken_down.map_err(|e| failed(FailureReason::FailedKillPod, &e))?;
        }
        if let Some(cgroups) = self.cgroups.as_ref().filter(|_| extent != CleanUp::Forgotten) {
            let began = Instant::now();
            let removed = cgroups.remove_pod(uid).await;
            self.metrics.cgroup("destroy", began);
            removed.map_err(|e| failed(FailureReason::FailedKillPod, &e))?;
        }
        let (of, key) = (uid.clone(), key.clone());
        let work = move |files: &Files| match extent {
            CleanUp::Ended => Ok(()),
            CleanUp::Removed => files.remove_pod(&of, &key),
            CleanUp::Left => files.empty_pod(&of, &key),
            CleanUp::Forgotten => files.forget_pod(&of),
        };
        if extent == CleanUp::Ended {
            return Ok(());
        }
        self.images.forget(uid);
        self.files.run(work).await.map_err(|e| failed(FailureReason::FailedKillPod, &e))
    }
}

/// A step error in the words of the error that caused it, sources included.
fn failed(reason: FailureReason, error: &dyn std::error::Error) -> StepError {
    StepError::new(reason, util::causes(error))
}

/// A call that is to end or remove something has done so if that is not there.
fn gone_is_done<T>(result: Result<T, cri_client::Error>) -> Result<(), cri_client::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
