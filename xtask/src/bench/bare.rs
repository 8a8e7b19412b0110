//! The runtime alone: the CRI calls that a pause pod takes, and what the runtime has.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cri_client::Client;
use cri_client::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, CreateContainerRequest, ExecRequest, ImageSpec,
    ImageStatusRequest, LinuxPodSandboxConfig, ListContainersRequest, ListPodSandboxRequest,
    PodSandboxConfig, PodSandboxMetadata, PodSandboxStatusRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
};
use futures::{StreamExt, TryStreamExt, stream};
use testkit::env::{Containerd, PAUSE, Run, interrupted, until_every};
use tokio::runtime::Runtime;

use super::pod_name;

/// How long all pods may take for anything.
const PATIENCE: Duration = Duration::from_secs(300);
/// Seldom enough not to be what is measured.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Bare {
    runtime: Runtime,
    client: Client,
    cgroup: String,
}

impl Bare {
    pub(super) fn new(containerd: &Containerd, run: &Run) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let client = Client::builder(&containerd.endpoint())?.build();
        drop(entered);
        Ok(Self { runtime, client, cgroup: format!("/{}/bare", run.name()) })
    }

    /// Starts pods, so many at a time, and returns how long all took.
    pub(super) fn start(&self, pods: usize, parallel: usize) -> Result<Duration> {
        let begin = Instant::now();
        let starts = stream::iter((0..pods).map(|number| self.start_one(pod_name(number))));
        self.runtime.block_on(starts.buffer_unordered(parallel).try_collect::<()>())?;
        Ok(begin.elapsed())
    }

    async fn start_one(&self, name: String) -> Result<()> {
        if interrupted() {
            bail!("interrupted");
        }
        let sandbox = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                uid: format!("{name}-uid"),
                name: name.clone(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/{name}", self.cgroup),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
        let pod_sandbox_id = self.client.run_pod_sandbox(request).await?.pod_sandbox_id;
        // An agent needs the pod's address and the image's id, so these two calls belong to the comparison.
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod_sandbox_id.clone(), verbose: false };
        self.client.pod_sandbox_status(request).await?;
        let image = ImageSpec { image: PAUSE.to_owned(), ..Default::default() };
        self.client.image_status(ImageStatusRequest { image: Some(image.clone()), verbose: false }).await?;
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "pause".to_owned(), attempt: 0 }),
            image: Some(image),
            ..Default::default()
        };
        let request =
            CreateContainerRequest { pod_sandbox_id, config: Some(container), sandbox_config: Some(sandbox) };
        let container_id = self.client.create_container(request).await?.container_id;
        self.client.start_container(StartContainerRequest { container_id }).await?;
        Ok(())
    }

    /// Stops and removes every pod, ten at a time, and returns how long that took.
    pub(super) fn remove_all(&self) -> Result<Duration> {
        let begin = Instant::now();
        self.runtime.block_on(async {
            let sandboxes = self.client.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
            let removals = sandboxes.into_iter().map(async |sandbox| {
                let pod_sandbox_id = sandbox.id;
                self.client
                    .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() })
                    .await?;
                self.client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await
            });
            stream::iter(removals).buffer_unordered(10).try_for_each(|_| async { Ok(()) }).await
        })?;
        Ok(begin.elapsed())
    }

    /// Where the runtime's streaming server waits for this command's client.
    pub(super) fn exec_url(&self, container: &str, command: &[&str]) -> Result<String> {
        let request = ExecRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        Ok(self.runtime.block_on(self.client.exec(request))?.url)
    }

    /// The ids of the running containers.
    pub(super) fn containers(&self) -> Result<BTreeSet<String>> {
        let listed = self.runtime.block_on(self.client.list_containers(ListContainersRequest::default()))?;
        let running = i32::from(ContainerState::ContainerRunning);
        Ok(listed.containers.into_iter().filter(|c| c.state == running).map(|c| c.id).collect())
    }

    /// Waits until so many containers run.
    pub(super) fn wait_running(&self, count: usize) -> Result<()> {
        let what = format!("{count} containers run");
        until_every(LOOK, &what, PATIENCE, || match self.containers() {
            Ok(ids) if ids.len() == count => Ok(()),
            Ok(ids) => Err(format!("{} do", ids.len())),
            Err(error) => Err(format!("{error:#}")),
        })
        .context("while starting pods")
    }

    /// Waits until the runtime has no pod any more.
    pub(super) fn wait_gone(&self) -> Result<()> {
        until_every(LOOK, "no pod is left", PATIENCE, || {
            let list = self.runtime.block_on(self.client.list_pod_sandbox(ListPodSandboxRequest::default()));
            match list.map(|l| l.items.len()) {
                Ok(0) => Ok(()),
                Ok(some) => Err(format!("{some} are")),
                Err(error) => Err(error.to_string()),
            }
        })
        .context("while deleting pods")
    }
}
