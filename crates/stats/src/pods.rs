//! Pods and containers. Upstream `pkg/kubelet/stats/cri_stats_provider.go`: only what runs; the kernel's numbers
//! before the runtime's; a pod without a cgroup is the sum of its containers.

use std::collections::BTreeMap;
use std::fs;

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::{
    ContainerStats, CpuStats, FsStats, MemoryStats, NetworkStats, PodReference, PodStats, ProcessStats,
    SwapStats,
};
use kube_model::{PodUid, Timestamp};
use node_proto::cri::v1;

use crate::cgroup::{Hierarchy, Reading};
use crate::disk::{self, Used, add};
use crate::node::whole;
use crate::{Depth, PodPaths, PodVolume, RuntimeAnswers, SummaryProvider, cri, proc};

/// A pod that runs.
pub(crate) struct Running<'a> {
    reference: PodReference,
    uid: PodUid,
    sandbox: &'a v1::PodSandbox,
    pub(crate) containers: Vec<&'a v1::Container>,
}

/// The pods with a ready sandbox, by namespace and name, each with its running containers in the order of their
/// names.
pub(crate) fn running<'a>(answers: &'a RuntimeAnswers) -> Vec<Running<'a>> {
    let mut newest = BTreeMap::<_, &v1::PodSandbox>::new();
    for sandbox in answers.sandboxes.iter().filter(|s| s.state() == v1::PodSandboxState::SandboxReady) {
        let Some(metadata) = &sandbox.metadata else { continue };
        let kept = newest.entry((&metadata.namespace, &metadata.name, &metadata.uid)).or_insert(sandbox);
        if kept.created_at < sandbox.created_at {
            *kept = sandbox;
        }
    }
    let mut containers = BTreeMap::<_, Vec<&v1::Container>>::new();
    for container in answers.containers.iter().filter(|c| c.state() == v1::ContainerState::ContainerRunning) {
        containers.entry(container.pod_sandbox_id.as_str()).or_default().push(container);
    }
    let pod = |((namespace, name, uid), sandbox): ((&String, &String, &String), &'a v1::PodSandbox)| {
        let mut containers = containers.remove(sandbox.id.as_str()).unwrap_or_default();
        containers.sort_by_key(|container| name_of(container));
        let reference = PodReference { name: name.clone(), namespace: namespace.clone(), uid: uid.clone() };
        Running { uid: PodUid::from(uid.as_str()), reference, sandbox, containers }
    };
    newest.into_iter().map(pod).collect()
}

fn name_of(container: &v1::Container) -> &str {
    container.metadata.as_ref().map(|metadata| metadata.name.as_str()).unwrap_or_default()
}

/// A pod's cgroup and those in it.
pub(crate) struct Cgroups {
    pod: Option<String>,
    children: Vec<String>,
}

impl Cgroups {
    pub(crate) fn find(hierarchy: &Hierarchy, paths: &dyn PodPaths, pod: &Running<'_>) -> Self {
        let own = paths.pod_cgroup(&pod.uid);
        let children = own.as_deref().map(|own| hierarchy.children(own)).unwrap_or_default();
        Self { pod: own, children }
    }

    /// The cgroup of a container or sandbox: runtimes name it `<id>`, `crio-<id>`, `cri-containerd-<id>.scope`.
    pub(crate) fn of(&self, id: &str) -> Option<String> {
        let child = self.children.iter().find(|child| !id.is_empty() && child.contains(id))?;
        Some(format!("{}/{child}", self.pod.as_deref()?))
    }
}

