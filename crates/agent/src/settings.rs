//! From the node's configuration to the small settings of each crate.

use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use admission::{Host, NodeResources, NotNamespaced, SysctlAllowlist};
use kube_model::downward::Allocatable;
use kube_model::eviction::{Signal, Threshold, ThresholdValue};
use node_config::{LoggingFormat, Settings};
use node_reporter::Hardware;
use pod_workers::Clock;
use stats::machine;

use crate::run::StartError;

/// Where the kernel shows cgroups.
pub(crate) const CGROUP_MOUNT: &str = "/sys/fs/cgroup";

/// How to log.
pub fn logging(settings: &Settings, journal_stream: Option<&OsStr>) -> logging::Settings {
    logging::Settings {
        format: match settings.logging_format {
            LoggingFormat::Text => logging::Format::Text,
            LoggingFormat::Json => logging::Format::Json,
        },
        verbosity: settings.verbosity,
        vmodule: settings.vmodule.iter().map(|item| (item.file_pattern.clone(), item.verbosity)).collect(),
        journal: logging::is_journal(journal_stream),
    }
}

pub(crate) fn cgroups(settings: &Settings) -> cgroups::Settings {
    cgroups::Settings {
        cgroup_root: settings.cgroup_root.clone(),
        cpu_cfs_quota: settings.cpu_cfs_quota,
        cpu_period_us: period_us(settings),
        pod_pids_limit: settings.pod_max_pids.unwrap_or(-1),
    }
}

pub(crate) fn images(settings: &Settings) -> images::Settings {
    images::Settings {
        serialize_image_pulls: settings.serialize_image_pulls,
        registry_pull_qps: settings.registry_qps,
        registry_burst: settings.registry_burst,
        max_parallel_image_pulls: settings.max_parallel_image_pulls,
    }
}

/// What of the node is for pods.
pub(crate) fn limits(node: &node_config::NodeSettings) -> node_reporter::Limits {
    let threshold = |(signal, value): (&String, &ThresholdValue)| {
        Some(Threshold { signal: Signal::parse(signal)?, value: *value })
    };
    node_reporter::Limits {
        max_pods: node.max_pods,
        pods_per_core: node.pods_per_core,
        reserved: node.reserved.clone(),
        thresholds: node.eviction_hard.iter().filter_map(threshold).collect(),
        ephemeral_storage: node.ephemeral_storage,
    }
}

/// What the node says of itself.
pub(crate) fn reporter(
    cluster: &node_config::Cluster,
    node: &node_config::NodeSettings,
    name: &str,
    resources: &NodeResources,
    given_ips: &[IpAddr],
    port: Option<u16>,
) -> node_reporter::Settings {
    node_reporter::Settings {
        name: name.to_owned(),
        at_start: Vec::new(),
        register: cluster.register_node,
        labels: node.labels.clone(),
        taints: cluster.taints.clone(),
        controller_attach_detach: node.controller_attach_detach,
        external_cloud: cluster.external_cloud,
        provided_ips: given_ips.iter().copied().filter(|ip| !ip.is_unspecified()).collect(),
        provider_id: cluster.provider_id.clone(),
        port,
        resources: resources.clone(),
        limits: limits(node),
        pressure_transition: cluster.eviction_pressure_transition,
        update_frequency: cluster.status_update_frequency,
        report_frequency: cluster.status_report_frequency,
        lease_duration: cluster.lease_duration,
        declared_features: cluster.declared_features.clone(),
        max_images: cluster.max_images,
        // The release whose kubelet this is, and after the sign that orders nothing, what it really is.
        version: format!("v{}+node-agent.{}", node_config::KUBERNETES_VERSION, env!("CARGO_PKG_VERSION")),
    }
}

/// The node as pods are admitted to it, as far as this machine says.
pub(crate) fn admitted(
    settings: &Settings,
    name: &str,
    hardware: &Hardware,
    resources: &NodeResources,
) -> Result<admission::Node, NotNamespaced> {
    let node = &settings.node;
    let sysctls = SysctlAllowlist::new(&hardware.kernel_version, &node.allowed_unsafe_sysctls)?;
    Ok(admission::Node {
        name: name.to_owned(),
        labels: node_reporter::labels(name, &hardware.architecture, &node.labels),
        taints: Vec::new(),
        allocatable: resources.allocatable_list(),
        supplemental_groups_policy: false,
        host: Arc::new(Host { sysctls, apparmor: machine::apparmor() }),
    })
}

