//! What the configuration means for the agent: checked, typed, with units. All broken rules are reported at once.

mod cluster;
mod sources;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use kube_model::duration::GoDuration;
use serde::Serialize;

use crate::config::VModuleItem;
use crate::error::InvalidConfiguration;
use crate::load::Effective;
use crate::origin::{Origin, Origins};
use crate::validate::{Facts, Finding, Report, node_labels, validate};
use crate::value::parse_ip;
use crate::warning::Warning;

pub use cluster::{ChangeDetection, Cluster, KubeletServer, NodeSettings, Rate, TlsBootstrap};
pub use sources::{ManifestAddress, ManifestServer, ManifestUrl};

/// Everything that can be set on the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Folder with manifests or one manifest file; `None`: no static pods.
    pub pod_manifest_path: Option<PathBuf>,
    /// Time between two looks at the manifest files.
    pub file_check_frequency: Duration,
    /// A URL of manifests; `None`: none.
    pub manifest_url: Option<ManifestUrl>,
    /// Time between two requests to it.
    pub http_check_frequency: Duration,
    /// How the pod API is served; `None`: not at all.
    pub manifest_server: Option<ManifestServer>,
    /// The node as pods are chosen for it.
    pub node: NodeSettings,
    /// The cluster that the node is part of; `None` without `--kubeconfig`.
    pub cluster: Option<Cluster>,
    /// The runtime's socket, always as `unix://` and an absolute path.
    pub container_runtime_endpoint: String,
    /// The image service's socket in the same form; the runtime's own unless set.
    pub image_service_endpoint: String,
    /// Longest time for one request to the runtime.
    pub runtime_request_timeout: Duration,
    /// Folder for everything that must survive a restart; absolute.
    pub root_dir: PathBuf,
    /// Folder of the containers' logs; absolute.
    pub pod_logs_dir: PathBuf,
    /// The node's name, if the machine's host name is not to be used; trimmed, lower case, a DNS-1123 subdomain.
    pub hostname_override: Option<String>,
    /// The node's addresses; empty: found out. `0.0.0.0` and `::` prefer a family.
    pub node_ips: Vec<IpAddr>,
    /// Time between two full comparisons of a pod. Accepted; the agent is driven by events. In a
    /// cluster it counts for [`Cluster::sync_loop_limit`].
    pub sync_frequency: Duration,
    /// Where `/healthz` is served; `None`: nowhere.
    pub healthz: Option<SocketAddr>,
    /// DNS servers for pods with `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain; may be empty.
    pub cluster_domain: String,
    /// The node's resolver configuration; `None`: pods get none of it.
    pub resolv_conf: Option<PathBuf>,
    /// The cgroup under which those of pods are made: absolute, `/` for the root.
    pub cgroup_root: String,
    /// Whether pods and QoS classes get cgroups of their own.
    pub cgroups_per_qos: bool,
    /// Whether CPU limits are enforced.
    pub cpu_cfs_quota: bool,
    /// CFS quota period, 1 ms to 1 s.
    pub cpu_cfs_quota_period: Duration,
    /// Most processes in one pod; `None`: the node's limit.
    pub pod_max_pids: Option<i64>,
    /// Whether Burstable containers may swap in proportion to their memory requests, on cgroup v2; else none may.
    pub limited_swap: bool,
    /// Whether the kernel kills one process of a container that is out of memory, or all; `None`: as the cgroup
    /// version has it, one with v1 and all with v2.
    pub single_process_oom_kill: Option<bool>,
    /// Whether one image is pulled at a time.
    pub serialize_image_pulls: bool,
    /// Most image pulls at once when they are not serialized; `None`: no limit.
    pub max_parallel_image_pulls: Option<usize>,
    /// Most image pulls a second; 0: no limit.
    pub registry_qps: u32,
    /// Most image pulls at once while keeping to `registry_qps`.
    pub registry_burst: u32,
    /// Whether containers without a seccomp profile get the runtime's default one.
    pub seccomp_default: bool,
    /// Layout of log lines.
    pub logging_format: LoggingFormat,
    /// Most files that the agent may have open.
    pub max_open_files: u64,
    /// klog verbosity, 0 or more.
    pub verbosity: u32,
    /// Verbosities of single source files.
    pub vmodule: Vec<VModuleItem>,
    /// Where each value came from.
    pub origins: Origins,
    /// What was accepted but will not do what its author may expect: to be logged once at start.
    pub warnings: Vec<String>,
}

/// Layout of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggingFormat {
    /// klog's text.
    Text,
    /// One JSON object a line, as component-base writes it.
    Json,
}

