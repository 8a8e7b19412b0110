//! What the kubelet's server asks of the agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver_sync::client::{Access, Counted};
use cri_client::v1::{
    AttachRequest, ContainerState, ContainerStatusRequest, ExecRequest, ExecSyncRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter, PodSandboxState, PodSandboxStateValue,
    PortForwardRequest,
};
use cri_client::{Client, Error};
use kube_model::observed::ObservedPod;
use kube_model::stats::Summary;
use kube_model::view::RuntimeView;
use kube_model::{PodUid, Timestamp, labels};
use node_config::Cluster as Settings;
use server::host::{Answer, HostError, Node, Output, Stats, Streaming, Streams};
use server::metrics::{Kind, Page, Text};
use stats::Depth;
use tokio::sync::watch;

use super::Parts;
use super::stats::NodeStats;
use crate::logging::Verbosity;
use crate::metrics::Metrics;
use crate::runtime::read;

/// How long the runtime may be silent before the sync loop counts as stuck (reference 6.2).
const SILENCE: Duration = Duration::from_secs(180);

pub(crate) struct AgentHost {
    runtime: Client,
    runtime_view: watch::Receiver<RuntimeView>,
    verbosity: Verbosity,
    configuration: serde_json::Value,
    stats: NodeStats,
    metrics: Arc<Metrics>,
    access: Access,
}

impl AgentHost {
    pub(crate) fn new(parts: &Parts, settings: &Settings, node_name: &str, access: Access) -> Self {
        Self {
            metrics: Arc::clone(&parts.metrics),
            access,
            runtime: parts.runtime.clone(),
            runtime_view: parts.runtime_view.clone(),
            verbosity: parts.verbosity.clone(),
            configuration: settings.configuration.clone(),
            stats: NodeStats::new(parts, node_name, settings.runtime_cgroup.as_deref()),
        }
    }

    /// The sandbox of a pod that is up.
    async fn sandbox(&self, pod: &PodUid) -> Result<String, HostError> {
        let filter = PodSandboxFilter {
            state: Some(PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() }),
            label_selector: [(labels::POD_UID.to_owned(), pod.to_string())].into(),
            ..PodSandboxFilter::default()
        };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let answer = self.runtime.list_pod_sandbox(request).await.map_err(failed)?;
        let newest = answer.items.into_iter().max_by_key(|sandbox| sandbox.created_at);
        newest.map(|s| s.id).ok_or_else(|| HostError::Failed(format!("failed to find sandbox for pod {pod}")))
    }
}

fn failed(error: Error) -> HostError {
    if error.is_not_found() {
        HostError::NotFound(error.message().to_owned())
    } else {
        HostError::Failed(error.to_string())
    }
}

impl Node for AgentHost {
    fn running_pods(&self) -> Answer<'_, Vec<Arc<ObservedPod>>> {
        Box::pin(async {
            let (sandboxes, containers) = futures::try_join!(
                self.runtime.list_pod_sandbox(ListPodSandboxRequest::default()),
                self.runtime.list_containers(ListContainersRequest::default()),
            )
            .map_err(failed)?;
            let mut pods = BTreeMap::<String, (Vec<_>, Vec<_>)>::new();
            let uid = |labels: &BTreeMap<String, String>| labels.get(labels::POD_UID).cloned();
            for sandbox in sandboxes.items.into_iter().filter(|s| s.state() == PodSandboxState::SandboxReady)
            {
                if let Some(uid) = uid(&sandbox.labels) {
                    pods.entry(uid).or_default().0.push(sandbox);
                }
            }
            for container in
                containers.containers.into_iter().filter(|c| c.state() == ContainerState::ContainerRunning)
            {
                if let Some(uid) = uid(&container.labels) {
                    pods.entry(uid).or_default().1.push(container);
                }
            }
            let mut running = Vec::with_capacity(pods.len());
            for (sandboxes, containers) in pods.into_values() {
                running.extend(
                    read(&self.runtime, &sandboxes, &containers).await.map_err(failed)?.map(Arc::new),
                );
            }
            Ok(running)
        })
    }

    fn sync_loop(&self) -> Result<(), String> {
        let view = self.runtime_view.borrow();
        let silent = Timestamp::now().duration_since(view.since).unsigned_abs();
        if view.ready || silent < SILENCE {
            return Ok(());
        }
        Err(format!("the container runtime has not answered for {} s: {}", silent.as_secs(), view.message))
    }

    fn configuration(&self) -> serde_json::Value {
        self.configuration.clone()
    }

    fn set_verbosity(&self, level: u32) -> Result<(), String> {
        self.verbosity.set(level);
        Ok(())
    }

    fn write_metrics(&self, page: Page, out: &mut Text) {
        if page == Page::Main {
            self.metrics.write(out);
            write_requests(out, &self.access);
        }
    }
}

