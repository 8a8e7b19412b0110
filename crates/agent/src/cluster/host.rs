//! What the kubelet's server asks of the agent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver_sync::client::{Access, Counted};
use cgroups::{Cgroups, Version};
use cri_client::Client;
use cri_client::v1::{ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandboxState};
use kube_model::core::Pod;
use kube_model::observed::ObservedPod;
use kube_model::pod::annotation;
use kube_model::stats::Summary;
use kube_model::view::RuntimeView;
use kube_model::{Monotonic, labels};
use kuberuntime::streams::failed;
use kuberuntime::{AgentProbes, NodeStats, read};
use logging::Verbosity;
use node_config::Cluster as Settings;
use node_config::gates::Gates;
use podsource::SourceState;
use server::host::{Answer, Node, Stats};
use server::metrics::{Kind, Page, Text};
use stats::Depth;
use tokio::sync::watch;

use super::Parts;
use crate::AgentWorkers;
use crate::metrics::{self, Metrics};
use crate::settings;

pub(crate) struct AgentHost {
    runtime: Client,
    runtime_view: watch::Receiver<RuntimeView<Monotonic>>,
    verbosity: Verbosity,
    configuration: serde_json::Value,
    stats: NodeStats,
    volumes: volumes::Volumes,
    drivers: csi::Drivers,
    volume_period: Option<Duration>,
    metrics: Arc<Metrics>,
    workers: AgentWorkers,
    probes: Arc<AgentProbes>,
    /// The API server's pods of this node.
    pods: watch::Receiver<Arc<SourceState>>,
    gates: Gates,
    cgroup_version: u8,
    access: Access,
    certificates: Vec<Arc<certs::Metrics>>,
    /// How long the runtime may be silent before the sync loop counts as stuck.
    patience: Duration,
}

impl AgentHost {
    pub(crate) fn new(
        parts: &Parts,
        settings: &Settings,
        node_name: &str,
        access: Access,
        pods: watch::Receiver<Arc<SourceState>>,
        certificates: Vec<Arc<certs::Metrics>>,
    ) -> Self {
        Self {
            metrics: Arc::clone(&parts.metrics),
            workers: parts.workers.clone(),
            probes: Arc::clone(&parts.probes),
            pods,
            gates: settings.gates.clone(),
            cgroup_version: cgroup_version(parts.cgroups.as_deref()),
            access,
            certificates,
            patience: settings.sync_loop_limit,
            runtime: parts.runtime.clone(),
            runtime_view: parts.runtime_view.clone(),
            verbosity: parts.verbosity.clone(),
            configuration: settings.configuration.clone(),
            stats: node_stats(
                parts,
                node_name,
                settings.runtime_cgroup.as_deref(),
                settings.volume_stats_period,
            ),
            volumes: parts.volumes.clone(),
            drivers: parts.drivers.clone(),
            volume_period: settings.volume_stats_period,
        }
    }
}

impl AgentHost {
    fn mirrors(&self) -> usize {
        let is_mirror = |pod: &&Arc<Pod>| annotation(pod, labels::CONFIG_MIRROR).is_some();
        self.pods.borrow().pods.iter().filter(is_mirror).count()
    }
}

/// Also where the agent makes no cgroups.
fn cgroup_version(cgroups: Option<&Cgroups>) -> u8 {
    let v2 = match cgroups {
        Some(cgroups) => cgroups.version() == Version::V2,
        None => Path::new(settings::CGROUP_MOUNT).join("cgroup.controllers").exists(),
    };
    if v2 { 2 } else { 1 }
}

fn node_stats(
    parts: &Parts,
    node_name: &str,
    runtime_cgroup: Option<&str>,
    volume_period: Option<Duration>,
) -> NodeStats {
    let settings = stats::Settings {
        cgroup_mount: settings::CGROUP_MOUNT.into(),
        root_dir: parts.root_dir.clone(),
        system_cgroups: runtime_cgroup.map(|cgroup| ("runtime", cgroup.to_owned())).into_iter().collect(),
        ..stats::Settings::new(node_name)
    };
    let of_pods = (parts.cgroups.clone(), parts.pod_logs_dir.clone());
    let volumes = (parts.volumes.clone(), volume_period);
    NodeStats::new(parts.runtime.clone(), settings, of_pods, volumes, parts.workers.clock().clone())
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
                running.extend(read(&self.runtime, &sandboxes, &containers).await.map(|o| Arc::new(o.pod)));
            }
            Ok(running)
        })
    }

    fn sync_loop(&self) -> Result<(), String> {
        let view = self.runtime_view.borrow();
        let silent = self.workers.clock().mono().since(view.since).unsigned_abs();
        if view.ready || silent < self.patience {
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
        match page {
            Page::Main => {
                metrics::info::write_cgroup_version(out, self.cgroup_version);
                metrics::info::write_mirrors(out, self.mirrors());
                pod_workers::write_working(out, &self.workers.working());
                self.metrics.write(out);
                self.drivers.write_metrics(out);
                self.volumes.write_metrics(out, self.volume_period);
                metrics::info::write_build(out);
                metrics::info::write_gates(out, &self.gates);
                write_requests(out, &self.access);
                let now = crate::wall();
                self.certificates.iter().for_each(|certificate| certificate.write(out, now));
            }
            Page::Probes => prober::write_metrics(out, self.probes.tallies()),
            // The server makes the health checks, so it counts them.
            Page::Slis => {}
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

impl Stats for AgentHost {
    fn summary(&self, only_cpu_and_memory: bool) -> Answer<'_, Arc<Summary>> {
        let depth = if only_cpu_and_memory { Depth::CpuAndMemory } else { Depth::Everything };
        Box::pin(self.stats.summary(depth))
    }
}