impl SummaryProvider {
    pub(crate) fn pods(&mut self, answers: &RuntimeAnswers, depth: Depth, now: Timestamp) -> Vec<PodStats> {
        let by_id = |stats: &'_ v1::ContainerStats| stats.attributes.as_ref().map(|a| a.id.clone());
        let told_of: BTreeMap<String, &v1::ContainerStats> =
            answers.container_stats.iter().filter_map(|stats| Some((by_id(stats)?, stats))).collect();
        // The disk of the node, and those with writable layers, are looked at once.
        let node_fs = (depth == Depth::Everything).then(|| self.file_system(now).ok()).flatten();
        let mut layers = BTreeMap::new();
        let mut all = Vec::new();
        for pod in running(answers) {
            let cgroups = Cgroups::find(&self.cgroups, &*self.paths, &pod);
            let mut containers = Vec::with_capacity(pod.containers.len());
            for container in &pod.containers {
                let stats = told_of.get(&container.id).copied();
                let mut measured = self.container(container, stats, &cgroups, now);
                if let Some(node_fs) = &node_fs {
                    measured.rootfs = stats.and_then(|stats| rootfs(stats, &mut layers, now));
                    let logs = self.paths.pod_logs(&pod.reference).join(&measured.name);
                    measured.logs = disk::files_in(&logs).map(|used| disk::part(node_fs, used));
                } else {
                    measured.io = None;
                }
                containers.push(measured);
            }
            let mut pod_stats = self.pod(&pod, cgroups.pod.as_deref(), &containers, now);
            if let Some(node_fs) = &node_fs {
                pod_stats.network = self.network(&pod, &cgroups, now);
                pod_stats.process_stats = self.processes(&pod, &cgroups);
                let volumes = answers.volumes.get(&pod.uid).map(Vec::as_slice).unwrap_or_default();
                pod_stats.ephemeral_storage =
                    Some(self.ephemeral_storage(&pod, &containers, volumes, node_fs));
                pod_stats.volumes = volumes.iter().map(|volume| volume.stats.clone()).collect();
            } else {
                pod_stats.io = None;
            }
            all.push(PodStats { containers, ..pod_stats });
        }
        all
    }

    fn container(
        &mut self,
        container: &v1::Container,
        answer: Option<&v1::ContainerStats>,
        cgroups: &Cgroups,
        now: Timestamp,
    ) -> ContainerStats {
        let kernel = cgroups.of(&container.id).map(|own| self.cgroups.read(&own, now)).unwrap_or_default();
        let runtime = answer.map(|answer| cri::reading(answer, now)).unwrap_or_default();
        let mut cpu = kernel.cpu.or(runtime.cpu);
        if let Some(cpu) = &mut cpu {
            self.rates.complete(&container.id, cpu);
        }
        ContainerStats {
            name: name_of(container).to_owned(),
            start_time: cri::time(container.created_at),
            cpu,
            memory: kernel.memory.or(runtime.memory),
            io: kernel.io.or(runtime.io),
            swap: kernel.swap.or(runtime.swap),
            rootfs: None,
            logs: None,
        }
    }

    /// The pod as a whole, without what is only wanted in full.
    fn pod(
        &mut self,
        pod: &Running<'_>,
        cgroup: Option<&str>,
        containers: &[ContainerStats],
        now: Timestamp,
    ) -> PodStats {
        let Reading { mut cpu, memory, swap, io } =
            cgroup.map(|cgroup| self.cgroups.read(cgroup, now)).unwrap_or_default();
        if let Some(cpu) = &mut cpu {
            self.rates.complete(&pod.reference.uid, cpu);
        }
        PodStats {
            pod_ref: pod.reference.clone(),
            start_time: cri::time(pod.sandbox.created_at),
            cpu: cpu.or_else(|| sum(containers, |c| c.cpu.as_ref(), add_cpu)),
            memory: memory.or_else(|| sum(containers, |c| c.memory.as_ref(), add_memory)),
            swap: swap.or_else(|| sum(containers, |c| c.swap.as_ref(), add_swap)),
            io,
            ..PodStats::default()
        }
    }

    /// Any process of the pod sees its network, the sandbox's own for as long as the pod lives. The node's network is
    /// not the pod's.
    fn network(&self, pod: &Running<'_>, cgroups: &Cgroups, now: Timestamp) -> Option<NetworkStats> {
        let cgroup = cgroups.of(&pod.sandbox.id).or_else(|| cgroups.pod.clone())?;
        let pid = self.cgroups.processes(&cgroup).into_iter().next()?;
        let process = self.settings.proc.join(pid.to_string());
        let namespace = fs::read_link(process.join("ns/net")).ok()?;
        let nodes = fs::read_link(self.settings.proc.join("self/ns/net")).ok()?;
        if namespace == nodes { None } else { proc::network(&process, now) }
    }