impl Settings {
    /// The node's name: the override or else `hostname`, trimmed and in lower case (upstream `pkg/util/node`).
    ///
    /// # Errors
    /// When the host name is needed and is no DNS-1123 subdomain.
    pub fn node_name(&self, hostname: &str) -> Result<String, InvalidConfiguration> {
        if let Some(name) = &self.hostname_override {
            return Ok(name.clone());
        }
        let name = hostname.trim().to_lowercase();
        if is_dns1123_subdomain(&name) {
            return Ok(name);
        }
        Err(InvalidConfiguration(vec![Finding {
            field: "--hostname-override".to_owned(),
            value: "\"\"".to_owned(),
            rule: format!("must be given, because the host name {hostname:?} is not {DNS1123_SUBDOMAIN}"),
            origin: Origin::Default,
        }]))
    }

    /// What `effective` means for the agent.
    ///
    /// # Errors
    /// All that breaks a rule of [`validate`], or that this agent can not do.
    pub fn new(effective: &Effective, facts: &Facts) -> Result<Self, InvalidConfiguration> {
        match Self::judge(effective, facts) {
            (settings, Report { errors, .. }) if errors.is_empty() => Ok(settings),
            (_, Report { errors, .. }) => Err(InvalidConfiguration(errors)),
        }
    }

    /// What `effective` means for the agent, and what is wrong or odd about it: with errors the settings are of no
    /// use.
    pub fn judge(effective: &Effective, facts: &Facts) -> (Self, Report<Origin>) {
        let Effective { config, flags, origins, .. } = effective;
        let Report { errors, warnings: odd } = validate(config, facts, |path| origins.of(path));
        let mut check = Check { origins, invalid: errors };
        let mut warnings = effective.warnings.clone();
        warnings.extend(odd.iter().cloned().map(Warning::Odd));

        check.invalid.extend(node_labels(&flags.node_labels, &origins.of("--node-labels")));
        if !matches!(flags.cloud_provider.as_str(), "" | "external") {
            check.fail("--cloud-provider", &flags.cloud_provider, "must be empty or \"external\"");
        }
        if flags.exit_on_lock_contention && flags.lock_file.is_empty() {
            check.fail("--exit-on-lock-contention", &true, "needs --lock-file");
        }
        let (providers, programs) =
            (&flags.image_credential_provider_config, &flags.image_credential_provider_bin_dir);
        if !(providers.is_empty() && programs.is_empty())
            && let Some(Err((flag, rule))) =
                facts.credential_providers.map(|there| there(providers, programs))
        {
            let value = if flag.ends_with("config") { providers } else { programs };
            check.fail(flag, value, &rule);
        }
        if config.cgroup_driver != "cgroupfs" {
            check.fail("cgroupDriver", &config.cgroup_driver, "is not supported: only \"cgroupfs\" is");
        }
        let logging_format = match config.logging.format.as_str() {
            "json" => LoggingFormat::Json,
            "text" => LoggingFormat::Text,
            other => {
                check.fail("logging.format", &other, "must be \"text\" or \"json\"");
                LoggingFormat::Text
            }
        };
        let runtime = check.endpoint("containerRuntimeEndpoint", &config.container_runtime_endpoint);
        let image_service = match config.image_service_endpoint.as_str() {
            "" => runtime.clone(),
            endpoint => check.endpoint("imageServiceEndpoint", endpoint),
        };
        let hostname = &flags.hostname_override;
        let hostname_override = Some(hostname.trim().to_lowercase()).filter(|n| !n.is_empty());
        if hostname_override.as_deref().is_some_and(|name| !is_dns1123_subdomain(name)) {
            check.fail("--hostname-override", hostname, &format!("must be {DNS1123_SUBDOMAIN}"));
        }
        let healthz_port = u16::try_from(config.healthz_port).unwrap_or_else(|_| {
            let rule = "must be between 0 and 65535; 0 turns the endpoint off";
            check.fail("healthzPort", &config.healthz_port, rule);
            0
        });
        let healthz_address = parse_ip(&config.healthz_bind_address).unwrap_or_else(|| {
            check.fail("healthzBindAddress", &config.healthz_bind_address, "must be an IP address");
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        });
        let cgroup_root = if config.cgroup_root.is_empty() { "/" } else { &config.cgroup_root };
        let cgroup_root = check.folder("cgroupRoot", cgroup_root);
        let settings = Self {
            pod_manifest_path: non_empty(&config.static_pod_path),
            file_check_frequency: check.duration("fileCheckFrequency", config.file_check_frequency),
            manifest_url: check.manifest_url(config, flags),
            http_check_frequency: check.duration("httpCheckFrequency", config.http_check_frequency),
            manifest_server: check.manifest_server(flags),
            node: check.node(config, flags),
            cluster: check.cluster(config, flags),
            container_runtime_endpoint: runtime,
            image_service_endpoint: image_service,
            runtime_request_timeout: check.duration("runtimeRequestTimeout", config.runtime_request_timeout),
            root_dir: check.folder("--root-dir", &flags.root_dir).into(),
            pod_logs_dir: check.folder("podLogsDir", &config.pod_logs_dir).into(),
            hostname_override,
            node_ips: check.addresses("--node-ip", flags.node_ip.split(','), &mut warnings),
            sync_frequency: check.duration("syncFrequency", config.sync_frequency),
            healthz: (healthz_port != 0).then(|| SocketAddr::new(healthz_address, healthz_port)),
            cluster_dns: check.addresses(
                "clusterDNS",
                config.cluster_dns.iter().map(String::as_str),
                &mut warnings,
            ),
            cluster_domain: config.cluster_domain.clone(),
            resolv_conf: non_empty(&config.resolv_conf),
            cgroup_root,
            cgroups_per_qos: config.cgroups_per_qos,
            cpu_cfs_quota: config.cpu_cfs_quota,
            cpu_cfs_quota_period: check.duration("cpuCFSQuotaPeriod", config.cpu_cfs_quota_period),
            pod_max_pids: Some(config.pod_pids_limit).filter(|&limit| limit > 0),
            limited_swap: config.memory_swap.swap_behavior == "LimitedSwap",
            single_process_oom_kill: config.single_process_oom_kill,
            serialize_image_pulls: config.serialize_image_pulls,
            max_parallel_image_pulls: config.max_parallel_image_pulls.and_then(|most| most.try_into().ok()),
            registry_qps: check.not_negative("registryPullQPS", config.registry_pull_qps),
            registry_burst: check.not_negative("registryBurst", config.registry_burst),
            seccomp_default: flags.seccomp_default || config.seccomp_default,
            logging_format,
            max_open_files: config.max_open_files.unsigned_abs(),
            verbosity: config.logging.verbosity,
            vmodule: config.logging.vmodule.clone(),
            origins: origins.clone(),
            warnings: warnings.iter().map(Warning::to_string).collect(),
        };
        (settings, Report { errors: check.invalid, warnings: odd })
    }
}

