//! What fields are when nobody sets them (upstream `pkg/kubelet/apis/config/v1beta1/defaults.go`), and what Go makes of
//! zeros and nulls.

use std::collections::BTreeMap;

use kube_model::duration::GoDuration;
use serde_json::Value;

use super::{
    API_VERSION, Authentication, Authorization, CrashLoopBackOff, FlushFrequency, KIND, KubeletConfiguration,
    Logging, MemorySwap, WebhookAuthentication, WebhookAuthorization,
};
use crate::gates::{self, Gate, Gates};
use crate::secret::is_secret;

/// `evictionHard` when a configuration file does not set it, on Linux.
pub const DEFAULT_EVICTION_HARD: &[(&str, &str)] = &[
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
];

/// The port without authentication that is open when there is no configuration file.
const LEGACY_READ_ONLY_PORT: i32 = 10255;

const fn seconds(seconds: i64) -> GoDuration {
    GoDuration::from_secs(seconds)
}

impl Default for KubeletConfiguration {
    /// The v1beta1 defaults. `evictionHard` is empty: its default belongs to the loading of a file.
    fn default() -> Self {
        Self {
            kind: KIND.to_owned(),
            api_version: API_VERSION.to_owned(),
            enable_server: true,
            static_pod_path: String::new(),
            pod_logs_dir: "/var/log/pods".to_owned(),
            sync_frequency: seconds(60),
            file_check_frequency: seconds(20),
            http_check_frequency: seconds(20),
            static_pod_url: String::new(),
            static_pod_url_header: BTreeMap::new(),
            address: "0.0.0.0".to_owned(),
            port: 10250,
            read_only_port: 0,
            tls_cert_file: String::new(),
            tls_private_key_file: String::new(),
            tls_cipher_suites: Vec::new(),
            tls_curve_preferences: Vec::new(),
            tls_min_version: String::new(),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            registry_pull_qps: 5,
            registry_burst: 10,
            image_pull_credentials_verification_policy: "NeverVerifyPreloadedImages".to_owned(),
            preloaded_images_verification_allowlist: Vec::new(),
            event_record_qps: 50,
            event_burst: 100,
            enable_debugging_handlers: true,
            enable_contention_profiling: false,
            healthz_port: 10248,
            healthz_bind_address: "127.0.0.1".to_owned(),
            oom_score_adj: -999,
            cluster_domain: String::new(),
            cluster_dns: Vec::new(),
            streaming_connection_idle_timeout: seconds(4 * 3600),
            node_status_update_frequency: seconds(10),
            node_status_report_frequency: seconds(300),
            node_lease_duration_seconds: 40,
            image_minimum_gc_age: seconds(120),
            image_maximum_gc_age: seconds(0),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            volume_stats_agg_period: seconds(60),
            kubelet_cgroups: String::new(),
            system_cgroups: String::new(),
            cgroup_root: String::new(),
            cgroups_per_qos: true,
            cgroup_driver: "cgroupfs".to_owned(),
            cpu_manager_policy: "none".to_owned(),
            single_process_oom_kill: None,
            cpu_manager_policy_options: BTreeMap::new(),
            cpu_manager_reconcile_period: seconds(10),
            memory_manager_policy: "None".to_owned(),
            topology_manager_policy: "none".to_owned(),
            topology_manager_scope: "container".to_owned(),
            topology_manager_policy_options: BTreeMap::new(),
            qos_reserved: BTreeMap::new(),
            runtime_request_timeout: seconds(120),
            hairpin_mode: "promiscuous-bridge".to_owned(),
            max_pods: 110,
            pod_cidr: String::new(),
            pod_pids_limit: -1,
            resolv_conf: "/etc/resolv.conf".to_owned(),
            run_once: false,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: GoDuration::from_nanos(100_000_000),
            node_status_max_images: 50,
            max_open_files: 1_000_000,
            content_type: "application/vnd.kubernetes.protobuf".to_owned(),
            kube_api_qps: 50,
            kube_api_burst: 100,
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            eviction_hard: BTreeMap::new(),
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_pressure_transition_period: seconds(300),
            eviction_max_pod_grace_period: 0,
            eviction_minimum_reclaim: BTreeMap::new(),
            merge_default_eviction_settings: false,
            pods_per_core: 0,
            enable_controller_attach_detach: true,
            protect_kernel_defaults: false,
            make_iptables_util_chains: true,
            iptables_masquerade_bit: 14,
            iptables_drop_bit: 15,
            feature_gates: BTreeMap::new(),
            fail_swap_on: true,
            memory_swap: MemorySwap::default(),
            container_log_max_size: "10Mi".to_owned(),
            container_log_max_files: 5,
            container_log_max_workers: 1,
            container_log_monitor_interval: seconds(10),
            config_map_and_secret_change_detection_strategy: "Watch".to_owned(),
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            reserved_system_cpus: String::new(),
            show_hidden_metrics_for_version: String::new(),
            system_reserved_cgroup: String::new(),
            kube_reserved_cgroup: String::new(),
            enforce_node_allocatable: vec!["pods".to_owned()],
            allowed_unsafe_sysctls: Vec::new(),
            volume_plugin_dir: "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/".to_owned(),
            provider_id: String::new(),
            kernel_memcg_notification: false,
            logging: Logging::default(),
            enable_system_log_handler: true,
            enable_system_log_query: false,
            shutdown_grace_period: seconds(0),
            shutdown_grace_period_critical_pods: seconds(0),
            shutdown_grace_period_by_pod_priority: Vec::new(),
            crash_loop_back_off: CrashLoopBackOff::default(),
            reserved_memory: Vec::new(),
            enable_profiling_handler: true,
            enable_debug_flags_handler: true,
            seccomp_default: false,
            memory_throttling_factor: 0.9,
            memory_reservation_policy: "None".to_owned(),
            register_with_taints: Vec::new(),
            register_node: true,
            tracing: None,
            local_storage_capacity_isolation: true,
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".to_owned(),
            image_service_endpoint: String::new(),
            fail_cgroup_v1: true,
            user_namespaces: None,
        }
    }
}

