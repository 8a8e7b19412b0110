//! What the node and its pods use, measured when somebody asks: what `stats` reads of the kernel, with the runtime's
//! answers. Who asks at the same time, or soon after, gets the same summary.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, TryLockError};
use std::time::Duration;

use ::stats::{Depth, PodPaths, PodVolume, RuntimeAnswers, Settings, SummaryProvider};
use cgroups::Cgroups;
use cri_client::Client;
use cri_client::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ImageFsInfoRequest, ListContainerStatsRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter, PodSandboxState, PodSandboxStateValue,
};
use cri_config::paths;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::{FsStats, PodReference, Summary, VolumeStats};
use kube_model::{Now, PodKey, PodUid};
use pod_workers::Clock;
use server::host::HostError;
use tokio::sync::Mutex;
use tokio::time::Instant;
use volumes::{Measure, Measured, Volumes};

/// How long a summary is good for. The kubelet's own numbers are up to 10 s old, its cAdvisor's housekeeping interval.
const FRESH: Duration = Duration::from_secs(5);

/// Longest time that somebody is kept waiting; metrics-server waits as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the node and its pods use.
pub struct NodeStats {
    runtime: Client,
    provider: Arc<std::sync::Mutex<SummaryProvider>>,
    volumes: Volumes,
    /// How long what is known of a volume is good for; `None`: volumes are not measured.
    volume_period: Option<Duration>,
    last: Mutex<Option<Last>>,
    clock: Clock,
}

struct Last {
    at: Instant,
    depth: Depth,
    summary: Arc<Summary>,
}

impl NodeStats {
    /// `settings` say where the node has its things, `cgroups` and `pod_logs_dir` where its pods have theirs. What is known
    /// of their volumes is good for `volume_period`; `None`: they are not measured.
    pub fn new(
        runtime: Client,
        settings: Settings,
        (cgroups, pod_logs_dir): (Option<Arc<Cgroups>>, PathBuf),
        (volumes, volume_period): (Volumes, Option<Duration>),
        clock: Clock,
    ) -> Self {
        let paths = PathsOfPods { cgroups, root_dir: settings.root_dir.clone(), pod_logs_dir };
        Self {
            runtime,
            provider: Arc::new(std::sync::Mutex::new(SummaryProvider::new(settings, Box::new(paths)))),
            volumes,
            volume_period,
            last: Mutex::default(),
            clock,
        }
    }

