//! Start in phases, each a function of its own, and the drain in reverse.
//!
//! No phase waits for the API server: pods of this machine's own run before the cluster is reached, and go on without
//! it.

mod error;
mod machine;
mod phase;
mod pods;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use kube_model::view::SourceView;
use kuberuntime::streams::CriStreams;
use kuberuntime::{LocalObjects, ProbeFollower, follow_probes, follow_volumes, make_dir};
use node_config::Settings;
use pleg::Pleg;
use pod_manager::PodManager;
use server::healthz::{BoundHealthz, Healthz};
use server::local::LocalSocket;
use server::metrics::HealthChecks;
use server::pod_streams::PodStreams;
use tokio::sync::watch;

use crate::AgentWorkers;
use crate::cluster::{Cluster, Parts};
use crate::config::Live;
use crate::metrics::Metrics;
use crate::service_manager::{self, ServiceManager};
use crate::sources::Sources;
use crate::takeover::{self, Takeover};
use crate::view::AgentView;

pub use error::StartError;
use machine::Machine;
pub(crate) use phase::Phase;
use pods::Pods;

/// What the agent takes from the environment of its process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The home directory: in it there may be credentials of registries.
    pub home: Option<PathBuf>,
    /// `NOTIFY_SOCKET`: where a service manager wants to be told how the agent is.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`: after how many microseconds without a word it takes the agent for dead.
    pub watchdog_usec: Option<OsString>,
    /// `WATCHDOG_PID`: the process that the watchdog is for.
    pub watchdog_pid: Option<OsString>,
}

impl Environment {
    /// Of the process whose variables these are.
    pub fn new(home: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Self {
            home,
            notify_socket: variable("NOTIFY_SOCKET"),
            watchdog_usec: variable("WATCHDOG_USEC"),
            watchdog_pid: variable("WATCHDOG_PID"),
        }
    }
}

/// A running agent.
pub struct Agent {
    /// The local socket.
    serving: Phase,
    /// Everything that needs the API server, and what serves it.
    in_cluster: Phase,
    workers: AgentWorkers,
    /// What tells the workers: sources, PLEG, orphaned pods.
    telling: Phase,
    _healthz: Option<Healthz>,
}

impl Agent {
    /// Starts everything. What is `live` may change while the agent runs. Returns once the agent does its work; the runtime
    /// need not be there yet.
    ///
    /// # Errors
    /// When something that the agent cannot work without is missing or taken: see [`StartError`].
    pub async fn start(
        config: &Settings,
        node_name: &str,
        live: &Live,
        environment: &Environment,
    ) -> Result<Self, StartError> {
        let [serving, in_cluster, telling] = [(); 3].map(|()| Phase::default());
        let service_manager = ServiceManager::of(environment)?;
        let (local, healthz, root_dir) = claim(config)?;
        // From here on nobody meets a link on the way to it: the kernel's table of mounts has none either.
        let config = &Settings { root_dir, ..config.clone() };
        let checks = Arc::new(HealthChecks::of(tokio::runtime::Handle::current()));
        let connect = |settings: &node_config::Cluster| {
            Cluster::connect(settings.clone(), node_name, &config.root_dir, &in_cluster.stop)
        };
        let cluster = config.cluster.as_ref().map(connect).transpose()?;
        let metrics = Arc::new(Metrics::new());
        let client = pods::client(config, &metrics)?;
        let machine = Machine::prepare(config, node_name, &metrics).await?;
        let objects = watch::Sender::new(Arc::default());
        let pods = Pods::new(
            config,
            node_name,
            environment.home.as_deref(),
            client,
            &machine,
            (cluster.as_ref(), objects.subscribe()),
            &metrics,
        )?;

        let mut sources = Sources::start(config, node_name, live, &telling.stop).await?;
        if let Some(cluster) = &cluster {
            sources.add(cluster.source());
        }
        let shown = watch::Sender::new(Vec::new());
        let pod_streams = serve(&serving, local, node_name, &pods, &sources, &shown);
        let of_cluster = cluster.as_ref().map(Cluster::desired);
        let waits = cluster.as_ref().and_then(Cluster::waits).unwrap_or_else(|| watch::channel(None).1);

        let Machine { hardware, resources, cgroups, addresses, limits, .. } = machine;
        let enforcement = limits.follow(&telling, cluster.as_ref().map(Cluster::node_events));
        if let Some(cluster) = cluster {
            let parts = Parts {
                workers: pods.workers.clone(),
                runtime: pods.client.clone(),
                volumes: pods.volumes.clone(),
                runtime_view: pods.runtime_view.subscribe(),
                node: pods.node.subscribe(),
                pod_streams,
                cgroups,
                root_dir: config.root_dir.clone(),
                pod_logs_dir: config.pod_logs_dir.clone(),
                verbosity: live.verbosity.clone(),
                given_ips: config.node_ips.clone(),
                node_settings: config.node.clone(),
                hardware,
                resources,
                enforcement,
                metrics: Arc::clone(&metrics),
                probes: Arc::clone(&pods.probes),
                checks: Arc::clone(&checks),
                drivers: pods.drivers.clone(),
            };
            cluster.start(parts, &in_cluster)?;
        }
        let registry = config.root_dir.join("plugins_registry");
        telling.spawn(csi::Registrar::new(registry, pods.drivers.clone()).run());
        telling.spawn(addresses.follow(pods.node.clone(), Arc::clone(&pods.cri)));
        let driver = pods.cri.load().cgroups.driver;
        telling.spawn(kuberuntime::check_cgroup_driver(pods.client.clone(), driver));
        let workers = pods.workers.clone();
        telling.spawn(crate::references::follow(
            pods.references.clone(),
            workers.clone(),
            pods.volumes.clone(),
            Arc::clone(&pods.runtime),
        ));
        let runtime_view = pods.runtime_view.subscribe();
        run(&telling, config, pods, (sources, objects), shown, of_cluster, metrics);
        // Nobody is told that all is well before the last thing that can fail has been done.
        let healthz = healthz.map(|bound| bound.counting(Arc::clone(&checks)).serve()).transpose()?;
        telling.spawn(service_manager.follow(checks, runtime_view, waits));
        Ok(Self { serving, in_cluster, workers, telling, _healthz: healthz })
    }

