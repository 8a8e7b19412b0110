//! What runs pods: the runtime, the prober, and the workers, which begin nothing before the runtime has answered.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cri_client::Client;
use images::credentials::DockerConfigPaths;
use kube_model::Monotonic;
use kube_model::view::RuntimeView;
use kuberuntime::{
    AgentProbes, CriConfig, CriExec, CriImages, CriRuntime, Files, Hooks, LocalObjects, NodeInfo,
    NodeRuntime, ProbeNews, Providers, PulledFor, References, VolumeContent, VolumeMounts, probe_news,
};
use node_config::Settings;
use pod_lifecycle::NodeFacts;
use pod_workers::{Clock, Context, NodeState, RuntimeDown, Workers};
use prober::Prober;
use tokio::sync::{mpsc, watch};
use volumes::{NoStorage, Storage, Volumes};

use super::StartError;
use super::machine::Machine;
use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::{AgentWorkers, settings};

/// What the runtime is said to be before it was asked.
const WAITING: &str = "has not answered yet";

pub(super) struct Pods {
    pub(super) client: Client,
    /// What the node is to its containers.
    pub(super) cri: CriConfig,
    /// The node, as far as pods depend on it.
    pub(super) node: watch::Sender<Arc<NodeState>>,
    /// What the node has, and what pods hold of it.
    pub(super) node_info: Arc<NodeInfo>,
    pub(super) runtime_view: watch::Sender<RuntimeView<Monotonic>>,
    pub(super) probes: Arc<AgentProbes>,
    /// What the prober tells.
    pub(super) probe_news: ProbeNews,
    pub(super) runtime: Arc<CriRuntime>,
    pub(super) volumes: Volumes,
    /// The CSI drivers that mount some of them.
    pub(super) drivers: csi::Drivers,
    /// What they tell.
    pub(super) volume_news: mpsc::Receiver<volumes::News>,
    /// What pods refer to.
    pub(super) references: References,
    pub(super) workers: AgentWorkers,
}

/// A client of the runtime whose calls are counted and logged.
pub(super) fn client(config: &Settings, metrics: &Metrics) -> Result<Client, StartError> {
    let counts = Arc::clone(&metrics.runtime);
    let client = Client::builder(&config.container_runtime_endpoint)?
        .image_endpoint(&config.image_service_endpoint)?
        .request_timeout(config.runtime_request_timeout)
        .observer(move |method, took, failed| {
            counts.called(method, took, failed);
            kuberuntime::tell(method, took, failed);
        });
    Ok(client.build())
}

impl Pods {
    pub(super) fn new(
        config: &Settings,
        node_name: &str,
        home: Option<&Path>,
        client: Client,
        machine: &Machine,
        (cluster, local): (Option<&Cluster>, watch::Receiver<Arc<LocalObjects>>),
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let Machine { hardware, resources, cgroups, ips, .. } = machine;
        let pods_cgroup = cgroups.as_ref().map(|cgroups| cgroups.pods_cgroup());
        let cri = settings::cri(config, ips.clone(), pods_cgroup, hardware, resources)?;
        let cri = Arc::new(ArcSwap::from_pointee(cri));
        let clock = Clock::new(crate::wall);
        let (node, runtime_view) = not_asked_yet(config, machine, &clock);
        let references = References { api: cluster.map(Cluster::references), local };

        let images = CriImages {
            client: client.clone(),
            config: Arc::clone(&cri),
            docker_config: DockerConfigPaths::of_node(&config.root_dir, home),
            references: references.clone(),
            metrics: Arc::clone(&metrics.runtime),
            pulled_for: pulled_for(metrics, &clock),
        };
        let drivers = csi::Drivers::default();
        let content = VolumeContent { references: references.clone(), tokens: cluster.map(Cluster::tokens) };
        let storage: Arc<dyn Storage> = match cluster {
            Some(cluster) => Arc::new(cluster.storage()),
            None => Arc::new(NoStorage),
        };
        let (volumes, volume_news) = Volumes::new(
            settings::volumes(config, node_name, drivers.clone(), resources, &clock),
            Arc::new(content),
            storage,
        );
        let mounts = VolumeMounts { volumes: volumes.clone(), node: node.subscribe() };
        let runtime = Arc::new(CriRuntime {
            files: Files {
                root_dir: config.root_dir.clone(),
                pod_logs_dir: config.pod_logs_dir.clone(),
                log_links_dir: settings::log_links_dir(&config.pod_logs_dir),
            },
            cgroups: cgroups.clone(),
            images: images::Images::new(images, &settings::images(config)),
            config: Arc::clone(&cri),
            resolv_conf: config.resolv_conf.clone(),
            hooks: Hooks { client: client.clone(), http: prober::http::Client::new() },
            references: references.clone(),
            volumes: volumes.clone(),
            providers: Providers(vec![Box::new(mounts)]),
            client: client.clone(),
            metrics: Arc::clone(&metrics.runtime),
        });
        let node_info = Arc::new(NodeInfo::new(
            settings::admitted(config, node_name, hardware, resources)?,
            NodeRuntime { client: client.clone(), view: runtime_view.subscribe() },
            cluster.map(Cluster::node),
        ));
        let (sink, probe_news) = probe_news();
        let prober = Prober::new(CriExec(client.clone()), sink, crate::wall);
        let probes = Arc::new(AgentProbes::new(prober, &config.root_dir, node.subscribe()));
        let workers = Workers::new(Context {
            runtime: Arc::clone(&runtime),
            probes: Arc::clone(&probes),
            admission: Arc::clone(&node_info) as _,
            node: node.subscribe(),
            clock,
            events: cluster.map(Cluster::event_sink),
            observer: Arc::clone(&metrics.pods) as _,
        });
        Ok(Self {
            client,
            cri,
            node,
            node_info,
            runtime_view,
            probes,
            probe_news,
            runtime,
            volumes,
            drivers,
            volume_news,
            references,
            workers,
        })
    }
}

/// The node and the runtime's view, before the runtime was asked: pods wait for it.
fn not_asked_yet(
    config: &Settings,
    machine: &Machine,
    clock: &Clock,
) -> (watch::Sender<Arc<NodeState>>, watch::Sender<RuntimeView<Monotonic>>) {
    let endpoint = &config.container_runtime_endpoint;
    let since = clock.mono();
    let facts = NodeFacts { host_ips: machine.ips.clone(), ..NodeFacts::default() };
    let down = RuntimeDown { message: format!("{endpoint} {WAITING}"), since };
    let view = RuntimeView {
        endpoint: endpoint.clone(),
        name: String::new(),
        version: String::new(),
        ready: false,
        answers: false,
        message: WAITING.to_owned(),
        since,
    };
    (watch::Sender::new(Arc::new(NodeState { facts, runtime_down: Some(down) })), watch::Sender::new(view))
}

/// The start of a pod does not count the time in which its images are pulled.
fn pulled_for(metrics: &Arc<Metrics>, clock: &Clock) -> PulledFor {
    let (metrics, clock) = (Arc::clone(metrics), clock.clone());
    Box::new(move |pod, took| metrics.pod_startup.pulled_for(pod, took, clock.mono()))
}
