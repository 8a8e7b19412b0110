//! Start order and drain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cgroups::Cgroups;
use cri_client::Client;
use images::credentials::Places;
use kube_model::view::{RuntimeView, SourceView};
use kuberuntime::streams::CriStreams;
use kuberuntime::{
    AgentProbes, CriExec, CriImages, CriRuntime, Files, Hooks, NodeInfo, NodeRuntime, ProbeSink, Providers,
    SharedSink, make_dir,
};
use node_config::Settings;
use pleg::Pleg;
use pod_lifecycle::NodeFacts;
use pod_manager::PodManager;
use pod_workers::{Clock, Context, Node, RuntimeDown, Workers};
use prober::Prober;
use server::healthz::{Healthz, HealthzError};
use server::inside::Inside;
use server::local::{LocalError, LocalSocket};
use server::metrics::HealthChecks;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::allocatable::{Enforcement, NodeEvent};
use crate::cluster::{Cluster, ClusterError, Parts};
use crate::config::Live;
use crate::metrics::Metrics;
use crate::sources::{SourceError, Sources};
use crate::view::AgentView;
use crate::{AgentWorkers, node, settings};

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A flag's endpoint is none.
    #[error("--container-runtime-endpoint")]
    Endpoint(#[from] cri_client::EndpointError),
    /// The root or log directory cannot be made.
    #[error("preparing {}", .path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of the node cannot be read.
    #[error("reading {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Pods are allowed kernel parameters that are the node's.
    #[error("allowedUnsafeSysctls")]
    Sysctls(#[from] admission::NotNamespaced),
    /// Cgroups are not there or cannot be written.
    #[error("cgroups")]
    Cgroups(#[from] cgroups::Error),
    /// The health endpoint cannot be served.
    #[error(transparent)]
    Healthz(#[from] HealthzError),
    /// The local socket cannot be served; another agent may hold it.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A source of pods cannot be started.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The node cannot be part of its cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// A running agent.
pub struct Agent {
    stop: CancellationToken,
    tasks: TaskTracker,
    workers: AgentWorkers,
    _healthz: Option<Healthz>,
}

impl Agent {
    /// Starts everything. What is `live` may change while the agent runs; in the home directory there may be
    /// credentials of registries. Returns once the agent does its work; the runtime need not be there yet.
    ///
    /// # Errors
    /// When something that the agent cannot work without is missing or taken: see [`StartError`].
    pub async fn start(
        config: &Settings,
        node_name: &str,
        live: &Live,
        home: Option<&Path>,
    ) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        crate::open_files::allow(config.max_open_files);
        for (path, mode) in [(&config.root_dir, 0o750), (&config.pod_logs_dir, 0o755)] {
            make_dir(path, mode).map_err(|e| StartError::Dir { path: path.clone(), source: e.into() })?;
        }
        // Both refuse a second agent on this node before anything is touched. Nobody is told that all is well before
        // the last thing that can fail has been done.
        let local = LocalSocket::bind(&config.root_dir)?;
        let healthz = config.healthz.map(Healthz::bind).transpose()?;
        let checks = Arc::new(HealthChecks::of(tokio::runtime::Handle::current()));
        let cluster = match &config.cluster {
            Some(settings) => Some(Cluster::connect(settings.clone(), node_name, &config.root_dir, &stop)?),
            None => None,
        };
        let metrics = Arc::new(Metrics::new());
        let counts = Arc::clone(&metrics.runtime);
        let client = Client::builder(&config.container_runtime_endpoint)?
            .image_endpoint(&config.image_service_endpoint)?
            .request_timeout(config.runtime_request_timeout)
            .observer(move |method, took, failed| {
                counts.called(method, took, failed);
                kuberuntime::tell(method, took, failed);
            })
            .build();
        let cgroups = if config.cgroups_per_qos {
            let cgroups = Cgroups::detect(settings::CGROUP_MOUNT.as_ref(), settings::cgroups(config))?;
            let began = Instant::now();
            cgroups.ensure_base()?;
            metrics.runtime.cgroup("create", began);
            Some(Arc::new(cgroups))
        } else {
            None
        };
        let (hardware, resources) = node::measure(config)?;
        let enforcement = cgroups.clone().map(|cgroups| {
            Enforcement::new(
                cgroups,
                &resources,
                stats::machine::online_cpu_list(),
                config.node.enforce_on_pods,
            )
        });
        let enforced = enforcement.as_ref().map(Enforcement::apply).transpose();
        let addresses = Addresses::new(&config.node_ips, node_name);
        let node_ips = addresses.find().await;
        let pods_cgroup = cgroups.as_ref().map(|cgroups| cgroups.pods_cgroup());
        let cri = settings::cri(config, node_ips.clone(), pods_cgroup, &hardware, &resources)?;
        let cri = Arc::new(ArcSwap::from_pointee(cri));

        let clock = Clock::new(crate::wall);
        let waiting = "has not answered yet";
        let down = RuntimeDown {
            message: format!("{} {waiting}", config.container_runtime_endpoint),
            since: clock.mono(),
        };
        let facts = NodeFacts { host_ips: node_ips, ..NodeFacts::default() };
        let node = watch::Sender::new(Arc::new(Node { facts, runtime_down: Some(down) }));
        let runtime_view = watch::Sender::new(RuntimeView {
            endpoint: config.container_runtime_endpoint.clone(),
            name: String::new(),
            version: String::new(),
            ready: false,
            answers: false,
            message: waiting.to_owned(),
            since: clock.mono(),
        });

        let sink = Arc::new(ProbeSink::default());
        let prober = Prober::new(CriExec(client.clone()), SharedSink(Arc::clone(&sink)), crate::wall);
        let probes = Arc::new(AgentProbes::new(prober, &config.root_dir, node.subscribe()));
        let references = cluster.as_ref().map(Cluster::references);
        let runtime = CriRuntime {
            files: Files {
                root_dir: config.root_dir.clone(),
                pod_logs_dir: config.pod_logs_dir.clone(),
                log_links_dir: settings::log_links_dir(&config.pod_logs_dir),
            },
            cgroups: cgroups.clone(),
            images: images::Images::new(
                CriImages {
                    client: client.clone(),
                    config: Arc::clone(&cri),
                    places: Places::of_node(&config.root_dir, home),
                    references: references.clone(),
                    metrics: Arc::clone(&metrics.runtime),
                    pulled_for: pulled_for(&metrics, &clock),
                },
                &settings::images(config),
            ),
            config: Arc::clone(&cri),
            resolv_conf: config.resolv_conf.clone(),
            hooks: Hooks { client: client.clone(), http: prober::http::Client::new() },
            references,
            providers: Providers(Vec::new()),
            client: client.clone(),
            metrics: Arc::clone(&metrics.runtime),
        };
        let runtime = Arc::new(runtime);
        let admission = NodeInfo::new(
            settings::admitted(config, node_name, &hardware, &resources)?,
            NodeRuntime { client: client.clone(), view: runtime_view.subscribe() },
            cluster.as_ref().map(Cluster::node),
        );
        let workers = Workers::new(Context {
            runtime: Arc::clone(&runtime),
            probes: Arc::clone(&probes),
            admission: Arc::new(admission),
            node: node.subscribe(),
            clock: clock.clone(),
            events: cluster.as_ref().map(Cluster::event_sink),
            observer: Arc::clone(&metrics.pods) as _,
        });
        sink.connect(workers.clone(), Arc::clone(&probes));

        let mut sources = Sources::start(config, node_name, live, &stop).await?;
        if let Some(cluster) = &cluster {
            sources.add(cluster.source());
        }
        let shown = watch::Sender::new(Vec::<SourceView>::new());
        let view = Arc::new(AgentView {
            node: node_name.to_owned(),
            workers: workers.clone(),
            sources: shown.subscribe(),
            states: sources.states(),
            runtime: runtime_view.subscribe(),
        });
        let inside = Inside::new(view, Arc::new(CriStreams(client.clone())));
        sources.serve_logs(&inside);
        let (until, served) = (stop.clone(), Arc::clone(&inside));
        tasks.spawn(async move {
            if let Some(Err(error)) = until.run_until_cancelled(local.serve(served)).await {
                tracing::error!("the local socket is not served any more: {error}");
            }
        });

        let enforced = match (enforced, enforcement) {
            (Ok(event), _) => event.flatten(),
            (Err(event), enforcement) => {
                tracing::warn!("{}", event.2);
                let (until, tell) = (stop.clone(), cluster.as_ref().map(Cluster::node_events));
                let tell = move |event| tell.iter().for_each(|tell| tell(NodeEvent::clone(&event)));
                if let Some(enforcement) = enforcement {
                    tasks.spawn(async move {
                        until.run_until_cancelled(enforcement.keep_trying(tell)).await;
                    });
                }
                Some(event)
            }
        };
        let of_cluster = cluster.as_ref().map(Cluster::desired);
        if let Some(cluster) = cluster {
            let parts = Parts {
                workers: workers.clone(),
                runtime: client.clone(),
                runtime_view: runtime_view.subscribe(),
                node: node.subscribe(),
                inside,
                cgroups,
                root_dir: config.root_dir.clone(),
                pod_logs_dir: config.pod_logs_dir.clone(),
                verbosity: live.verbosity.clone(),
                given_ips: config.node_ips.clone(),
                node_settings: config.node.clone(),
                hardware,
                resources,
                enforcement: enforced,
                metrics: Arc::clone(&metrics),
                probes,
                checks: Arc::clone(&checks),
            };
            cluster.start(parts, &tasks, &stop)?;
        }
        let (until, addresses) = (stop.clone(), addresses.follow(node.clone(), cri));
        tasks.spawn(async move {
            until.run_until_cancelled(addresses).await;
        });
        let pleg = Pleg {
            client,
            workers: workers.clone(),
            node,
            view: runtime_view,
            stop: stop.clone(),
            root_dir: config.root_dir.clone(),
        };
        tasks.spawn(pleg.run());
        if sources.is_empty() {
            // Without a source nobody can say what is wanted, so nothing is removed either.
            tracing::warn!(
                "no pod source is configured (--pod-manifest-path, --manifest-url, --manifest-server-address): nothing \
                 to run"
            );
        } else {
            let shares = Arc::clone(&runtime);
            let desired = move |pods: &PodManager| {
                shares.share_burstable_cpu(pods.pods().map(|(_, pod)| pod));
                if let Some(of_cluster) = &of_cluster {
                    of_cluster(pods);
                }
            };
            let (fed, until) = (workers.clone(), stop.clone());
            tasks.spawn(async move { sources.feed(fed, shown, desired, &metrics, until).await });
            let (until, workers) = (stop.clone(), workers.clone());
            tasks.spawn(async move {
                let orphaned = async {
                    runtime.remove_orphaned_pods(&workers).await;
                    runtime.sweep_cgroups(&workers).await;
                };
                until.run_until_cancelled(orphaned).await;
            });
        }
        let healthz = healthz.map(|bound| bound.counting(checks).serve()).transpose()?;
        Ok(Self { stop, tasks, workers, _healthz: healthz })
    }

    /// Stops taking work and waits until every task has ended. Pods are left running.
    pub async fn drain(self) {
        self.stop.cancel();
        self.workers.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The start of a pod does not count the time in which its images are pulled.
fn pulled_for(metrics: &Arc<Metrics>, clock: &Clock) -> kuberuntime::PulledFor {
    let (metrics, clock) = (Arc::clone(metrics), clock.clone());
    Box::new(move |pod, took| metrics.pod_startup.pulled_for(pod, took, clock.mono()))
}
