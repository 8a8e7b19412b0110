//! What the agent's flags mean: checked, typed, with units. All broken rules are reported at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use kube_model::duration::GoDuration;

use crate::error::{Invalid, UsageError};
use crate::parse::Parsed;
use crate::table::{AGENT, AgentFlags};

/// Everything that can be set on the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder with manifests or one manifest file; `None`: no static pods.
    pub pod_manifest_path: Option<PathBuf>,
    /// Time between two looks at the manifest files.
    pub file_check_frequency: Duration,
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
    /// Time between two full comparisons of a pod. Accepted; the agent is driven by events.
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
    /// Whether one image is pulled at a time.
    pub serialize_image_pulls: bool,
    /// Most image pulls a second; 0: no limit.
    pub registry_qps: u32,
    /// Most image pulls at once while keeping to `registry_qps`.
    pub registry_burst: u32,
    /// Whether containers without a seccomp profile get the runtime's default one.
    pub seccomp_default: bool,
    /// Layout of log lines.
    pub logging_format: LoggingFormat,
    /// klog verbosity, 0 or more.
    pub verbosity: u32,
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

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// Nobody set it.
    Default,
    /// The flag of this name was given, last with this text.
    Flag(&'a str),
}

/// Where each value came from, by the name of its flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<&'static str, String>);

impl Origins {
    /// Where the value of the flag `name` (without dashes) came from.
    pub fn of(&self, name: &str) -> Origin<'_> {
        self.0.get(name).map_or(Origin::Default, |text| Origin::Flag(text))
    }
}

impl Settings {
    /// The node's name: the override or else `hostname`, trimmed and in lower case (reference 1.4).
    ///
    /// # Errors
    /// When the host name is needed and is no DNS-1123 subdomain.
    pub fn node_name(&self, hostname: &str) -> Result<String, UsageError> {
        if let Some(name) = &self.hostname_override {
            return Ok(name.clone());
        }
        let name = hostname.trim().to_lowercase();
        if is_dns1123_subdomain(&name) {
            return Ok(name);
        }
        Err(UsageError::Invalid(vec![Invalid {
            flag: "hostname-override",
            field: None,
            value: String::new(),
            rule: format!("must be given, because the host name {hostname:?} is not {DNS1123_SUBDOMAIN}"),
        }]))
    }

    pub(crate) fn new(parsed: Parsed<AgentFlags>) -> Result<Self, UsageError> {
        let Parsed { values: flags, given, .. } = parsed;
        let mut check = Check { given: &given, invalid: Vec::new() };
        let mut warnings: Vec<String> = AGENT
            .iter()
            .filter(|flag| !flag.wired && given.contains_key(flag.name))
            .map(|flag| format!("--{} is accepted but has no effect in this agent", flag.name))
            .collect();

        if flags.cgroup_driver != "cgroupfs" {
            check.fail("cgroup-driver", "is not supported: only \"cgroupfs\" is");
        }
        let logging_format = match flags.logging_format.as_str() {
            "json" => LoggingFormat::Json,
            "text" => LoggingFormat::Text,
            _ => {
                check.fail("logging-format", "must be \"text\" or \"json\"");
                LoggingFormat::Text
            }
        };
        let runtime = check.endpoint("container-runtime-endpoint", &flags.container_runtime_endpoint);
        let image_service = match flags.image_service_endpoint.as_str() {
            "" => runtime.clone(),
            endpoint => check.endpoint("image-service-endpoint", endpoint),
        };
        let hostname_override = Some(flags.hostname_override.trim().to_lowercase()).filter(|n| !n.is_empty());
        if hostname_override.as_deref().is_some_and(|name| !is_dns1123_subdomain(name)) {
            check.fail("hostname-override", &format!("must be {DNS1123_SUBDOMAIN}"));
        }
        let period = check.duration("cpu-cfs-quota-period", flags.cpu_cfs_quota_period);
        if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&period) {
            check.fail("cpu-cfs-quota-period", "must be between 1ms and 1s");
        }
        let healthz_port = u16::try_from(flags.healthz_port).unwrap_or_else(|_| {
            check.fail("healthz-port", "must be between 0 and 65535; 0 turns the endpoint off");
            0
        });
        let cgroup_root = if flags.cgroup_root.is_empty() { "/" } else { &flags.cgroup_root };
        if !is_clean_absolute(cgroup_root) {
            check.fail("cgroup-root", "must be an absolute path without . and ..");
        }
        let settings = Self {
            pod_manifest_path: non_empty(flags.pod_manifest_path),
            file_check_frequency: check.duration("file-check-frequency", flags.file_check_frequency),
            container_runtime_endpoint: runtime,
            image_service_endpoint: image_service,
            runtime_request_timeout: check.duration("runtime-request-timeout", flags.runtime_request_timeout),
            root_dir: check.folder("root-dir", flags.root_dir),
            pod_logs_dir: check.folder("pod-logs-dir", flags.pod_logs_dir),
            hostname_override,
            node_ips: addresses("node-ip", flags.node_ip.split(','), &mut warnings),
            sync_frequency: check.duration("sync-frequency", flags.sync_frequency),
            healthz: (healthz_port != 0).then(|| SocketAddr::new(flags.healthz_bind_address.0, healthz_port)),
            cluster_dns: addresses(
                "cluster-dns",
                flags.cluster_dns.iter().map(String::as_str),
                &mut warnings,
            ),
            cluster_domain: flags.cluster_domain,
            resolv_conf: non_empty(flags.resolv_conf),
            cgroup_root: cgroup_root.to_owned(),
            cgroups_per_qos: flags.cgroups_per_qos,
            cpu_cfs_quota: flags.cpu_cfs_quota,
            cpu_cfs_quota_period: period,
            pod_max_pids: Some(flags.pod_max_pids).filter(|&limit| limit > 0),
            serialize_image_pulls: flags.serialize_image_pulls,
            registry_qps: check.not_negative("registry-qps", flags.registry_qps),
            registry_burst: check.not_negative("registry-burst", flags.registry_burst),
            seccomp_default: flags.seccomp_default,
            logging_format,
            verbosity: flags.v.0,
            origins: Origins::default(),
            warnings,
        };
        match check.invalid {
            invalid if invalid.is_empty() => Ok(Self { origins: Origins(given), ..settings }),
            invalid => Err(UsageError::Invalid(invalid)),
        }
    }
}