    /// Those of its containers; the sandbox's own is not the pod's doing.
    fn processes(&self, pod: &Running<'_>, cgroups: &Cgroups) -> Option<ProcessStats> {
        let of = |container: &&v1::Container| {
            Some(self.cgroups.processes(&cgroups.of(&container.id)?).len() as u64)
        };
        let process_count = pod.containers.iter().map(of).fold(None, add);
        process_count.map(|count| ProcessStats { process_count: Some(count) })
    }

    /// Writable layers, logs, `/etc/hosts` and volumes on the node's disk together.
    fn ephemeral_storage(
        &self,
        pod: &Running<'_>,
        containers: &[ContainerStats],
        volumes: &[PodVolume],
        node_fs: &FsStats,
    ) -> FsStats {
        let of_containers = containers.iter().flat_map(|c| c.rootfs.iter().chain(&c.logs)).map(Used::of);
        let logs = disk::files_in(&self.paths.pod_logs(&pod.reference));
        let hosts = disk::file(&self.paths.hosts_file(&pod.uid));
        let volumes =
            volumes.iter().filter(|volume| volume.is_local).map(|volume| Used::of(&volume.stats.fs));
        let all = of_containers.chain(logs).chain(hosts).chain(volumes);
        disk::part(node_fs, all.fold(Used::default(), Used::and))
    }
}

fn rootfs(
    stats: &v1::ContainerStats,
    layers: &mut BTreeMap<String, FsStats>,
    now: Timestamp,
) -> Option<FsStats> {
    let layer = stats.writable_layer.as_ref()?;
    let mountpoint = layer.fs_id.as_ref().map(|id| id.mountpoint.clone()).unwrap_or_default();
    let whole = layers.entry(mountpoint).or_insert_with_key(|mountpoint| whole(mountpoint, now));
    let time = cri::time(layer.timestamp).unwrap_or(Time(now));
    Some(FsStats { time, ..disk::part(whole, cri::used(layer)) })
}

/// All containers together; `None` if nothing is known of any.
fn sum<'a, T: Clone + 'a>(
    containers: &'a [ContainerStats],
    part: impl Fn(&'a ContainerStats) -> Option<&'a T>,
    add: impl Fn(T, &T) -> T,
) -> Option<T> {
    let mut parts = containers.iter().filter_map(part);
    let first = parts.next()?.clone();
    Some(parts.fold(first, add))
}

fn add_cpu(sum: CpuStats, part: &CpuStats) -> CpuStats {
    CpuStats {
        time: sum.time.max(part.time.clone()),
        usage_nano_cores: add(sum.usage_nano_cores, part.usage_nano_cores),
        usage_core_nano_seconds: add(sum.usage_core_nano_seconds, part.usage_core_nano_seconds),
        // The pressure on a pod does not follow from that on its containers.
        psi: None,
    }
}

fn add_memory(sum: MemoryStats, part: &MemoryStats) -> MemoryStats {
    MemoryStats {
        time: sum.time.max(part.time.clone()),
        // Where one has no limit, they have none together.
        available_bytes: sum.available_bytes.zip(part.available_bytes).map(|(a, b)| a.saturating_add(b)),
        usage_bytes: add(sum.usage_bytes, part.usage_bytes),
        working_set_bytes: add(sum.working_set_bytes, part.working_set_bytes),
        rss_bytes: add(sum.rss_bytes, part.rss_bytes),
        page_faults: add(sum.page_faults, part.page_faults),
        major_page_faults: add(sum.major_page_faults, part.major_page_faults),
        psi: None,
    }
}

fn add_swap(sum: SwapStats, part: &SwapStats) -> SwapStats {
    SwapStats {
        time: sum.time.max(part.time.clone()),
        swap_available_bytes: sum
            .swap_available_bytes
            .zip(part.swap_available_bytes)
            .map(|(a, b)| a.saturating_add(b)),
        swap_usage_bytes: add(sum.swap_usage_bytes, part.swap_usage_bytes),
    }
}
