//! The tables of flags: one row a flag. Adding a flag is adding a row, the field that it sets and, when the
//! agent heeds it, a line in [`Settings`](crate::Settings).

use kube_model::duration::GoDuration;

use crate::flag::{Field, Flag, Slot, Standing, field};
use crate::value::{Ip, Level, Version};

/// What was typed for the agent itself, before it is checked and given a meaning. The default is zero
/// everywhere, as in Go; the flags' defaults stand in [`AGENT`].
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each field is the flag of the same name")]
pub struct AgentFlags {
    pub cgroup_driver: String,
    pub cgroup_root: String,
    pub cgroups_per_qos: bool,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub container_runtime_endpoint: String,
    pub cpu_cfs_quota: bool,
    pub cpu_cfs_quota_period: GoDuration,
    pub file_check_frequency: GoDuration,
    pub healthz_bind_address: Ip,
    pub healthz_port: i32,
    pub help: bool,
    pub hostname_override: String,
    pub image_service_endpoint: String,
    pub logging_format: String,
    pub node_ip: String,
    pub pod_logs_dir: String,
    pub pod_manifest_path: String,
    pub pod_max_pids: i64,
    pub registry_burst: i32,
    pub registry_qps: i32,
    pub resolv_conf: String,
    pub root_dir: String,
    pub runtime_request_timeout: GoDuration,
    pub seccomp_default: bool,
    pub serialize_image_pulls: bool,
    pub sync_frequency: GoDuration,
    pub v: Level,
    pub version: Version,
}

/// Fixes the type that a row's closure takes.
const fn at<V>(get: fn(&mut AgentFlags) -> &mut V) -> Field<AgentFlags, V> {
    field(get)
}

/// A flag of the kubelet that is not deprecated.
const fn kubelet<T>(
    name: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { name, short: None, default, help, field: None, standing: Standing::Kubelet, wired: true, slot }
}

/// A flag of the kubelet for which it prefers the configuration field `field`.
const fn deprecated<T>(
    name: &'static str,
    field: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { field: Some(field), standing: Standing::Deprecated, ..kubelet(name, default, slot, help) }
}

/// A flag of ours.
const fn ours<T>(
    name: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { standing: Standing::Ours, ..kubelet(name, default, slot, help) }
}

const fn help<T>(slot: &'static dyn Slot<T>) -> Flag<T> {
    Flag { short: Some('h'), ..kubelet("help", "false", slot, "show this help") }
}

