//! What a node needs to be part of a cluster: the way to its API server, what it says of itself, and the server
//! that the cluster asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kube_model::core::Taint;
use kube_model::eviction::ThresholdValue;
use kube_model::quantity::Quantity;

use super::{Check, non_empty};
use crate::config::{KubeletConfiguration, join};
use crate::gates::{Gate, Gates};
use crate::table::KubeletFlags;
use crate::validate::cpu_ranges;
use crate::value::parse_ip;

/// `configMapAndSecretChangeDetectionStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeDetection {
    /// Each object is watched.
    Watch,
    /// Each is read again when it was not read for a while.
    Cache,
    /// Each is read whenever it is used.
    Get,
}

/// Others are refused by the validation.
fn change_detection(strategy: &str) -> ChangeDetection {
    match strategy {
        "Cache" => ChangeDetection::Cache,
        "Get" => ChangeDetection::Get,
        _ => ChangeDetection::Watch,
    }
}

/// The settings of a node with an API server.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// How to reach the API server.
    pub kubeconfig: PathBuf,
    /// How to reach it for a first client certificate, after which `kubeconfig` is written.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Whether the client certificate is renewed.
    pub rotate_certificates: bool,
    /// Folder of certificates that the agent gets or makes for itself.
    pub cert_dir: PathBuf,
    /// Whether a Node that is not there is created.
    pub register_node: bool,
    /// Taints of a Node that is created.
    pub taints: Vec<Taint>,
    /// Whether a cloud controller initialises the node.
    pub external_cloud: bool,
    /// The node's name at its cloud provider; may be empty.
    pub provider_id: String,
    /// How long a pressure is told of after it has gone.
    pub eviction_pressure_transition: Duration,
    /// Time between two looks at the node's status.
    pub status_update_frequency: Duration,
    /// Longest time between two reports of an unchanged status.
    pub status_report_frequency: Duration,
    /// How long the node's lease holds.
    pub lease_duration: Duration,
    /// What the node's status declares to be there, by the names of gates.
    pub declared_features: Vec<String>,
    /// Which feature gates are on.
    pub gates: Gates,
    /// Most images in the node's status; `None`: all.
    pub max_images: Option<usize>,
    /// Requests about pods.
    pub api: Rate,
    /// Requests about events.
    pub events: Rate,
    /// The server that the cluster asks; `None`: none.
    pub server: Option<KubeletServer>,
    /// Where the part of it is served that needs no rights; `None`: nowhere.
    pub read_only: Option<SocketAddr>,
    /// How one hears that a ConfigMap or Secret changed.
    pub change_detection: ChangeDetection,
    /// How often they are read again where they are not watched.
    pub sync_frequency: Duration,
    /// How long nobody may have looked after the pods before `/healthz/syncloop` fails.
    pub sync_loop_limit: Duration,
    /// How long what was measured of a volume is good for; `None`: volumes are not measured.
    pub volume_stats_period: Option<Duration>,
    /// The cgroup of the runtime, which is measured as such.
    pub runtime_cgroup: Option<String>,
    /// The configuration in force, for `/configz`; without its secrets.
    pub configuration: serde_json::Value,
}

/// How many requests may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// A second; 0: no limit.
    pub qps: u32,
    /// At once.
    pub burst: u32,
}

/// The server on 10250.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Certificate and key; `None`: a self-signed pair in [`Cluster::cert_dir`], or one of the cluster.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether the certificate comes from the cluster; `certificate` counts until then.
    pub tls_bootstrap: Option<TlsBootstrap>,
    /// Lowest version of TLS, by Go's name; may be empty.
    pub tls_min_version: String,
    /// Cipher suites, by Go's names; empty: all.
    pub tls_cipher_suites: Vec<String>,
    /// Key exchanges, by Go's numbers; empty: all.
    pub tls_curves: Vec<i32>,
    /// Whether requests that name nobody are let in as the anonymous user.
    pub anonymous: bool,
    /// Authorities of client certificates.
    pub client_ca_file: Option<PathBuf>,
    /// Whether the API server is asked about tokens, and how long an answer is good for.
    pub token_review: Option<Duration>,
    /// Whether the API server is asked about rights, and how long a yes and a no are good for; `None`: everybody
    /// may do everything.
    pub access_review: Option<(Duration, Duration)>,
    /// Whether streams into pods need the right to `create`, too, where they come with GET.
    pub streams_need_create: bool,
    /// Logs, exec and everything else that looks into pods.
    pub debugging_handlers: bool,
    /// `/logs/`
    pub system_log_handler: bool,
    /// `/debug/pprof/`
    pub profiling_handler: bool,
    /// `/debug/flags/v`
    pub debug_flags_handler: bool,
    /// Whether WebSockets are translated for runtimes that speak SPDY only.
    pub extend_websockets: bool,
}

