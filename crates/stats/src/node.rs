//! The node as a whole. Upstream `pkg/kubelet/server/stats/summary.go`, `summary_sys_containers.go`.

use std::path::Path;

use kube_model::Timestamp;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::{
    ContainerStats, FsStats, IoStats, MemoryStats, NodeStats, PsiStats, RlimitStats, RuntimeStats, SwapStats,
};
use node_proto::cri::v1::FilesystemUsage;

use crate::cgroup::{Hierarchy, Memory, Reading};
use crate::proc::{Process, value};
use crate::{Depth, Error, RuntimeAnswers, SummaryProvider, cri, disk, needed, proc, text};

const KUBELET: &str = "kubelet";
const PODS: &str = "pods";

impl SummaryProvider {
    pub(crate) fn node(
        &mut self,
        answers: &RuntimeAnswers,
        depth: Depth,
        now: Timestamp,
    ) -> Result<NodeStats, Error> {
        let booted = self.booted()?;
        let Reading { mut cpu, memory, swap, .. } = self.root(now)?;
        if let Some(cpu) = &mut cpu {
            self.rates.complete("", cpu);
        }
        let mut node = NodeStats {
            node_name: self.settings.node_name.clone(),
            system_containers: self.system_containers(booted, now),
            start_time: Some(Time(booted)),
            cpu,
            memory,
            swap,
            ..NodeStats::default()
        };
        if depth == Depth::Everything {
            node.io = self.pressure("io").map(|psi| IoStats { time: Time(now), psi: Some(psi) });
            node.network = proc::network(&self.settings.proc, now);
            node.fs = Some(self.file_system(now)?);
            node.runtime = runtime(answers, now);
            node.rlimit = self.rlimit(now);
        }
        Ok(node)
    }

    /// The file system of the kubelet's folder.
    pub(crate) fn file_system(&self, now: Timestamp) -> Result<FsStats, Error> {
        let path = &self.settings.root_dir;
        disk::file_system(path, now).map_err(|source| Error::FileSystem { path: path.clone(), source })
    }

    fn booted(&self) -> Result<Timestamp, Error> {
        let path = self.settings.proc.join("stat");
        let stat = needed(path.clone())?;
        let seconds = value(&stat, "btime").and_then(|seconds| i64::try_from(seconds).ok());
        let booted = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        booted.ok_or(Error::Missing { path, what: "btime" })
    }

    /// The root cgroup; its limits are what the machine has.
    fn root(&self, now: Timestamp) -> Result<Reading, Error> {
        let RootMemory { meminfo, stats: mut memory, .. } =
            root_memory(&self.settings.proc, &self.cgroups, now)?;
        let mut root = self.cgroups.read("", now);
        let Some(cpu) = &mut root.cpu else {
            return Err(Error::Missing { path: self.cgroups.dir("cpuacct", ""), what: "CPU usage" });
        };
        cpu.psi = cpu.psi.take().or_else(|| self.pressure("cpu"));
        memory.psi = memory.psi.take().or_else(|| self.pressure("memory"));
        root.memory = Some(memory);
        let (swap, free) = (value(&meminfo, "SwapTotal"), value(&meminfo, "SwapFree"));
        root.swap = swap.zip(free).map(|(total, free)| SwapStats {
            time: Time(now),
            swap_available_bytes: Some(free),
            swap_usage_bytes: Some(total.saturating_sub(free)),
        });
        Ok(root)
    }

    fn pressure(&self, resource: &str) -> Option<PsiStats> {
        proc::pressure(&text(&self.settings.proc.join("pressure").join(resource))?)
    }

    fn system_containers(&mut self, booted: Timestamp, now: Timestamp) -> Vec<ContainerStats> {
        let own = text(&self.settings.proc.join("self/stat")).and_then(|stat| Process::parse(&stat));
        let started = own.as_ref().and_then(|own| own.started(booted));
        let mut cgroups = self.settings.system_cgroups.clone();
        if !cgroups.iter().any(|(role, _)| *role == KUBELET) {
            let text = text(&self.settings.proc.join("self/cgroup")).unwrap_or_default();
            cgroups.extend(self.cgroups.of_process(&text).map(|cgroup| (KUBELET, cgroup)));
        }
        cgroups.extend(self.paths.pods_cgroup().map(|cgroup| (PODS, cgroup)));
        let mut all = Vec::with_capacity(cgroups.len() + 1);
        for (role, cgroup) in cgroups {
            let Reading { cpu, memory, swap, io } = self.cgroups.read(&cgroup, now);
            if cpu.is_none() && memory.is_none() {
                continue;
            }
            let start_time = if role == KUBELET { started.clone() } else { self.cgroups.made(&cgroup) };
            let name = role.to_owned();
            all.push(ContainerStats { name, start_time, cpu, memory, swap, io, ..ContainerStats::default() });
        }
        // In no cgroup of its own, as when started by hand: the process itself.
        if let Some(own) = own.filter(|_| !all.iter().any(|c| c.name == KUBELET)) {
            let (cpu, memory) = (Some(own.cpu(now)), Some(own.memory(now)));
            let name = KUBELET.to_owned();
            all.insert(
                0,
                ContainerStats { name, start_time: started, cpu, memory, ..ContainerStats::default() },
            );
        }
        for container in &mut all {
            if let Some(cpu) = &mut container.cpu {
                // No UID of a pod, which are names here too, has a slash.
                self.rates.complete(&format!("/{}", container.name), cpu);
            }
        }
        all
    }