impl Default for WebhookAuthentication {
    fn default() -> Self {
        Self { enabled: true, cache_ttl: seconds(120) }
    }
}

impl Default for Authorization {
    fn default() -> Self {
        Self { mode: "Webhook".to_owned(), webhook: WebhookAuthorization::default() }
    }
}

impl Default for WebhookAuthorization {
    fn default() -> Self {
        Self { cache_authorized_ttl: seconds(300), cache_unauthorized_ttl: seconds(30) }
    }
}

impl Default for CrashLoopBackOff {
    fn default() -> Self {
        Self { max_container_restart_period: Some(seconds(300)) }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: "text".to_owned(),
            flush_frequency: FlushFrequency::default(),
            verbosity: 0,
            vmodule: Vec::new(),
            options: Default::default(),
        }
    }
}

impl Default for FlushFrequency {
    fn default() -> Self {
        Self { duration: seconds(5), as_nanos: false }
    }
}

/// A configuration read from JSON.
#[derive(Debug)]
pub struct Decoded {
    /// What was read.
    pub config: KubeletConfiguration,
    /// Paths of fields that there are not: `evictionHardd`, `shutdownGracePeriodByPodPriority[0].prio`.
    pub unknown: Vec<String>,
}

/// A value of the wrong type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TypeError {
    /// Its path.
    pub path: String,
    /// What it is and what was expected.
    pub reason: String,
}

impl KubeletConfiguration {
    /// What applies without a configuration file (upstream `cmd/kubelet/app/options/options.go` `applyLegacyDefaults`):
    /// anonymous requests are let in, everything is allowed, and the read-only port is open.
    pub fn legacy() -> Self {
        let mut config = Self { read_only_port: LEGACY_READ_ONLY_PORT, ..Self::default() };
        config.authentication.anonymous.enabled = true;
        config.authentication.webhook.enabled = false;
        config.authorization.mode = "AlwaysAllow".to_owned();
        config
    }

    /// Fills in what is zero and can not be told from "not set" in Go.
    fn replace_zeros(&mut self) {
        fn replace<T: Default + PartialEq>(value: &mut T, default: T) {
            if *value == T::default() {
                *value = default;
            }
        }
        let default = Self::default();
        macro_rules! replace {
            ($($($field:ident).+,)*) => { $(replace(&mut self.$($field).+, default.$($field).+);)* };
        }
        replace! {
            pod_logs_dir, sync_frequency, file_check_frequency, http_check_frequency, address, port,
            authentication.webhook.cache_ttl, authorization.mode, authorization.webhook.cache_authorized_ttl,
            authorization.webhook.cache_unauthorized_ttl, registry_burst, event_burst, healthz_bind_address,
            streaming_connection_idle_timeout, node_status_update_frequency, node_status_report_frequency,
            node_lease_duration_seconds, image_minimum_gc_age, volume_stats_agg_period, cgroup_driver,
            cpu_manager_policy, cpu_manager_reconcile_period, memory_manager_policy, topology_manager_policy,
            topology_manager_scope, runtime_request_timeout, hairpin_mode, max_pods, max_open_files,
            content_type, kube_api_burst, eviction_pressure_transition_period, container_log_max_size,
            config_map_and_secret_change_detection_strategy, volume_plugin_dir, logging.format,
            memory_reservation_policy, container_runtime_endpoint,
        }
        if self.logging.flush_frequency.duration == GoDuration::default() {
            self.logging.flush_frequency = default.logging.flush_frequency;
        }
        if self.pod_pids_limit < 0 {
            self.pod_pids_limit = -1;
        }
    }