/// Collects broken rules. Each check answers a value of the right type even when its rule is broken, so that
/// the next one can go on; the answer is then not used.
struct Check<'a> {
    origins: &'a Origins,
    invalid: Vec<Finding<Origin>>,
}

impl Check<'_> {
    /// Notes a broken rule, unless something is known to be wrong with the field already.
    fn fail(&mut self, field: &str, value: &impl Serialize, rule: &str) {
        if self.invalid.iter().any(|known| known.field == field) {
            return;
        }
        self.invalid.push(Finding {
            field: field.to_owned(),
            value: serde_json::to_string(value).unwrap_or_default(),
            rule: rule.to_owned(),
            origin: self.origins.of(field),
        });
    }

    fn duration(&mut self, field: &str, value: GoDuration) -> Duration {
        match value.to_std() {
            Some(duration) if !duration.is_zero() => duration,
            _ => {
                self.fail(field, &value, "must be longer than 0s");
                Duration::ZERO
            }
        }
    }

    fn not_negative(&mut self, field: &str, value: i32) -> u32 {
        u32::try_from(value).unwrap_or_else(|_| {
            self.fail(field, &value, "must not be negative");
            0
        })
    }

    fn folder(&mut self, field: &str, value: &str) -> String {
        if !is_clean_absolute(value) {
            self.fail(field, &value, "must be an absolute path without . and ..");
        }
        value.to_owned()
    }

    /// A bare path is taken as a unix socket, as the kubelet does.
    fn endpoint(&mut self, field: &str, value: &str) -> String {
        let path = value.strip_prefix("unix://").or_else(|| value.strip_prefix("unix:")).unwrap_or(value);
        if !is_clean_absolute(path) || path.ends_with('/') {
            let rule = "must be a unix socket, such as \"unix:///run/containerd/containerd.sock\"";
            self.fail(field, &value, rule);
        }
        format!("unix://{path}")
    }

    /// The addresses among `texts`. Others are left out with a warning, as the kubelet does.
    fn addresses<'a>(
        &self,
        field: &str,
        texts: impl Iterator<Item = &'a str>,
        warnings: &mut Vec<Warning>,
    ) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
            match parse_ip(text) {
                Some(address) => addresses.push(address),
                None => warnings.push(Warning::NotAnAddress {
                    field: field.to_owned(),
                    text: text.to_owned(),
                    origin: self.origins.of(field),
                }),
            }
        }
        addresses
    }
}

fn non_empty(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn is_clean_absolute(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains('\0')
        && Path::new(path).components().all(|part| !matches!(part, Component::ParentDir))
        && !path.split('/').any(|part| part == ".")
}

const DNS1123_SUBDOMAIN: &str =
    "a DNS-1123 subdomain: at most 253 of a-z, 0-9, - and ., with a letter or digit at each end of a part";

fn is_dns1123_subdomain(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= 253
        && name.split('.').all(|part| {
            let bytes = part.as_bytes();
            alphanumeric(bytes.first())
                && alphanumeric(bytes.last())
                && bytes.iter().all(|&b| b == b'-' || alphanumeric(Some(&b)))
        })
}

#[cfg(test)]
mod tests;