/// The flags of the agent itself. Names, types and defaults are the kubelet's (reference 1.4 and 1.5).
#[rustfmt::skip]
pub static AGENT: &[Flag<AgentFlags>] = &[
    deprecated("cgroup-driver", "cgroupDriver", "cgroupfs", &at(|f| &mut f.cgroup_driver),
        "who makes cgroups; the runtime must use the same driver; cgroupfs is the only one supported"),
    deprecated("cgroup-root", "cgroupRoot", "", &at(|f| &mut f.cgroup_root),
        "cgroup under which the pods' cgroups are made; empty for the root cgroup"),
    deprecated("cgroups-per-qos", "cgroupsPerQOS", "true", &at(|f| &mut f.cgroups_per_qos),
        "make a cgroup for each pod, in one for its QoS class"),
    deprecated("cluster-dns", "clusterDNS", "", &at(|f| &mut f.cluster_dns),
        "comma-separated addresses of the DNS servers for pods with dnsPolicy ClusterFirst"),
    deprecated("cluster-domain", "clusterDomain", "", &at(|f| &mut f.cluster_domain),
        "domain of the cluster, put in front of the node's own search domains"),
    deprecated("container-runtime-endpoint", "containerRuntimeEndpoint",
        "unix:///run/containerd/containerd.sock", &at(|f| &mut f.container_runtime_endpoint),
        "unix socket of the container runtime"),
    deprecated("cpu-cfs-quota", "cpuCFSQuota", "true", &at(|f| &mut f.cpu_cfs_quota),
        "hold containers to their CPU limits with CFS quotas"),
    deprecated("cpu-cfs-quota-period", "cpuCFSQuotaPeriod", "100ms", &at(|f| &mut f.cpu_cfs_quota_period),
        "CFS quota period, from 1ms to 1s"),
    deprecated("file-check-frequency", "fileCheckFrequency", "20s", &at(|f| &mut f.file_check_frequency),
        "time between two looks at the manifest files, for changes that were not notified"),
    deprecated("healthz-bind-address", "healthzBindAddress", "127.0.0.1", &at(|f| &mut f.healthz_bind_address),
        "address of the /healthz endpoint; 0.0.0.0 or :: for all interfaces"),
    deprecated("healthz-port", "healthzPort", "10248", &at(|f| &mut f.healthz_port),
        "port of the /healthz endpoint; 0 for none"),
    help(&at(|f| &mut f.help)),
    kubelet("hostname-override", "", &at(|f| &mut f.hostname_override),
        "name of this node instead of the machine's host name"),
    deprecated("image-service-endpoint", "imageServiceEndpoint", "", &at(|f| &mut f.image_service_endpoint),
        "unix socket of the image service; empty for that of the container runtime"),
    deprecated("logging-format", "logging.format", "text", &at(|f| &mut f.logging_format),
        "layout of log lines: text or json"),
    kubelet("node-ip", "", &at(|f| &mut f.node_ip),
        "address of this node, or an IPv4 and an IPv6 address with a comma between them; 0.0.0.0 or :: to prefer a family"),
    ours("pod-logs-dir", "/var/log/pods", &at(|f| &mut f.pod_logs_dir),
        "folder of the containers' log files; configuration field podLogsDir"),
    deprecated("pod-manifest-path", "staticPodPath", "", &at(|f| &mut f.pod_manifest_path),
        "folder with pod manifests, or one manifest file; names that start with a dot are left out"),
    deprecated("pod-max-pids", "podPidsLimit", "-1", &at(|f| &mut f.pod_max_pids),
        "most processes in one pod; -1 for the node's own limit"),
    deprecated("registry-burst", "registryBurst", "10", &at(|f| &mut f.registry_burst),
        "most image pulls at once while keeping to registry-qps"),
    deprecated("registry-qps", "registryPullQPS", "5", &at(|f| &mut f.registry_qps),
        "most image pulls a second; 0 for no limit"),
    deprecated("resolv-conf", "resolvConf", "/etc/resolv.conf", &at(|f| &mut f.resolv_conf),
        "resolver configuration that pods' own is made from; empty for none"),
    kubelet("root-dir", "/var/lib/kubelet", &at(|f| &mut f.root_dir),
        "folder for everything that must survive a restart"),
    deprecated("runtime-request-timeout", "runtimeRequestTimeout", "2m0s", &at(|f| &mut f.runtime_request_timeout),
        "longest time for one request to the container runtime, pulls and streams aside"),
    kubelet("seccomp-default", "false", &at(|f| &mut f.seccomp_default),
        "use the seccomp profile `RuntimeDefault` for containers that name none"),
    deprecated("serialize-image-pulls", "serializeImagePulls", "true", &at(|f| &mut f.serialize_image_pulls),
        "pull one image at a time"),
    Flag { wired: false,
        ..deprecated("sync-frequency", "syncFrequency", "1m0s", &at(|f| &mut f.sync_frequency),
        "time between two full comparisons of a pod with its desired state") },
    Flag { short: Some('v'), ..kubelet("v", "0", &at(|f| &mut f.v),
        "how much to log: 0 for what an operator must know, 4 for debugging, 5 for each step") },
    kubelet("version", "false", &at(|f| &mut f.version), "show the version"),
];

/// What was typed for `node-agent pods` and `node-agent explain`.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each field is the flag of the same name")]
pub struct ViewFlags {
    pub help: bool,
    pub output: String,
    pub root_dir: String,
    pub watch: bool,
}

const fn view<V>(get: fn(&mut ViewFlags) -> &mut V) -> Field<ViewFlags, V> {
    field(get)
}

const ROOT_DIR: Flag<ViewFlags> = kubelet(
    "root-dir",
    "/var/lib/kubelet",
    &view(|f| &mut f.root_dir),
    "the --root-dir of the running agent",
);

/// The flags of `node-agent pods`.
#[rustfmt::skip]
pub static PODS: &[Flag<ViewFlags>] = &[
    help(&view(|f| &mut f.help)),
    Flag { short: Some('o'), ..kubelet("output", "", &view(|f| &mut f.output), "`format`: json, yaml or wide") },
    ROOT_DIR,
    Flag { short: Some('w'), ..kubelet("watch", "false", &view(|f| &mut f.watch), "go on and show changes") },
];

/// The flags of `node-agent explain`.
#[rustfmt::skip]
pub static EXPLAIN: &[Flag<ViewFlags>] = &[
    help(&view(|f| &mut f.help)),
    Flag { short: Some('o'), ..kubelet("output", "", &view(|f| &mut f.output), "`format`: json or yaml") },
    ROOT_DIR,
];

#[cfg(test)]
mod tests;