/// Collects broken rules. Each check answers a value of the right type even when its rule is broken, so that
/// the next one can go on; the answer is then not used.
struct Check<'a> {
    given: &'a BTreeMap<&'static str, String>,
    invalid: Vec<Invalid>,
}

impl Check<'_> {
    fn fail(&mut self, flag: &'static str, rule: &str) {
        let row = AGENT.iter().find(|row| row.name == flag);
        let default = row.map_or("", |row| row.default);
        self.invalid.push(Invalid {
            flag,
            field: row.and_then(|row| row.field),
            value: self.given.get(flag).map_or(default, String::as_str).to_owned(),
            rule: rule.to_owned(),
        });
    }

    fn duration(&mut self, flag: &'static str, value: GoDuration) -> Duration {
        match value.to_std() {
            Some(duration) if !duration.is_zero() => duration,
            _ => {
                self.fail(flag, "must be longer than 0s");
                Duration::ZERO
            }
        }
    }

    fn not_negative(&mut self, flag: &'static str, value: i32) -> u32 {
        u32::try_from(value).unwrap_or_else(|_| {
            self.fail(flag, "must not be negative");
            0
        })
    }

    fn folder(&mut self, flag: &'static str, value: String) -> PathBuf {
        if !is_clean_absolute(&value) {
            self.fail(flag, "must be an absolute path without . and ..");
        }
        PathBuf::from(value)
    }

    /// A bare path is taken as a unix socket, as the kubelet does.
    fn endpoint(&mut self, flag: &'static str, value: &str) -> String {
        let path = value.strip_prefix("unix://").or_else(|| value.strip_prefix("unix:")).unwrap_or(value);
        if !is_clean_absolute(path) || path.ends_with('/') {
            self.fail(flag, "must be a unix socket, such as \"unix:///run/containerd/containerd.sock\"");
        }
        format!("unix://{path}")
    }
}

fn non_empty(text: String) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn is_clean_absolute(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains('\0')
        && Path::new(path).components().all(|part| !matches!(part, Component::ParentDir))
        && !path.split('/').any(|part| part == ".")
}

/// The addresses among `texts`. Others are left out with a warning, as the kubelet does.
fn addresses<'a>(
    flag: &str,
    texts: impl Iterator<Item = &'a str>,
    warnings: &mut Vec<String>,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => warnings.push(format!("--{flag}: {text:?} is not an IP address and is left out")),
        }
    }
    addresses
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
