//! What the kernel counts for a cgroup, v1 and v2. Working set is usage less inactive file pages (as cAdvisor counts
//! it).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kube_model::Timestamp;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::{CpuStats, IoStats, MemoryStats, PsiStats, SwapStats};

use crate::proc::{pressure, value};
use crate::text;

/// From here on a v1 limit is none: the kernel's "unlimited", rounded to pages (upstream
/// `pkg/kubelet/stats/helper.go`).
const UNLIMITED: u64 = 1 << 62;

/// Where cgroups are mounted, and how.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    mount: PathBuf,
    unified: bool,
}

/// One look at a cgroup; what cannot be told is `None`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) cpu: Option<CpuStats>,
    pub(crate) memory: Option<MemoryStats>,
    pub(crate) swap: Option<SwapStats>,
    pub(crate) io: Option<IoStats>,
}

impl Hierarchy {
    /// Cgroup v2 if `cgroup.controllers` is there, else v1 with a folder for each controller.
    pub(crate) fn detect(mount: &Path) -> Self {
        Self { mount: mount.to_owned(), unified: mount.join("cgroup.controllers").exists() }
    }

    /// Where a controller's files of a cgroup are; `controller` is the name in v1.
    pub(crate) fn dir(&self, controller: &str, cgroup: &str) -> PathBuf {
        let mount = if self.unified { self.mount.clone() } else { self.mount.join(controller) };
        mount.join(cgroup.trim_matches('/'))
    }

    /// The cgroup that the text of a process's `cgroup` file names; `None` if that is the root, or differs between
    /// the hierarchies of CPU and memory.
    pub(crate) fn of_process(&self, text: &str) -> Option<String> {
        let of = |controller: &str| {
            text.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|c| c == controller).then_some(path)
            })
        };
        let cgroup =
            if self.unified { of("") } else { of("memory").filter(|path| of("cpuacct") == Some(path)) };
        cgroup.filter(|path| *path != "/").map(str::to_owned)
    }

    /// When the cgroup was made.
    pub(crate) fn made(&self, cgroup: &str) -> Option<Time> {
        // The folder's own time changes with each cgroup in it; this file's does not.
        let file = fs::metadata(self.dir("memory", cgroup).join("cgroup.procs")).ok()?;
        Timestamp::from_second(file.mtime()).ok().map(Time)
    }

    /// The names of the cgroups in this one.
    pub(crate) fn children(&self, cgroup: &str) -> Vec<String> {
        let entries = fs::read_dir(self.dir("memory", cgroup)).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// The processes in this cgroup and in those in it.
    pub(crate) fn processes(&self, cgroup: &str) -> Vec<u32> {
        let own = text(&self.dir("memory", cgroup).join("cgroup.procs")).unwrap_or_default();
        let mut all: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
        for child in self.children(cgroup) {
            all.extend(self.processes(&format!("{cgroup}/{child}")));
        }
        all
    }

    /// Everything that is counted for a cgroup. The root of v2 has no memory and no pressure of its own.
    pub(crate) fn read(&self, cgroup: &str, now: Timestamp) -> Reading {
        let time = || Time(now);
        let mut reading = Reading::default();
        let cpu = self.dir("cpuacct", cgroup);
        let used = if self.unified {
            text(&cpu.join("cpu.stat")).and_then(|stat| value(&stat, "usage_usec")?.checked_mul(1000))
        } else {
            number(&cpu.join("cpuacct.usage"))
        };
        reading.cpu = used.map(|used| CpuStats {
            time: time(),
            usage_nano_cores: None,
            usage_core_nano_seconds: Some(used),
            psi: self.pressure(&cpu, "cpu"),
        });
        let dir = self.dir("memory", cgroup);
        if let Some(memory) = self.counted(&dir) {
            reading.memory = Some(memory.stats(now, self.pressure(&dir, "memory")));
            reading.swap = memory.swap.map(|used| SwapStats {
                time: time(),
                swap_available_bytes: memory.swap_limit.map(|limit| limit.saturating_sub(used)),
                swap_usage_bytes: Some(used),
            });
        }
        reading.io = self.pressure(&dir, "io").map(|psi| IoStats { time: time(), psi: Some(psi) });
        reading
    }

    /// Memory of a cgroup alone.
    pub(crate) fn memory(&self, cgroup: &str, now: Timestamp) -> Option<MemoryStats> {
        let dir = self.dir("memory", cgroup);
        Some(self.counted(&dir)?.stats(now, self.pressure(&dir, "memory")))
    }

    fn counted(&self, dir: &Path) -> Option<Memory> {
        if self.unified { Memory::v2(dir) } else { Memory::v1(dir) }
    }

    /// Only v2 has it for each cgroup.
    fn pressure(&self, dir: &Path, resource: &str) -> Option<PsiStats> {
        if !self.unified {
            return None;
        }
        pressure(&text(&dir.join(format!("{resource}.pressure")))?)
    }
}

/// Memory as the kernel counts it, bytes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    pub(crate) inactive_file: u64,
    pub(crate) limit: Option<u64>,
    pub(crate) rss: Option<u64>,
    pub(crate) faults: Option<u64>,
    pub(crate) major_faults: Option<u64>,
    pub(crate) swap: Option<u64>,
    pub(crate) swap_limit: Option<u64>,
}

impl Memory {
    fn v2(dir: &Path) -> Option<Self> {
        let usage = number(&dir.join("memory.current"))?;
        let stat = text(&dir.join("memory.stat"))?;
        Some(Self {
            usage,
            inactive_file: value(&stat, "inactive_file").unwrap_or_default(),
            limit: number(&dir.join("memory.max")),
            rss: value(&stat, "anon"),
            faults: value(&stat, "pgfault"),
            major_faults: value(&stat, "pgmajfault"),
            swap: number(&dir.join("memory.swap.current")),
            swap_limit: number(&dir.join("memory.swap.max")),
        })
    }

    fn v1(dir: &Path) -> Option<Self> {
        let usage = number(&dir.join("memory.usage_in_bytes"))?;
        let stat = text(&dir.join("memory.stat"))?;
        // Without `total_` it is this cgroup without those in it.
        let total = |name: &str| value(&stat, &format!("total_{name}"));
        let limit = |file: &str| number(&dir.join(file)).filter(|limit| *limit < UNLIMITED);
        let memory = limit("memory.limit_in_bytes");
        // This limit is of memory and swap together.
        let both = limit("memory.memsw.limit_in_bytes");
        Some(Self {
            usage,
            inactive_file: total("inactive_file").unwrap_or_default(),
            limit: memory,
            rss: total("rss"),
            faults: total("pgfault"),
            major_faults: total("pgmajfault"),
            swap: total("swap"),
            swap_limit: both.map(|both| both.saturating_sub(memory.unwrap_or_default())),
        })
    }

    pub(crate) fn stats(&self, now: Timestamp, psi: Option<PsiStats>) -> MemoryStats {
        let working_set = self.usage.saturating_sub(self.inactive_file);
        MemoryStats {
            time: Time(now),
            available_bytes: self.limit.map(|limit| limit.saturating_sub(working_set)),
            usage_bytes: Some(self.usage),
            working_set_bytes: Some(working_set),
            rss_bytes: self.rss,
            page_faults: self.faults,
            major_page_faults: self.major_faults,
            psi,
        }
    }
}

/// A file with one number; `None` also for `max`.
fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}