    /// Reads it from JSON with the defaults filled in: nulls are as if absent, zeros too where Go
    /// can not tell them apart. `flag_gates` are the feature gates that are set elsewhere and go before those of
    /// the value: the defaults of two fields hang on gates.
    ///
    /// # Errors
    /// The values of the wrong type, at most one in each field of the configuration.
    pub fn from_value(
        mut value: Value,
        flag_gates: &BTreeMap<String, bool>,
    ) -> Result<Decoded, Vec<TypeError>> {
        drop_nulls(&mut value);
        let given = |pointer: &str| value.pointer(pointer).is_some();
        let Decoded { mut config, unknown } = decode(&value).map_err(|first| all_errors(&value, first))?;

        let zero = GoDuration::default();
        let report_given = given("/nodeStatusReportFrequency") && config.node_status_report_frequency != zero;
        let update_given = given("/nodeStatusUpdateFrequency") && config.node_status_update_frequency != zero;
        if update_given && !report_given {
            config.node_status_report_frequency = config.node_status_update_frequency;
        }
        config.replace_zeros();
        if !given("/serializeImagePulls") && config.max_parallel_image_pulls.is_some_and(|pulls| pulls >= 2) {
            config.serialize_image_pulls = false;
        }
        // Gates that can not be set are for validation to tell; until then the defaults count.
        let gates = Gates::new(&gates::merge(&config.feature_gates, flag_gates)).unwrap_or_default();
        if !gates.enabled(Gate::KubeletCrashLoopBackOffMax)
            && !given("/crashLoopBackOff/maxContainerRestartPeriod")
        {
            config.crash_loop_back_off.max_container_restart_period = None;
        }
        let policy = &mut config.image_pull_credentials_verification_policy;
        if !gates.enabled(Gate::KubeletEnsureSecretPulledImages) {
            if !given("/imagePullCredentialsVerificationPolicy") {
                policy.clear();
            }
        } else if policy.is_empty() {
            *policy = Self::default().image_pull_credentials_verification_policy;
        }
        Ok(Decoded { config, unknown })
    }
}

fn decode(value: &Value) -> Result<Decoded, TypeError> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(deserializer, |path| unknown.push(ignored(&path)));
    read.map(|config| Decoded { config, unknown }).map_err(|error: serde_json::Error| {
        let path = tracked(&track.path());
        // The error of serde has the value in it.
        let reason = if is_secret(&path) {
            "expected a list of texts for each header".to_owned()
        } else {
            error.to_string()
        };
        TypeError { path, reason }
    })
}

/// The first error of each field.
fn all_errors(value: &Value, first: TypeError) -> Vec<TypeError> {
    let fields = value.as_object().into_iter().flatten();
    let mut errors: Vec<_> = fields
        .filter_map(|(key, value)| decode(&Value::from_iter([(key.clone(), value.clone())])).err())
        .collect();
    if errors.is_empty() {
        errors.push(first);
    }
    errors
}

/// Takes fields that are null out of objects. What stands in lists stays, as it has a place.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn tracked(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment as S;
    path.iter().fold(String::new(), |path, segment| match segment {
        S::Seq { index } => format!("{path}[{index}]"),
        S::Map { key } => join(&path, key),
        S::Enum { variant } => join(&path, variant),
        S::Unknown => path,
    })
}

fn ignored(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path as P;
    match path {
        P::Root => String::new(),
        P::Seq { parent, index } => format!("{}[{index}]", ignored(parent)),
        P::Map { parent, key } => join(&ignored(parent), key),
        P::Some { parent } | P::NewtypeStruct { parent } | P::NewtypeVariant { parent } => ignored(parent),
    }
}

/// The path of `key` in `parent` as Kubernetes writes it: `a.b[0].c`, and `a[x.y]` for a key that has dots.
pub(crate) fn join(parent: &str, key: &str) -> String {
    if key.is_empty() || key.contains(['.', '[', ']']) {
        format!("{parent}[{key}]")
    } else if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}