/// How a serving certificate is asked for at the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsBootstrap {
    /// Whether a name of the node is enough, without any address (`AllowDNSOnlyNodeCSR`).
    pub dns_alone: bool,
}

/// The node as pods are chosen for it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSettings {
    /// Labels besides those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Most pods.
    pub max_pods: i64,
    /// Most pods for each core; 0: no limit.
    pub pods_per_core: i64,
    /// Kept for the system and Kubernetes, by resource: thousandths of a core for `cpu`, else bytes or a count.
    pub reserved: BTreeMap<String, i64>,
    /// From where on something is scarce, by signal.
    pub eviction_hard: BTreeMap<String, ThresholdValue>,
    /// Whether all pods together are kept from what is reserved: `enforceNodeAllocatable` has `pods`.
    pub enforce_on_pods: bool,
    /// Kernel parameters that pods may set beside the safe ones; a `*` at the end stands for any.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Whether the node tells of its ephemeral storage.
    pub ephemeral_storage: bool,
    /// Whether volumes are attached to the node by the cluster's controller.
    pub controller_attach_detach: bool,
}

/// What cannot be set was refused before.
fn gates(config: &KubeletConfiguration) -> Gates {
    Gates::new(&config.feature_gates).unwrap_or_default()
}

/// The values of the headers are secret.
fn shown(config: &KubeletConfiguration) -> serde_json::Value {
    let mut config = config.clone();
    for values in config.static_pod_url_header.values_mut() {
        *values = vec!["<masked>".to_owned()];
    }
    serde_json::to_value(config).unwrap_or_default()
}

