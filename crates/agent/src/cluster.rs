//! The node as part of a cluster: everything that starts only with `--kubeconfig`.
//!
//! Owns the clients of the API server and who uses which: pods and events have the configured rates, the lease and
//! the node's status have neither limit nor company. The lease is renewed on a thread of its own, so that nothing
//! that is busy can make the node look dead.

mod api;
mod csi;
mod duplicates;
pub(crate) mod facts;
mod host;
mod join;
mod pods;
mod review;
mod serving;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use apiserver_sync::client::{self, Access, Limit, RestConfig};
use apiserver_sync::events::{self, Recorder};
use apiserver_sync::objects::{Objects, Strategy};
use apiserver_sync::services::Services;
use apiserver_sync::storage::Storage;
use apiserver_sync::tokens::Tokens;
use cgroups::{Cgroups, Version};
use kube::Client;
use kube_model::core::Node as NodeObject;
use kube_model::view::{EventType, RuntimeView};
use kube_model::{Monotonic, PodUid, pod};
use kuberuntime::{AgentProbes, ApiReferences, ApiStorage, NodeObject as NodeSource};
use logging::Verbosity;
use node_config::{ChangeDetection, Cluster as Settings, KubeletServer as ServerSettings, Rate};
use node_reporter::{CsiNodes, Lease, Reporter};
use pod_manager::PodManager;
use pod_workers::{EventSink, NodeState};
use podsource::SourceState;
use server::auth::{Authentication, Authorization, ClientCa};
use server::host::Host;
use server::kubelet::{Handlers, KubeletServer, ServerError};
use server::metrics::HealthChecks;
use server::pod_streams::PodStreams;
use server::tls::{Certificate, TlsError, TlsSettings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use volumes::Volumes;

use crate::allocatable::NodeEvent;
use crate::metrics::Metrics;
use crate::run::Phase;
use crate::{AgentWorkers, settings};

use api::NodeClient;
use facts::NodeFacts;
use join::{Join, Kept, join};
use review::Reviewer;
use serving::Serving;

/// Why the node cannot be part of the cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The way to the API server.
    #[error("--kubeconfig")]
    Kubeconfig(#[from] client::Error),
    /// Neither a kubeconfig nor what a first certificate could be asked for with.
    #[error("--kubeconfig cannot be used ({kubeconfig}), nor can --bootstrap-kubeconfig")]
    NoWay {
        /// What is wrong with the one.
        kubeconfig: String,
        /// And with the other.
        #[source]
        bootstrap: client::Error,
    },
    /// The folder of the agent's own certificates.
    #[error("--cert-dir")]
    Certificates(#[from] certs::StoreError),
    /// The server that the cluster asks.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The authorities of client certificates.
    #[error("authentication.x509.clientCAFile {}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<TlsError>,
    },
    /// The file that tells this agent from others of the same node name.
    #[error("keeping {}", path.display())]
    Instance {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No thread for the lease.
    #[error("starting the thread that renews the node lease")]
    Thread(#[source] io::Error),
}

/// The way to the cluster. Nothing is asked of it before [`Cluster::start`].
pub(crate) struct Cluster {
    settings: Settings,
    node_name: String,
    instance: String,
    access: Access,
    /// What keeps the client certificate.
    kept: Option<Kept>,
    /// What keeps the serving certificate.
    serving: Option<Serving>,
    client: Client,
    objects: Objects,
    tokens: Tokens,
    services: Services,
    recorder: Recorder,
    events: events::Sender,
    /// What the watch of this node's pods says.
    pods: watch::Receiver<Arc<SourceState>>,
    /// This node's object as the watch of it says.
    seen: watch::Receiver<Option<Arc<NodeObject>>>,
    /// This node's object, once it is there.
    node: watch::Sender<Option<Arc<NodeObject>>>,
    /// Whether another agent holds this node's lease; `None` until that is known.
    other: watch::Sender<Option<bool>>,
    /// Whether every source has spoken.
    complete: Arc<AtomicBool>,
}

/// What the rest of the agent gives.
pub(crate) struct Parts {
    pub(crate) workers: AgentWorkers,
    pub(crate) runtime: cri_client::Client,
    pub(crate) volumes: Volumes,
    pub(crate) runtime_view: watch::Receiver<RuntimeView<Monotonic>>,
    pub(crate) node: watch::Receiver<Arc<NodeState>>,
    pub(crate) pod_streams: Arc<PodStreams>,
    pub(crate) cgroups: Option<Arc<Cgroups>>,
    pub(crate) root_dir: PathBuf,
    pub(crate) pod_logs_dir: PathBuf,
    pub(crate) verbosity: Verbosity,
    /// The addresses that the configuration gives the node.
    pub(crate) given_ips: Vec<std::net::IpAddr>,
    /// The node as pods are chosen for it.
    pub(crate) node_settings: node_config::NodeSettings,
    pub(crate) hardware: node_reporter::Hardware,
    pub(crate) resources: admission::NodeResources,
    /// What is to be told of limits that were set at start.
    pub(crate) enforcement: Option<NodeEvent>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) probes: Arc<AgentProbes>,
    pub(crate) checks: Arc<HealthChecks>,
    /// The drivers of the node's volumes.
    pub(crate) drivers: ::csi::Drivers,
}

impl Cluster {
    /// Reads the kubeconfig and starts to watch. The server need not be there yet.
    pub(crate) fn connect(
        settings: Settings,
        node_name: &str,
        root_dir: &Path,
        stop: &CancellationToken,
    ) -> Result<Self, ClusterError> {
        let instance = instance(root_dir)?;
        let user_agent = client::user_agent("node-agent", env!("CARGO_PKG_VERSION"), &kubernetes_version());
        let Join { access, kept } = join(&settings, node_name, &user_agent)?;
        let serving = settings.server.as_ref().map(|server| {
            Serving::new(server, &settings.cert_dir, node_name, &access).map(Option::into_iter)
        });
        let serving = serving.transpose()?.into_iter().flatten().next();
        let client = access.client(rest_config(settings.api));
        let (recorder, events) = events::channel(access.client(rest_config(settings.events)), node_name);
        let source = podsource::api::Settings {
            client: client.clone(),
            endpoint: Arc::clone(access.endpoint()),
            node_name: node_name.to_owned(),
            reached: Some(access.reached()),
        };
        let other = watch::Sender::new(None::<bool>);
        let seen = apiserver_sync::named::watch(client.clone(), node_name, access.reached(), stop.clone());
        Ok(Self {
            pods: podsource::api::spawn_held(source, other.subscribe(), stop.clone()),
            other,
            objects: Objects::new(client.clone(), strategy(&settings, &seen)),
            tokens: Tokens::new(client.clone()),
            services: Services::watch(client.clone(), stop.clone()),
            seen,
            node: watch::Sender::new(None),
            settings,
            node_name: node_name.to_owned(),
            instance,
            access,
            kept,
            serving,
            client,
            recorder,
            events,
            complete: Arc::default(),
        })
    }

    /// What keeps the node from being known to the cluster; `None`: nothing.
    pub(crate) fn waits(&self) -> Option<watch::Receiver<Option<String>>> {
        self.kept.as_ref().map(|kept| kept.waits.clone())
    }

    /// The API server as a source of pods.
    pub(crate) fn source(&self) -> watch::Receiver<Arc<SourceState>> {
        self.pods.clone()
    }

    /// Takes the events of pods.
    pub(crate) fn event_sink(&self) -> EventSink {
        let recorder = self.recorder.clone();
        Arc::new(move |pod, container, kind, reason, message| {
            recorder.pod(pod, container, kind, reason, message.to_owned());
        })
    }

    /// Takes events of the node.
    pub(crate) fn node_events(&self) -> impl Fn(NodeEvent) + Send + use<> {
        let recorder = self.recorder.clone();
        move |(kind, reason, message)| recorder.node(kind, reason, message)
    }

    /// Tokens of the pods' service accounts.
    pub(crate) fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// What the pods' claims stand for.
    pub(crate) fn storage(&self) -> ApiStorage {
        ApiStorage {
            objects: Storage::new(self.client.clone()),
            recorder: self.recorder.clone(),
            node: self.seen.clone(),
        }
    }

    /// What containers and images take from the API server's objects.
    pub(crate) fn references(&self) -> ApiReferences {
        ApiReferences { objects: self.objects.clone(), services: self.services.clone() }
    }

    /// What the API server has of this node.
    pub(crate) fn node(&self) -> NodeSource {
        NodeSource { client: self.client.clone(), known: self.node.subscribe() }
    }

    /// Hears of all pods that are wanted, whenever they change.
    pub(crate) fn desired(&self) -> impl Fn(&PodManager) + use<> {
        let (objects, complete) = (self.objects.clone(), Arc::clone(&self.complete));
        let tokens = self.tokens.clone();
        let duplicates = duplicates::Duplicates::new(self.recorder.clone());
        let known = std::sync::Mutex::new(std::collections::BTreeSet::<PodUid>::new());
        move |pods| {
            let mut known = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // What others refer to is not the API server's.
            for (_, pod) in pods.pods().filter(|(_, pod)| !pod::is_static(pod)) {
                objects.register(pod);
            }
            known.retain(|uid| {
                let stays = pods.get(uid).is_some();
                if !stays {
                    objects.unregister(uid);
                    tokens.forget(uid);
                }
                stays
            });
            known.extend(pods.pods().map(|(uid, _)| uid.clone()));
            duplicates.tell(pods);
            complete.store(pods.sources_ready(), std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Starts the server, and everything that tells the cluster of this node.
    pub(crate) fn start(self, parts: Parts, phase: &Phase) -> Result<(), ClusterError> {
        let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| phase.spawn(task);
        let port = self.serve(&parts, &spawn)?;
        if let Some(kept) = self.kept {
            spawn(Box::pin(kept.manager.run()));
        }
        if let Some(serving) = self.serving {
            spawn(Box::pin(serving.run(self.node.subscribe())));
        }

        let node = self.node;
        let other = self.other;
        let pods = apiserver_sync::pods::Pods {
            client: self.client.clone(),
            local: Arc::new(pods::LocalPods {
                workers: parts.workers.clone(),
                complete: self.complete,
                metrics: Arc::clone(&parts.metrics),
            }),
            server: self.pods,
            pods: |state| state.seen.then_some(&*state.pods),
            node: node.subscribe(),
            reached: self.access.reached(),
        };
        spawn(Box::pin(pods.run()));
        let (events, mut is_other) = (self.events, other.subscribe());
        spawn(Box::pin(async move {
            // Until the node is ours they wait. An error says that the agent is about to end.
            if is_other.wait_for(|other| *other == Some(false)).await.is_ok() {
                events.run().await;
            }
        }));

        spawn(Box::pin(kuberuntime::tell_pod_cidr(parts.runtime.clone(), node.subscribe())));
        let recorder = self.recorder.clone();
        spawn(Box::pin(async move {
            let tell = |text| recorder.node(EventType::Warning, "SystemOOM", text);
            tracing::warn!(
                "nobody hears when the machine is out of memory: {}",
                stats::oom::watch(tell).await
            );
        }));

        let (drivers, csi_drivers) = (parts.drivers.reported(), watch::Sender::default());
        let storage = watch::Sender::new(Some(node_reporter::CSI_NODE_IS_MISSING.to_owned()));
        let csi_nodes = CsiNodes {
            api: Arc::new(csi::CsiNodeClient::new(self.client.clone(), &self.node_name)),
            drivers: csi_drivers.subscribe(),
            node: node.subscribe(),
            other: other.subscribe(),
            problem: storage.clone(),
        };
        spawn(Box::pin(csi_nodes.run()));
        spawn(Box::pin(csi::pass_on(drivers, csi_drivers)));
        let (renewed, reached, client) = (parts.drivers.clone(), self.access.reached(), self.client.clone());
        spawn(Box::pin(csi::renew_all(renewed, client, reached)));

        let timeout = self.settings.status_update_frequency.min(self.settings.lease_duration);
        let rest_config = RestConfig::heartbeat(timeout);
        let changes = watch::Sender::new(0u64);
        let machine = NodeFacts::new(&parts, storage.subscribe(), changes.subscribe());
        let (mut view, mut state, mut storage) =
            (parts.runtime_view.clone(), parts.node.clone(), storage.subscribe());
        let mut volumes = parts.volumes.in_use();
        spawn(Box::pin(async move {
            // The node is told of at once when the runtime comes or goes, or a volume may be mounted.
            while let Ok(()) = tokio::select! {
                a = view.changed() => a,
                b = state.changed() => b,
                c = volumes.changed() => c,
                d = storage.changed() => d,
            } {
                changes.send_modify(|n| *n += 1);
            }
        }));
        let (subscribed, is_other) = (node.subscribe(), other.subscribe());
        let api = NodeClient::new(
            self.access.client(rest_config),
            &self.node_name,
            self.recorder.clone(),
            Arc::clone(&parts.metrics),
        );
        let reporter = Reporter {
            settings: node_reporter::Settings {
                at_start: at_start(parts.cgroups.as_deref(), parts.enforcement.clone()),
                ..settings::reporter(
                    &self.settings,
                    &parts.node_settings,
                    &self.node_name,
                    &parts.resources,
                    &parts.given_ips,
                    port,
                )
            },
            api: Arc::new(api),
            machine: Arc::new(machine),
            node,
            seen: self.seen,
            other: is_other,
            clock: crate::wall,
        };
        spawn(Box::pin(reporter.run()));

        let (access, recorder, name) = (self.access, self.recorder, self.node_name);
        let metrics = parts.metrics;
        let (instance, duration, stop) = (self.instance, self.settings.lease_duration, phase.stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ClusterError::Thread)?;
        let renew = move || {
            runtime.block_on(stop.run_until_cancelled(async move {
                let api = NodeClient::new(access.client(rest_config), &name, recorder, metrics);
                let lease = Lease {
                    api: Arc::new(api),
                    name,
                    instance,
                    duration,
                    node: subscribed,
                    other,
                    clock: crate::wall,
                };
                lease.run().await;
            }));
        };
        std::thread::Builder::new().name("lease".to_owned()).spawn(renew).map_err(ClusterError::Thread)?;
        Ok(())
    }

    /// Starts the servers on 10250 and 10255. Answers with the port of the first.
    fn serve(
        &self,
        parts: &Parts,
        spawn: &impl Fn(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
    ) -> Result<Option<u16>, ClusterError> {
        let (access, pods) = (self.access.clone(), self.pods.clone());
        let kept = self.kept.as_ref().map(|kept| Arc::clone(&kept.metrics));
        let serving = self.serving.as_ref().map(|serving| Arc::clone(&serving.metrics));
        let certificates = kept.into_iter().chain(serving).collect();
        let agent = host::AgentHost::new(parts, &self.settings, &self.node_name, access, pods, certificates);
        let agent = Arc::new(agent);
        let host = Host::new(Arc::clone(&parts.pod_streams), Arc::clone(&agent) as _, agent)
            .counting(Arc::clone(&parts.checks));
        let mut port = None;
        if let Some(server) = &self.settings.server {
            let bound = KubeletServer::bind(self.server_settings(server)?, host.clone())?;
            port = Some(bound.address().port());
            tracing::info!(address = %bound.address(), "the kubelet's server listens");
            spawn(Box::pin(serve(bound)));
        }
        if let Some(address) = self.settings.read_only {
            spawn(Box::pin(serve(KubeletServer::bind_read_only(address, host)?)));
        }
        Ok(port)
    }

    fn server_settings(&self, server: &ServerSettings) -> Result<server::kubelet::Settings, ClusterError> {
        let certificate = match &server.certificate {
            _ if let Some(serving) = &self.serving => Certificate::Issued { places: serving.places.clone() },
            Some((certificates, key)) => {
                Certificate::Files { certificates: certificates.clone(), key: key.clone() }
            }
            None => Certificate::SelfSigned {
                folder: self.settings.cert_dir.clone(),
                host_name: self.node_name.clone(),
                now: crate::wall(),
            },
        };
        let reviewer = Arc::new(Reviewer::new(self.access.client(rest_config(self.settings.api))));
        let mut authentication = Authentication::default().anonymous(server.anonymous);
        if let Some(path) = &server.client_ca_file {
            let ca = ClientCa::open(path)
                .map_err(|source| ClusterError::ClientCa { path: path.clone(), source: Box::new(source) })?;
            authentication = authentication.client_ca(ca);
        }
        if let Some(ttl) = server.token_review {
            authentication = authentication.tokens(Arc::clone(&reviewer) as _, ttl);
        }
        let authorization = match server.access_review {
            Some((allowed, denied)) => Authorization::webhook(reviewer, allowed, denied),
            None => Authorization::always_allow(),
        };
        Ok(server::kubelet::Settings {
            address: server.address,
            node_name: self.node_name.clone(),
            tls: TlsSettings {
                certificate,
                min_version: server.tls_min_version.clone(),
                cipher_suites: server.tls_cipher_suites.clone(),
                curves: server.tls_curves.clone(),
            },
            authentication,
            authorization: authorization.streams_need_create(server.streams_need_create),
            handlers: Handlers {
                debugging: server.debugging_handlers,
                system_log: server.system_log_handler,
                profiling: server.profiling_handler,
                debug_flags: server.debug_flags_handler,
                extend_websockets: server.extend_websockets,
            },
        })
    }
}

async fn serve(server: KubeletServer) {
    if let Err(error) = server.serve().await {
        tracing::error!("the kubelet's server has ended: {}", util::causes(&error));
    }
}

/// What the kubelet tells of its node at start.
fn at_start(cgroups: Option<&Cgroups>, enforcement: Option<NodeEvent>) -> Vec<NodeEvent> {
    let v1 = cgroups.is_some_and(|cgroups| cgroups.version() == Version::V1).then(|| {
        let text = "cgroup v1 detected. cgroup v1 support is deprecated and will be removed in a future release. \
             Please migrate to cgroup v2. More information at \
             https://git.k8s.io/enhancements/keps/sig-node/5573-remove-cgroup-v1";
        (EventType::Warning, "CgroupV1", text.to_owned())
    });
    v1.into_iter().chain(enforcement).collect()
}

/// As Kubernetes writes its versions.
fn kubernetes_version() -> String {
    format!("v{}", node_config::KUBERNETES_VERSION)
}

/// No limit where none is configured.
fn rest_config(rate: Rate) -> RestConfig {
    let rest_config = RestConfig::limited(Limit::new(rate.qps, rate.burst));
    if rate.qps == 0 { RestConfig { limit: None, ..rest_config } } else { rest_config }
}

/// How changes of ConfigMaps and Secrets are seen.
fn strategy(settings: &Settings, node: &watch::Receiver<Option<Arc<NodeObject>>>) -> Strategy {
    let refresh = settings.sync_frequency;
    match settings.change_detection {
        ChangeDetection::Watch => Strategy::Watch,
        ChangeDetection::Cache => Strategy::Cache { node: node.clone(), refresh },
        ChangeDetection::Get => Strategy::Get { refresh },
    }
}

/// What tells this agent from another of the same node name; made once for a root folder.
fn instance(root_dir: &Path) -> Result<String, ClusterError> {
    let path = root_dir.join("instance-id");
    let failed = |source| ClusterError::Instance { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(failed)?.trim().to_owned();
    // Nobody else may choose who this agent is, whatever the umask.
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(id.as_bytes())).map_err(failed)?;
    Ok(id)
}