/// Requests to the API server, by the name that all of Kubernetes' clients count them with.
fn write_requests(out: &mut Text, access: &Access) {
    let endpoint = access.endpoint();
    let host = endpoint
        .split_once("://")
        .map_or(&**endpoint, |(_, rest)| rest)
        .split('/')
        .next()
        .unwrap_or_default();
    let name = "rest_client_requests_total";
    out.metric(name, Kind::Counter, "[ALPHA] Requests to the API server by code, method and host");
    for Counted { method, code, count } in access.requests() {
        let code = code.as_ref().map_or("<error>", |code| code.as_str());
        out.sample(name, &[("code", code), ("host", host), ("method", method.as_str())], count);
    }
}

impl Streaming for AgentHost {
    fn log_path<'a>(&'a self, container: &'a str) -> Answer<'a, PathBuf> {
        Box::pin(async move {
            let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
            let answer = self.runtime.container_status(request).await.map_err(failed)?;
            Ok(answer.status.unwrap_or_default().log_path.into())
        })
    }

    fn exec<'a>(&'a self, container: &'a str, command: Vec<String>, streams: Streams) -> Answer<'a, String> {
        Box::pin(async move {
            let Streams { stdin, stdout, stderr, tty } = streams;
            let request =
                ExecRequest { container_id: container.to_owned(), cmd: command, tty, stdin, stdout, stderr };
            Ok(self.runtime.exec(request).await.map_err(failed)?.url)
        })
    }

    fn attach<'a>(&'a self, container: &'a str, streams: Streams) -> Answer<'a, String> {
        Box::pin(async move {
            let Streams { stdin, stdout, stderr, tty } = streams;
            let request = AttachRequest { container_id: container.to_owned(), stdin, tty, stdout, stderr };
            Ok(self.runtime.attach(request).await.map_err(failed)?.url)
        })
    }

    fn port_forward<'a>(&'a self, pod: &'a PodUid, ports: Vec<i32>) -> Answer<'a, String> {
        Box::pin(async move {
            let request = PortForwardRequest { pod_sandbox_id: self.sandbox(pod).await?, port: ports };
            Ok(self.runtime.port_forward(request).await.map_err(failed)?.url)
        })
    }

    fn exec_sync<'a>(&'a self, container: &'a str, command: Vec<String>) -> Answer<'a, Output> {
        Box::pin(async move {
            let request = ExecSyncRequest { container_id: container.to_owned(), cmd: command, timeout: 0 };
            let answer = self.runtime.exec_sync(request).await.map_err(failed)?;
            Ok(Output { stdout: answer.stdout, stderr: answer.stderr, exit_code: answer.exit_code })
        })
    }
}

impl Stats for AgentHost {
    fn summary(&self, only_cpu_and_memory: bool) -> Answer<'_, Arc<Summary>> {
        let depth = if only_cpu_and_memory { Depth::CpuAndMemory } else { Depth::Everything };
        Box::pin(self.stats.summary(depth))
    }
}