    /// Processes: the most there may be, and those there are (threads count).
    fn rlimit(&self, now: Timestamp) -> Option<RlimitStats> {
        let (max_pid, running) = pids(&self.settings.proc);
        (max_pid.is_some() || running.is_some()).then_some(RlimitStats { time: Time(now), max_pid, running })
    }
}

/// Memory of the root cgroup, and what it was reckoned from.
pub(crate) struct RootMemory {
    meminfo: String,
    /// All that the machine has.
    pub(crate) total: u64,
    /// What is available is all but the working set.
    pub(crate) stats: MemoryStats,
}

/// Reads it, at `now`.
pub(crate) fn root_memory(proc: &Path, cgroups: &Hierarchy, now: Timestamp) -> Result<RootMemory, Error> {
    let path = proc.join("meminfo");
    let meminfo = needed(path.clone())?;
    let total = value(&meminfo, "MemTotal").ok_or(Error::Missing { path, what: "MemTotal" })?;
    let mut stats =
        cgroups.memory("", now).unwrap_or_else(|| machine(proc, &meminfo, total).stats(now, None));
    stats.available_bytes = stats.working_set_bytes.map(|used| total.saturating_sub(used));
    Ok(RootMemory { meminfo, total, stats })
}

/// Memory of a whole machine, which the root of cgroup v2 does not tell.
fn machine(proc: &Path, meminfo: &str, total: u64) -> Memory {
    let vmstat = text(&proc.join("vmstat")).unwrap_or_default();
    Memory {
        usage: total.saturating_sub(value(meminfo, "MemFree").unwrap_or_default()),
        inactive_file: value(meminfo, "Inactive(file)").unwrap_or_default(),
        rss: value(meminfo, "AnonPages"),
        faults: value(&vmstat, "pgfault"),
        major_faults: value(&vmstat, "pgmajfault"),
        ..Memory::default()
    }
}

/// The most processes that there may be, and those that there are; threads count.
pub(crate) fn pids(proc: &Path) -> (Option<i64>, Option<i64>) {
    let kernel = proc.join("sys/kernel");
    let limit = |file: &str| text(&kernel.join(file))?.trim().parse::<i64>().ok();
    let most = limit("pid_max").into_iter().chain(limit("threads-max")).min();
    (most, text(&proc.join("loadavg")).and_then(|text| proc::threads(&text)))
}

/// The runtime's file systems: the first of each kind, and that of the images where it names no other.
fn runtime(answers: &RuntimeAnswers, now: Timestamp) -> Option<RuntimeStats> {
    let stats = |usage: &FilesystemUsage| {
        let mountpoint = usage.fs_id.as_ref().map(|id| id.mountpoint.as_str()).unwrap_or_default();
        let time = cri::time(usage.timestamp).unwrap_or(Time(now));
        FsStats { time, ..disk::part(&whole(mountpoint, now), cri::used(usage)) }
    };
    let image_fs = answers.file_systems.image_filesystems.first().map(stats);
    let container_fs =
        answers.file_systems.container_filesystems.first().map(stats).or_else(|| image_fs.clone());
    container_fs.is_some().then_some(RuntimeStats { image_fs, container_fs })
}

/// The file system at a place that the runtime names; it may be one that only the runtime sees.
pub(crate) fn whole(mountpoint: &str, now: Timestamp) -> FsStats {
    disk::file_system(mountpoint.as_ref(), now).unwrap_or(FsStats {
        time: Time(now),
        available_bytes: None,
        capacity_bytes: None,
        used_bytes: None,
        inodes_free: None,
        inodes: None,
        inodes_used: None,
    })
}