impl Check<'_> {
    pub(super) fn node(&mut self, config: &KubeletConfiguration, flags: &KubeletFlags) -> NodeSettings {
        NodeSettings {
            labels: flags.node_labels.clone(),
            max_pods: config.max_pods.into(),
            pods_per_core: config.pods_per_core.into(),
            reserved: self.reserved(config),
            eviction_hard: self.eviction_hard(config),
            enforce_on_pods: config.enforce_node_allocatable.iter().any(|on| on == "pods"),
            allowed_unsafe_sysctls: config.allowed_unsafe_sysctls.clone(),
            ephemeral_storage: config.local_storage_capacity_isolation,
            controller_attach_detach: config.enable_controller_attach_detach,
        }
    }

    /// `None` without a kubeconfig: then nothing of a cluster is started.
    pub(super) fn cluster(&mut self, config: &KubeletConfiguration, flags: &KubeletFlags) -> Option<Cluster> {
        let kubeconfig = non_empty(&flags.kubeconfig)?;
        Some(Cluster {
            kubeconfig,
            bootstrap_kubeconfig: non_empty(&flags.bootstrap_kubeconfig),
            rotate_certificates: config.rotate_certificates,
            cert_dir: self.folder("--cert-dir", &flags.cert_dir).into(),
            register_node: config.register_node,
            taints: config.register_with_taints.clone(),
            external_cloud: flags.cloud_provider == "external",
            provider_id: config.provider_id.clone(),
            eviction_pressure_transition: self
                .duration("evictionPressureTransitionPeriod", config.eviction_pressure_transition_period),
            status_update_frequency: self
                .duration("nodeStatusUpdateFrequency", config.node_status_update_frequency),
            status_report_frequency: self
                .duration("nodeStatusReportFrequency", config.node_status_report_frequency),
            lease_duration: Duration::from_secs(
                self.not_negative("nodeLeaseDurationSeconds", config.node_lease_duration_seconds).into(),
            ),
            declared_features: gates(config).declared_features(),
            gates: gates(config),
            max_images: usize::try_from(config.node_status_max_images).ok(),
            api: Rate {
                qps: self.not_negative("kubeAPIQPS", config.kube_api_qps),
                burst: self.not_negative("kubeAPIBurst", config.kube_api_burst),
            },
            events: Rate {
                qps: self.not_negative("eventRecordQPS", config.event_record_qps),
                burst: self.not_negative("eventBurst", config.event_burst),
            },
            server: self.server(config, flags),
            read_only: self.port("readOnlyPort", config.read_only_port, config),
            change_detection: change_detection(&config.config_map_and_secret_change_detection_strategy),
            sync_frequency: self.duration("syncFrequency", config.sync_frequency),
            // Upstream `pkg/kubelet/kubelet.go` `SyncLoopHealthCheck`.
            sync_loop_limit: (2 * self.duration("syncFrequency", config.sync_frequency))
                .max(Duration::from_secs(5 * 60)),
            // As upstream, what is not longer than nothing turns it off.
            volume_stats_period: config.volume_stats_agg_period.to_std().filter(|period| !period.is_zero()),
            runtime_cgroup: Some(flags.runtime_cgroups.clone()).filter(|cgroup| !cgroup.is_empty()),
            configuration: shown(config),
        })
    }

    fn server(&mut self, config: &KubeletConfiguration, flags: &KubeletFlags) -> Option<KubeletServer> {
        if !config.enable_server {
            return None;
        }
        let address = self.port("port", config.port, config)?;
        let (authentication, authorization) = (&config.authentication, &config.authorization);
        let webhook = &authorization.webhook;
        Some(KubeletServer {
            address,
            certificate: self.certificate(config),
            tls_bootstrap: config
                .server_tls_bootstrap
                .then(|| TlsBootstrap { dns_alone: gates(config).enabled(Gate::AllowDNSOnlyNodeCSR) }),
            tls_min_version: config.tls_min_version.clone(),
            tls_cipher_suites: config.tls_cipher_suites.clone(),
            tls_curves: config.tls_curve_preferences.clone(),
            anonymous: authentication.anonymous.enabled,
            client_ca_file: non_empty(&authentication.x509.client_ca_file),
            token_review: authentication
                .webhook
                .enabled
                .then(|| self.duration("authentication.webhook.cacheTTL", authentication.webhook.cache_ttl)),
            access_review: (authorization.mode != "AlwaysAllow").then(|| {
                (
                    self.duration("authorization.webhook.cacheAuthorizedTTL", webhook.cache_authorized_ttl),
                    self.duration(
                        "authorization.webhook.cacheUnauthorizedTTL",
                        webhook.cache_unauthorized_ttl,
                    ),
                )
            }),
            streams_need_create: flags.streams_need_create,
            debugging_handlers: config.enable_debugging_handlers,
            system_log_handler: config.enable_system_log_handler,
            profiling_handler: config.enable_profiling_handler,
            debug_flags_handler: config.enable_debug_flags_handler,
            extend_websockets: gates(config).enabled(Gate::ExtendWebSocketsToKubelet),
        })
    }

    /// Both files or none.
    fn certificate(&mut self, config: &KubeletConfiguration) -> Option<(PathBuf, PathBuf)> {
        match (non_empty(&config.tls_cert_file), non_empty(&config.tls_private_key_file)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.fail("tlsCertFile", &config.tls_cert_file, "needs tlsPrivateKeyFile");
                None
            }
            (None, Some(_)) => {
                self.fail("tlsPrivateKeyFile", &config.tls_private_key_file, "needs tlsCertFile");
                None
            }
        }
    }

    /// Where a port is served; `None` for port 0.
    fn port(&mut self, field: &str, port: i32, config: &KubeletConfiguration) -> Option<SocketAddr> {
        let Ok(port) = u16::try_from(port) else {
            self.fail(field, &port, "must be between 0 and 65535; 0 turns it off");
            return None;
        };
        let Some(ip) = parse_ip(&config.address) else {
            self.fail("address", &config.address, "must be an IP address");
            return None;
        };
        (port != 0).then(|| SocketAddr::new(ip, port))
    }

    fn reserved(&mut self, config: &KubeletConfiguration) -> BTreeMap<String, i64> {
        let mut reserved = BTreeMap::new();
        let cpus = cpu_ranges(&config.reserved_system_cpus);
        for (field, map) in
            [("systemReserved", &config.system_reserved), ("kubeReserved", &config.kube_reserved)]
        {
            for (resource, text) in map {
                // Upstream `cmd/kubelet/app/server.go`: the CPUs that are named go before both.
                if resource == "cpu" && cpus.is_some() {
                    continue;
                }
                let Ok(amount) = text.parse::<Quantity>() else {
                    self.fail(&join(field, resource), text, "must be a quantity");
                    continue;
                };
                let amount = if resource == "cpu" { amount.milli_value() } else { amount.value() };
                let sum: &mut i64 = reserved.entry(resource.clone()).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
        if let Some(ranges) = cpus {
            let count: i64 = ranges.iter().map(|&(from, to)| i64::from(to - from) + 1).sum();
            reserved.insert("cpu".to_owned(), count.saturating_mul(1000));
        }
        reserved
    }

    /// `0%` and `100%` turn a signal off (upstream `pkg/kubelet/eviction/helpers.go`).
    fn eviction_hard(&mut self, config: &KubeletConfiguration) -> BTreeMap<String, ThresholdValue> {
        let mut thresholds = BTreeMap::new();
        for (signal, text) in &config.eviction_hard {
            let value = match text.strip_suffix('%') {
                Some("0" | "100") => continue,
                // In 32 bits, as Go reads it: the node's allocatable shows it.
                Some(percent) => {
                    percent.parse::<f32>().ok().map(|percent| ThresholdValue::Percentage(percent / 100.0))
                }
                None => text.parse::<Quantity>().ok().map(|amount| ThresholdValue::Quantity(amount.value())),
            };
            match value {
                Some(value) => {
                    thresholds.insert(signal.clone(), value);
                }
                None => self.fail(&join("evictionHard", signal), text, "must be a quantity or a percentage"),
            }
        }
        thresholds
    }
}
