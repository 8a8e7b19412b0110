//! The struct itself, in the order in which the kubelet writes it.

use std::collections::BTreeMap;

use kube_model::core::Taint;
use kube_model::duration::GoDuration;
use serde::{Deserialize, Serialize};

use super::{
    Authentication, Authorization, CrashLoopBackOff, Logging, MemoryReservation, MemorySwap,
    ShutdownGracePeriodByPodPriority, Tracing, UserNamespaces, zero,
};

/// Everything that the kubelet can be configured with (upstream `staging/src/k8s.io/kubelet/config/v1beta1/types.go`),
/// with the defaults filled in.
///
/// Reading it from JSON gives what is absent its default; nulls have to be taken out before and zeros that mean
/// "not set" have to be replaced after, see [`KubeletConfiguration::from_value`]. Written, it is what the kubelet
/// shows at `/configz`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeletConfiguration {
    /// Always [`KIND`](super::KIND).
    pub kind: String,
    /// Always [`API_VERSION`](super::API_VERSION).
    pub api_version: String,
    /// Whether the server on `port` runs. Default true.
    pub enable_server: bool,
    /// Folder of static pod manifests, or one manifest file. Default empty: none.
    #[serde(skip_serializing_if = "zero")]
    pub static_pod_path: String,
    /// Folder of the containers' logs. Default `/var/log/pods`.
    #[serde(skip_serializing_if = "zero")]
    pub pod_logs_dir: String,
    /// Longest time between two comparisons of a pod with its desired state. Default 1m.
    pub sync_frequency: GoDuration,
    /// Time between two looks at `static_pod_path`. Default 20s.
    pub file_check_frequency: GoDuration,
    /// Time between two requests to `static_pod_url`. Default 20s.
    pub http_check_frequency: GoDuration,
    /// URL of static pod manifests. Default empty: none.
    #[serde(rename = "staticPodURL", skip_serializing_if = "zero")]
    pub static_pod_url: String,
    /// HTTP headers for `static_pod_url`. Default none. Secret: not to be logged.
    #[serde(rename = "staticPodURLHeader", skip_serializing_if = "zero")]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    /// IP address of the server; `0.0.0.0` (default) for all interfaces.
    #[serde(skip_serializing_if = "zero")]
    pub address: String,
    /// Port of the server. Default 10250.
    #[serde(skip_serializing_if = "zero")]
    pub port: i32,
    /// Port of the server without authentication; 0 for none, which is the default with a configuration file.
    /// Without one it is 10255.
    #[serde(skip_serializing_if = "zero")]
    pub read_only_port: i32,
    /// The server's certificate chain. Default empty: a self-signed one in `--cert-dir`.
    #[serde(skip_serializing_if = "zero")]
    pub tls_cert_file: String,
    /// The key of `tls_cert_file`.
    #[serde(skip_serializing_if = "zero")]
    pub tls_private_key_file: String,
    /// Cipher suites for TLS up to 1.2, by Go's names. Default empty: Go's.
    #[serde(skip_serializing_if = "zero")]
    pub tls_cipher_suites: Vec<String>,
    /// Key exchanges, by Go's CurveID numbers. Default empty: Go's.
    #[serde(skip_serializing_if = "zero")]
    pub tls_curve_preferences: Vec<i32>,
    /// Lowest TLS version, such as `VersionTLS12`, which is also what empty (default) means.
    #[serde(skip_serializing_if = "zero")]
    pub tls_min_version: String,
    /// Whether the client certificate is renewed through the API server. Default false.
    #[serde(skip_serializing_if = "zero")]
    pub rotate_certificates: bool,
    /// Whether the server's certificate is asked for from the API server. Default false.
    #[serde(rename = "serverTLSBootstrap", skip_serializing_if = "zero")]
    pub server_tls_bootstrap: bool,
    /// How the server finds out who sends a request.
    pub authentication: Authentication,
    /// What the server lets whom do.
    pub authorization: Authorization,
    /// Most image pulls a second; 0 for no limit. Default 5.
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: i32,
    /// Most image pulls at once while keeping to `registry_pull_qps`. Default 10.
    #[serde(skip_serializing_if = "zero")]
    pub registry_burst: i32,
    /// Which images on the node need a pod's credentials checked again: `NeverVerify`,
    /// `NeverVerifyPreloadedImages` (default), `NeverVerifyAllowlistedImages` or `AlwaysVerify`. Empty while
    /// the gate `KubeletEnsureSecretPulledImages` is off.
    #[serde(skip_serializing_if = "zero")]
    pub image_pull_credentials_verification_policy: String,
    /// Images, without tag or digest, that `NeverVerifyAllowlistedImages` is for; may end in `/*`. Default
    /// none.
    #[serde(skip_serializing_if = "zero")]
    pub preloaded_images_verification_allowlist: Vec<String>,
    /// Most events a second; 0 for no limit. Default 50.
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: i32,
    /// Most events at once while keeping to `event_record_qps`. Default 100.
    #[serde(skip_serializing_if = "zero")]
    pub event_burst: i32,
    /// Whether the server has logs, exec, attach, port-forward and run. Default true.
    pub enable_debugging_handlers: bool,
    /// Whether lock contention is profiled. Default false.
    #[serde(skip_serializing_if = "zero")]
    pub enable_contention_profiling: bool,
    /// Port of `/healthz`; 0 for none. Default 10248.
    pub healthz_port: i32,
    /// IP address of `/healthz`. Default `127.0.0.1`.
    #[serde(skip_serializing_if = "zero")]
    pub healthz_bind_address: String,
    /// `oom_score_adj` of the agent itself, -1000 to 1000. Default -999.
    pub oom_score_adj: i32,
    /// DNS domain of the cluster. Default empty.
    #[serde(skip_serializing_if = "zero")]
    pub cluster_domain: String,
    /// IP addresses of the DNS servers for pods with `dnsPolicy: ClusterFirst`. Default none.
    #[serde(rename = "clusterDNS", skip_serializing_if = "zero")]
    pub cluster_dns: Vec<String>,
    /// Without effect, in the kubelet too. Default 4h.
    pub streaming_connection_idle_timeout: GoDuration,
    /// Time between two looks at the node's status. Default 10s.
    pub node_status_update_frequency: GoDuration,
    /// Longest time between two reports of an unchanged status. Default 5m, or `node_status_update_frequency`
    /// where that is given.
    pub node_status_report_frequency: GoDuration,
    /// Seconds that the node's lease is good for. Default 40.
    #[serde(skip_serializing_if = "zero")]
    pub node_lease_duration_seconds: i32,
    /// How long an unused image is kept at least. Default 2m.
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: GoDuration,
    /// How long an unused image is kept at most; 0 (default) for no limit.
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: GoDuration,
    /// Disk usage in percent above which images are removed. Default 85.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: i32,
    /// Disk usage in percent down to which images are removed. Default 80.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: i32,
    /// Time between two measurements of volumes; 0 or less in a flag turns them off. Default 1m.
    pub volume_stats_agg_period: GoDuration,
    /// Cgroup for the agent itself. Default empty: where it was started.
    #[serde(skip_serializing_if = "zero")]
    pub kubelet_cgroups: String,
    /// Cgroup for all processes that are in none. Default empty: they stay. Needs `cgroup_root`.
    #[serde(skip_serializing_if = "zero")]
    pub system_cgroups: String,
    /// Cgroup under which pods' cgroups are made. Default empty: the root.
    #[serde(skip_serializing_if = "zero")]
    pub cgroup_root: String,
    /// Whether pods and QoS classes get cgroups. Default true.
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    /// Who makes cgroups: `cgroupfs` (default) or `systemd`. What the runtime reports goes before it.
    #[serde(skip_serializing_if = "zero")]
    pub cgroup_driver: String,
    /// `none` (default) or `static`.
    #[serde(skip_serializing_if = "zero")]
    pub cpu_manager_policy: String,
    /// Whether the kernel kills only one process of a container that is out of memory. Default false with
    /// cgroup v2, true with v1.
    #[serde(rename = "singleProcessOOMKill", skip_serializing_if = "Option::is_none")]
    pub single_process_oom_kill: Option<bool>,
    /// Options of `cpu_manager_policy`. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    /// Time between two comparisons of containers' CPU sets with the assigned ones. Default 10s.
    pub cpu_manager_reconcile_period: GoDuration,
    /// `None` (default) or `Static`.
    #[serde(skip_serializing_if = "zero")]
    pub memory_manager_policy: String,
    /// `none` (default), `best-effort`, `restricted` or `single-numa-node`.
    #[serde(skip_serializing_if = "zero")]
    pub topology_manager_policy: String,
    /// `container` (default) or `pod`.
    #[serde(skip_serializing_if = "zero")]
    pub topology_manager_scope: String,
    /// Options of `topology_manager_policy`. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub topology_manager_policy_options: BTreeMap<String, String>,
    /// Percent of each resource that only guaranteed pods may use: `memory: 50%`. Alpha. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub qos_reserved: BTreeMap<String, String>,
    /// Longest time for a request to the runtime, pulls and streams aside. Default 2m.
    pub runtime_request_timeout: GoDuration,
    /// Without effect, in the kubelet too: `promiscuous-bridge` (default), `hairpin-veth` or `none`.
    #[serde(skip_serializing_if = "zero")]
    pub hairpin_mode: String,
    /// Most pods on the node. Default 110.
    #[serde(skip_serializing_if = "zero")]
    pub max_pods: i32,
    /// Pods' addresses, only without an API server. Default empty.
    #[serde(rename = "podCIDR", skip_serializing_if = "zero")]
    pub pod_cidr: String,
    /// Most processes in one pod; -1 (default) for the node's own limit.
    pub pod_pids_limit: i64,
    /// Resolver configuration that pods' own is made from; empty for none. Default `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Refused when true.
    #[serde(skip_serializing_if = "zero")]
    pub run_once: bool,
    /// Whether CPU limits are enforced. Default true.
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    /// CFS quota period, 1ms to 1s. Default 100ms.
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: GoDuration,
    /// Most images in the node's status; -1 for all. Default 50.
    pub node_status_max_images: i32,
    /// Most open files of the agent. Default 1000000.
    #[serde(skip_serializing_if = "zero")]
    pub max_open_files: i64,
    /// Content type of requests to the API server. Default `application/vnd.kubernetes.protobuf`.
    #[serde(skip_serializing_if = "zero")]
    pub content_type: String,
    /// Most requests a second to the API server. Default 50.
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: i32,
    /// Most requests at once to the API server. Default 100.
    #[serde(rename = "kubeAPIBurst", skip_serializing_if = "zero")]
    pub kube_api_burst: i32,
    /// Whether one image is pulled at a time. Default true, or false with `max_parallel_image_pulls` of 2 or
    /// more.
    pub serialize_image_pulls: bool,
    /// Most pulls at a time; `None` (default) for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_image_pulls: Option<i32>,
    /// Pods are evicted at once when a signal passes its threshold (quantity or percent). Default with a
    /// configuration file that does not set it: [`DEFAULT_EVICTION_HARD`](super::DEFAULT_EVICTION_HARD), else
    /// none.
    #[serde(skip_serializing_if = "zero")]
    pub eviction_hard: BTreeMap<String, String>,
    /// Pods are evicted when a signal is past its threshold for its grace period. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub eviction_soft: BTreeMap<String, String>,
    /// The grace period of each signal in `eviction_soft`. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    /// How long a pressure condition stays after the pressure has gone. Default 5m.
    pub eviction_pressure_transition_period: GoDuration,
    /// Most seconds that a pod gets in a soft eviction. Default 0.
    #[serde(skip_serializing_if = "zero")]
    pub eviction_max_pod_grace_period: i32,
    /// What an eviction frees at least, by signal. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    /// Whether signals that `eviction_hard` does not name keep their default. Default false.
    pub merge_default_eviction_settings: bool,
    /// Most pods for each core, at most `max_pods` in all; 0 (default) for no limit.
    #[serde(skip_serializing_if = "zero")]
    pub pods_per_core: i32,
    /// Whether volumes are attached by the attach-detach controller. Default true.
    pub enable_controller_attach_detach: bool,
    /// Whether kernel settings other than expected stop the start; false (default) sets them.
    #[serde(skip_serializing_if = "zero")]
    pub protect_kernel_defaults: bool,
    /// Whether iptables chains are made as hints for others. Default true.
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    /// Without effect, in the kubelet too. Default 14.
    pub iptables_masquerade_bit: i32,
    /// Without effect, in the kubelet too. Default 15.
    pub iptables_drop_bit: i32,
    /// Features turned on or off. Default none: each has its own default.
    #[serde(skip_serializing_if = "zero")]
    pub feature_gates: BTreeMap<String, bool>,
    /// Whether swap on the node stops the start. Default true.
    pub fail_swap_on: bool,
    /// What swap containers may use.
    pub memory_swap: MemorySwap,
    /// Size at which a container's log is rotated, a quantity. Default `10Mi`.
    #[serde(skip_serializing_if = "zero")]
    pub container_log_max_size: String,
    /// Most log files of one container, 2 or more. Default 5.
    pub container_log_max_files: i32,
    /// Most rotations at a time. Default 1.
    pub container_log_max_workers: i32,
    /// Time between two looks at the logs' sizes, 3s or more. Default 10s.
    pub container_log_monitor_interval: GoDuration,
    /// How changes of config maps and secrets are found: `Watch` (default), `Cache` or `Get`.
    #[serde(skip_serializing_if = "zero")]
    pub config_map_and_secret_change_detection_strategy: String,
    /// Quantities kept for the system: cpu, memory, ephemeral-storage, pid. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub system_reserved: BTreeMap<String, String>,
    /// Quantities kept for Kubernetes' own processes, as in `system_reserved`. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub kube_reserved: BTreeMap<String, String>,
    /// CPUs kept for the system, as a list: `0-3`. Default none.
    #[serde(rename = "reservedSystemCPUs", skip_serializing_if = "zero")]
    pub reserved_system_cpus: String,
    /// Previous minor version whose hidden metrics are shown. Default empty.
    #[serde(skip_serializing_if = "zero")]
    pub show_hidden_metrics_for_version: String,
    /// Cgroup that `system_reserved` is enforced on. Default empty.
    #[serde(skip_serializing_if = "zero")]
    pub system_reserved_cgroup: String,
    /// Cgroup that `kube_reserved` is enforced on. Default empty.
    #[serde(skip_serializing_if = "zero")]
    pub kube_reserved_cgroup: String,
    /// What limits are enforced on: `none`, `pods`, `system-reserved`, `kube-reserved`, the latter two also
    /// with `-compressible`. Default `pods`.
    #[serde(skip_serializing_if = "zero")]
    pub enforce_node_allocatable: Vec<String>,
    /// Unsafe sysctls that pods may set; may end in `*`. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Folder of flexvolume plugins. Default `/usr/libexec/kubernetes/kubelet-plugins/volume/exec/`.
    #[serde(skip_serializing_if = "zero")]
    pub volume_plugin_dir: String,
    /// The node's name at its cloud provider. Default empty.
    #[serde(rename = "providerID", skip_serializing_if = "zero")]
    pub provider_id: String,
    /// Whether the kernel tells of memory thresholds. Default false.
    #[serde(skip_serializing_if = "zero")]
    pub kernel_memcg_notification: bool,
    /// How and how much to log.
    pub logging: Logging,
    /// Whether the server has `/logs/`. Default true.
    pub enable_system_log_handler: bool,
    /// Whether `/logs/` takes queries. Default false.
    pub enable_system_log_query: bool,
    /// How long a node shutdown waits for pods; 0 (default) for not at all.
    pub shutdown_grace_period: GoDuration,
    /// The last part of it, for critical pods. Default 0.
    pub shutdown_grace_period_critical_pods: GoDuration,
    /// Instead of the two: by priority. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub shutdown_grace_period_by_pod_priority: Vec<ShutdownGracePeriodByPodPriority>,
    /// How crashed containers wait.
    pub crash_loop_back_off: CrashLoopBackOff,
    /// Memory kept from containers, by NUMA node. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub reserved_memory: Vec<MemoryReservation>,
    /// Whether the server has `/debug/pprof/`. Default true.
    pub enable_profiling_handler: bool,
    /// Whether the server has `/debug/flags/v`. Default true.
    pub enable_debug_flags_handler: bool,
    /// Whether containers without a seccomp profile get the runtime's default one. Default false.
    pub seccomp_default: bool,
    /// Part of the memory limit at which a container is throttled, above 0 up to 1. Default 0.9. Alpha.
    pub memory_throttling_factor: f64,
    /// Whether requested memory is protected: `None` (default) or `TieredReservation`. Alpha.
    #[serde(skip_serializing_if = "zero")]
    pub memory_reservation_policy: String,
    /// Taints that the node registers with. Default none.
    #[serde(skip_serializing_if = "zero")]
    pub register_with_taints: Vec<Taint>,
    /// Whether the node registers itself. Default true.
    pub register_node: bool,
    /// OpenTelemetry; `None` (default) for off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Whether ephemeral storage is measured and limited. Default true.
    pub local_storage_capacity_isolation: bool,
    /// The runtime's socket. Default `unix:///run/containerd/containerd.sock`.
    pub container_runtime_endpoint: String,
    /// The image service's socket; empty (default) for the runtime's.
    #[serde(skip_serializing_if = "zero")]
    pub image_service_endpoint: String,
    /// Whether a node with cgroup v1 stops the start. Default true.
    pub fail_cgroup_v1: bool,
    /// User namespaces of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_namespaces: Option<UserNamespaces>,
}