/// What the node is to its containers. `pods_cgroup` is the cgroup of all pods, if they have one.
pub(crate) fn cri(
    settings: &Settings,
    node_ips: Vec<IpAddr>,
    pods_cgroup: Option<String>,
    hardware: &Hardware,
    resources: &NodeResources,
) -> Result<cri_config::Settings, StartError> {
    let unsigned = |amount: i64| u64::try_from(amount).unwrap_or(0);
    let mount = Path::new(CGROUP_MOUNT);
    let version = cgroups::Version::at(mount);
    let some: Vec<String> = pods_cgroup.into_iter().chain(machine::own_cgroup()).collect();
    Ok(cri_config::Settings {
        root_dir: settings.root_dir.clone(),
        pod_logs_dir: settings.pod_logs_dir.clone(),
        node_ips,
        dns: cri_config::Dns {
            servers: settings.cluster_dns.clone(),
            domain: settings.cluster_domain.clone(),
            host: settings.resolv_conf.as_deref().map(kuberuntime::resolver::at_start),
        },
        cgroups: cri_config::Cgroups {
            root: settings.cgroup_root.clone(),
            driver: kube_model::cgroup::Driver::Cgroupfs,
            version: match version {
                cgroups::Version::V1 => cri_config::Version::V1,
                cgroups::Version::V2 => cri_config::Version::V2,
            },
            swap_accounting: version.accounts_swap(mount, &some),
            swap: match settings.limited_swap {
                true => cri_config::Swap::Limited { capacity: unsigned(hardware.swap) },
                false => cri_config::Swap::None,
            },
            // Only v2 can kill all, and does so unless it is told not to.
            single_process_oom_kill: version == cgroups::Version::V1
                || settings.single_process_oom_kill.unwrap_or(false),
        },
        cpu_cfs_quota_period: settings.cpu_cfs_quota.then(|| period_us(settings)),
        seccomp_default: settings.seccomp_default,
        selinux: selinux_is_on(),
        memory_capacity: unsigned(hardware.memory),
        hugepage_sizes: machine::hugepage_sizes(),
        allocatable: allocatable(resources),
    })
}

/// What volumes depend on.
pub(crate) fn volumes(
    settings: &Settings,
    node_name: &str,
    drivers: csi::Drivers,
    resources: &NodeResources,
    clock: &Clock,
) -> volumes::Settings {
    let clock = clock.clone();
    volumes::Settings {
        pods_dir: cri_config::paths::pods_dir(&settings.root_dir),
        plugins_dir: settings.root_dir.join("plugins"),
        node_name: node_name.to_owned(),
        drivers,
        allocatable: allocatable(resources),
        file_label: selinux_is_on().then(selinux_file_label).flatten(),
        sync_frequency: settings.sync_frequency,
        now: Arc::new(move || clock.mono()),
    }
}

fn selinux_is_on() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Of the policy that is loaded (`selinux_config(5)`).
fn selinux_file_label() -> Option<String> {
    let config = fs::read_to_string("/etc/selinux/config").ok()?;
    let policy = config.lines().find_map(|line| line.trim().strip_prefix("SELINUXTYPE="))?;
    let contexts = Path::new("/etc/selinux").join(policy.trim()).join("contexts/lxc_contexts");
    volumes::selinux_file_label(&fs::read_to_string(contexts).ok()?).map(str::to_owned)
}

fn allocatable(resources: &NodeResources) -> Allocatable {
    let of = |name: &str| resources.allocatable.get(name).copied().unwrap_or_default();
    Allocatable { milli_cpu: of("cpu"), memory: of("memory"), ephemeral_storage: of("ephemeral-storage") }
}

/// `/var/log/containers` beside `/var/log/pods`.
pub(crate) fn log_links_dir(pod_logs_dir: &Path) -> PathBuf {
    pod_logs_dir.parent().unwrap_or(Path::new("/")).join("containers")
}

fn period_us(settings: &Settings) -> u64 {
    u64::try_from(settings.cpu_cfs_quota_period.as_micros()).unwrap_or(u64::MAX)
}