    /// Takes no more work, then ends what was started, the last first. Pods are left running.
    pub async fn drain(self) {
        service_manager::stopping().await;
        // What is under way at the pod API is waited for below.
        self.telling.stop.cancel();
        self.workers.shutdown().await;
        // These are not waited for before they are told: a request at the pod API may take as long as it likes.
        self.in_cluster.stop.cancel();
        self.serving.stop.cancel();
        self.telling.end().await;
        self.in_cluster.end().await;
        self.serving.end().await;
    }
}

/// Takes what only one agent of a node can have: both refuse a second one before anything is touched.
/// Answers with the real path of the root folder, too.
fn claim(config: &Settings) -> Result<(LocalSocket, Option<BoundHealthz>, PathBuf), StartError> {
    crate::open_files::allow(config.max_open_files);
    for (path, mode) in [(&config.root_dir, 0o750), (&config.pod_logs_dir, 0o755)] {
        make_dir(path, mode).map_err(|e| StartError::Dir { path: path.clone(), source: e.into() })?;
    }
    let root_dir = std::fs::canonicalize(&config.root_dir)
        .map_err(|e| StartError::Dir { path: config.root_dir.clone(), source: e.into() })?;
    let socket = LocalSocket::bind(&config.root_dir)?;
    // What is mounted below for pods is to be seen in containers that ask for it (upstream `setupDataDirs`).
    if let Err(error) = volume_fs::mount::make_shared(&root_dir) {
        tracing::warn!("mounts made for pods are not seen in other containers: {}", util::causes(&error));
    }
    Ok((socket, config.healthz.map(Healthz::bind).transpose()?, root_dir))
}

/// Serves the local socket, and logs where pods are pushed. Answers with the way into pods for the other servers.
fn serve(
    phase: &Phase,
    local: LocalSocket,
    node_name: &str,
    pods: &Pods,
    sources: &Sources,
    shown: &watch::Sender<Vec<SourceView>>,
) -> Arc<PodStreams> {
    let view = Arc::new(AgentView {
        node: node_name.to_owned(),
        workers: pods.workers.clone(),
        volumes: pods.volumes.clone(),
        sources: shown.subscribe(),
        states: sources.states(),
        runtime: pods.runtime_view.subscribe(),
    });
    let pod_streams = PodStreams::new(view, Arc::new(CriStreams(pods.client.clone())), crate::wall);
    sources.serve_logs(&pod_streams);
    let served = Arc::clone(&pod_streams);
    phase.spawn(async move {
        if let Err(error) = local.serve(served).await {
            tracing::error!("the local socket is not served any more: {}", util::causes(&error));
        }
    });
    pod_streams
}

/// Lets the workers be told what the runtime has and what is wanted: from here on pods are run.
fn run(
    phase: &Phase,
    config: &Settings,
    pods: Pods,
    (sources, objects): (Sources, watch::Sender<Arc<LocalObjects>>),
    shown: watch::Sender<Vec<SourceView>>,
    of_cluster: Option<impl Fn(&PodManager) + Send + Sync + 'static>,
    metrics: Arc<Metrics>,
) {
    let Pods {
        client,
        node,
        node_info,
        runtime_view,
        probes,
        probe_news,
        runtime,
        volumes,
        volume_news,
        workers,
        ..
    } = pods;
    let follower = Arc::new(ProbeFollower { probes, workers: workers.clone() });
    // It ends by itself, when what is known has been written down.
    phase.tasks.spawn(follow_probes(probe_news, follower, phase.stop.clone()));
    phase.spawn(follow_volumes(volume_news, workers.clone()));
    phase.spawn(volumes.run(phase.stop.clone()));
    takeover::tell_of_state(&config.root_dir);
    let takeover = Takeover::new(client.clone(), &config.root_dir);
    let pleg = Pleg {
        client,
        workers: workers.clone(),
        node,
        view: runtime_view,
        root_dir: config.root_dir.clone(),
    };
    phase.spawn(pleg.run());
    if sources.is_empty() {
        // Without a source nobody can say what is wanted, so nothing is removed either.
        tracing::warn!(
            "no pod source is configured (--pod-manifest-path, --manifest-url, --manifest-server-address): nothing \
             to run"
        );
        return;
    }
    let desired = move |pods: &PodManager| {
        if let Some(of_cluster) = &of_cluster {
            of_cluster(pods);
        }
    };
    let (of_sources, until) = (workers.clone(), phase.stop.clone());
    // It ends by itself, when the requests under way have been answered.
    phase.tasks.spawn(async move {
        sources.run((of_sources, takeover), shown, objects, desired, &metrics, until).await;
    });
    phase.spawn(async move {
        let orphaned = runtime.remove_orphaned_pods(&workers);
        tokio::join!(runtime.share_burstable_cpu(&workers, &node_info), orphaned);
    });
}
