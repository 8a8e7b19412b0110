//! What the agent finds out about the node that it runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use node_config::Settings;
use node_reporter::{Hardware, NodeResources};

use crate::cluster::facts;
use crate::run::StartError;
use crate::settings;

/// The machine and what it has for pods: measured once, at start.
///
/// # Errors
/// When its memory or the file system of the root folder cannot be measured, or less is there than is to be reserved.
pub(crate) fn measure(config: &Settings) -> Result<(Hardware, NodeResources), StartError> {
    memory().map_err(|source| StartError::Read { path: "/proc/meminfo".into(), source })?;
    rustix::fs::statvfs(&config.root_dir)
        .map_err(|error| StartError::Read { path: config.root_dir.clone(), source: error.into() })?;
    let facts = facts::of_machine(&config.root_dir);
    let resources = NodeResources::new(&settings::limits(&config.node), &facts);
    Ok((facts.hardware, resources))
}

/// Memory of the node in bytes, as `/proc/meminfo` has it.
pub(crate) fn memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    memory_of(&text).ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))
}

fn memory_of(meminfo: &str) -> Option<u64> {
    self::meminfo(meminfo, "MemTotal")
}

/// A value of `/proc/meminfo` in bytes.
pub(crate) fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The architecture as Go calls it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Huge pages in bytes, by their size as a quantity: `2Mi`.
pub(crate) fn hugepages(dir: &Path) -> BTreeMap<String, i64> {
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let kib = || name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<i64>().ok();
        let count = || fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse::<i64>().ok();
        let (Some(kib), Some(count)) = (kib(), count()) else { continue };
        let size = match kib {
            _ if kib % (1 << 20) == 0 => format!("{}Gi", kib >> 20),
            _ if kib % (1 << 10) == 0 => format!("{}Mi", kib >> 10),
            _ => format!("{kib}Ki"),
        };
        pages.insert(size, count.saturating_mul(kib).saturating_mul(1024));
    }
    pages
}

/// Where the kernel lists the CPUs that are online.
const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";

/// The CPUs of the machine that are online. Whether the agent itself may run on them does not matter.
pub(crate) fn online_cpus() -> Option<BTreeSet<u32>> {
    numbers(&fs::read_to_string(ONLINE_CPUS).ok()?)
}

/// The same as the kernel writes it, for a cgroup: `0-3,8`.
pub(crate) fn online_cpu_list() -> Option<String> {
    let list = fs::read_to_string(ONLINE_CPUS).ok()?.trim().to_owned();
    numbers(&list).map(|_| list)
}

/// How many CPUs the machine has. Rule: cAdvisor's `GetTopology`, which counts those that are online.
pub(crate) fn cores() -> i64 {
    let listed = online_cpus().map(|cpus| cpus.len());
    let told = || {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
        Some(cpuinfo.lines().filter(|line| line.starts_with("processor")).count()).filter(|cores| *cores > 0)
    };
    let usable = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    listed.or_else(told).unwrap_or_else(usable).try_into().unwrap_or(1)
}

/// A list of numbers as the kernel writes it: `0-3,6`. `None` for what is no list of any.
pub(crate) fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    (!numbers.is_empty()).then_some(numbers)
}

/// Whether the kernel enforces AppArmor profiles.
pub(crate) fn apparmor() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
        && fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.starts_with('Y'))
}

/// The cgroup that the agent is in on v2: the line of `/proc/self/cgroup` with neither number nor controller.
pub(crate) fn own_cgroup() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Sizes of huge pages that the kernel offers, as cgroup files spell them (`2MB`, `1GB`), smallest first.
pub(crate) fn hugepage_sizes(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut sizes: Vec<u64> = names
        .filter_map(|name| name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(page_size).collect()
}

fn page_size(kib: u64) -> String {
    match kib {
        _ if kib >= 1 << 20 && kib.is_multiple_of(1 << 20) => format!("{}GB", kib >> 20),
        _ if kib >= 1 << 10 && kib.is_multiple_of(1 << 10) => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(memory_of("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000 * 1024));
        assert_eq!(memory_of("MemFree: 1 kB\n"), None);
        assert!(memory().unwrap() > 0);
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        for (list, want) in [
            ("0\n", Some(vec![0])),
            ("0-2,6,10-11", Some(vec![0, 1, 2, 6, 10, 11])),
            ("", None),
            ("x", None),
            ("3-1", None),
            ("0-", None),
        ] {
            assert_eq!(numbers(list), want.map(BTreeSet::from_iter), "{list}");
        }
    }

    /// What the agent may use is no measure of the machine.
    #[test]
    fn the_machine_has_its_cpus_whatever_this_thread_may_use() {
        let before = cores();
        let mut one = rustix::thread::CpuSet::new();
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap();
        one.set(first);
        let pinned = std::thread::spawn(move || {
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            (cores(), std::thread::available_parallelism().unwrap().get())
        });
        assert_eq!(pinned.join().unwrap(), (before, 1));
    }

    #[test]
    fn page_sizes_are_spelt_as_in_cgroup_files() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["hugepages-1048576kB", "hugepages-2048kB", "hugepages-64kB", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("nr_hugepages"), "3\n").unwrap();
        }
        let pages = [("1Gi", 3 << 30), ("2Mi", 6 << 20), ("64Ki", 192 << 10)];
        assert_eq!(hugepages(dir.path()), pages.map(|(size, bytes)| (size.to_owned(), bytes)).into());
        assert_eq!(hugepage_sizes(dir.path()), ["64KB", "2MB", "1GB"]);
        assert!(hugepage_sizes(Path::new("/nowhere")).is_empty());
    }
}