    /// A summary of at least this depth.
    ///
    /// # Errors
    /// When the node cannot be measured, or not in time.
    pub async fn summary(&self, depth: Depth) -> Result<Arc<Summary>, HostError> {
        let late =
            |_| HostError::Failed(format!("the node was not measured within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, self.fresh(depth)).await.map_err(late)?
    }

    async fn fresh(&self, depth: Depth) -> Result<Arc<Summary>, HostError> {
        let mut last = self.last.lock().await;
        if let Some(last) = &*last
            && last.depth >= depth
            && last.at.elapsed() < FRESH
        {
            return Ok(Arc::clone(&last.summary));
        }
        let mut answers = self.running().await?;
        let everything = depth == Depth::Everything;
        // The kernel tells most: asking it costs the runtime, and a shim for each pod, nothing.
        let lacks = move |provider: &mut SummaryProvider| {
            (everything || provider.needs_container_stats(&answers), answers)
        };
        let (needed, running) = self.with_provider(lacks).await?;
        answers = running;
        if needed {
            let request = ListContainerStatsRequest::default();
            answers.container_stats =
                self.runtime.list_container_stats(request).await.map_err(refused)?.stats;
        }
        if everything {
            let request = ImageFsInfoRequest::default();
            answers.file_systems = self.runtime.image_fs_info(request).await.map_err(refused)?;
            answers.volumes = self.volumes().await;
        }
        let clock = self.clock.clone();
        let measure = move |provider: &mut SummaryProvider| provider.measure(&answers, depth, clock.wall());
        let measured = self.with_provider(measure).await?;
        let summary = Arc::new(measured.map_err(|error| HostError::Failed(util::causes(&error)))?);
        *last = Some(Last { at: Instant::now(), depth, summary: Arc::clone(&summary) });
        Ok(summary)
    }

    /// The sandboxes and containers that run.
    async fn running(&self) -> Result<RuntimeAnswers, HostError> {
        let ready = PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() };
        let running = ContainerStateValue { state: ContainerState::ContainerRunning.into() };
        let sandboxes = ListPodSandboxRequest {
            filter: Some(PodSandboxFilter { state: Some(ready), ..PodSandboxFilter::default() }),
        };
        let containers = ListContainersRequest {
            filter: Some(ContainerFilter { state: Some(running), ..ContainerFilter::default() }),
        };
        let lists = futures::try_join!(
            self.runtime.list_pod_sandbox(sandboxes),
            self.runtime.list_containers(containers)
        );
        let (sandboxes, containers) = lists.map_err(refused)?;
        Ok(RuntimeAnswers {
            sandboxes: sandboxes.items,
            containers: containers.containers,
            ..RuntimeAnswers::default()
        })
    }

    /// What the volumes of the pods hold.
    async fn volumes(&self) -> BTreeMap<PodUid, Vec<PodVolume>> {
        let Some(period) = self.volume_period else { return BTreeMap::new() };
        let measured = self.volumes.usage(Measure::All, period).await;
        let now = self.clock.now();
        let of_pod = |(uid, volumes): (PodUid, Vec<Measured>)| {
            let volumes = volumes.into_iter();
            (uid, volumes.map(|v| PodVolume { is_local: v.is_local, stats: volume_stats(v, now) }).collect())
        };
        measured.into_iter().map(of_pod).collect()
    }

    /// Works with the provider where it may block: a dead network file system must not hold up the other tasks, nor
    /// gather a thread for each that asks.
    async fn with_provider<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SummaryProvider) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        let provider = Arc::clone(&self.provider);
        let work = move || match provider.try_lock() {
            Ok(mut provider) => Ok(work(&mut provider)),
            // It holds what was read before, which is as good as ever.
            Err(TryLockError::Poisoned(provider)) => Ok(work(&mut provider.into_inner())),
            Err(TryLockError::WouldBlock) => Err(HostError::Busy(
                "the last measurement of this node still waits for a file system".to_owned(),
            )),
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(HostError::Failed(format!("measuring the node: {error}"))))
    }
}

fn volume_stats(volume: Measured, now: Now) -> VolumeStats {
    let Measured { name, claim, usage, at, .. } = volume;
    VolumeStats {
        fs: FsStats {
            time: Time(now.shown(at)),
            available_bytes: Some(usage.available),
            capacity_bytes: Some(usage.capacity),
            used_bytes: Some(usage.used),
            inodes_free: usage.inodes_free,
            inodes: usage.inodes,
            inodes_used: usage.inodes_used,
        },
        name,
        pvc_ref: claim,
        volume_health_stats: None,
    }
}

fn refused(error: cri_client::Error) -> HostError {
    HostError::Failed(error.to_string())
}

/// Where the agent keeps the things of pods.
struct PathsOfPods {
    cgroups: Option<Arc<Cgroups>>,
    root_dir: PathBuf,
    pod_logs_dir: PathBuf,
}

impl PodPaths for PathsOfPods {
    fn pods_cgroup(&self) -> Option<String> {
        self.cgroups.as_ref().map(|cgroups| cgroups.pods_cgroup())
    }

    fn pod_cgroup(&self, uid: &PodUid) -> Option<String> {
        self.cgroups.as_ref()?.pod_cgroup(uid)
    }

    fn pod_logs(&self, pod: &PodReference) -> PathBuf {
        let key = PodKey::new(pod.namespace.as_str(), pod.name.as_str());
        paths::pod_logs_dir(&self.pod_logs_dir, &PodUid::from(pod.uid.as_str()), &key)
    }

    fn hosts_file(&self, uid: &PodUid) -> PathBuf {
        paths::hosts_file(&self.root_dir, uid)
    }
}
