//! The machine itself: what does not change while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::proc::value;
use crate::text;

/// Where the kernel shows huge pages.
const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

/// Memory in bytes.
///
/// # Errors
/// When `/proc/meminfo` cannot be read, or does not tell.
pub fn memory() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    value(&meminfo, "MemTotal").ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))
}

/// Swap in bytes.
pub fn swap() -> Option<u64> {
    value(&text("/proc/meminfo".as_ref())?, "SwapTotal")
}

/// Whether anything is swapped to.
pub fn swaps() -> Option<bool> {
    // The first line is a heading.
    Some(text("/proc/swaps".as_ref())?.lines().count() > 1)
}

/// How long the machine has run.
pub fn uptime() -> Option<Duration> {
    let text = text("/proc/uptime".as_ref())?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

/// Who the machine is and what runs on it. What cannot be read is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `/etc/machine-id`, or what D-Bus has in its place.
    pub machine_id: String,
    /// That of the firmware, or the same as `machine_id`.
    pub system_uuid: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// The kernel's release.
    pub kernel_version: String,
    /// The system's pretty name.
    pub os_image: String,
}

impl Identity {
    /// Of this machine.
    pub fn read() -> Self {
        let read = |path: &str| text(path.as_ref()).unwrap_or_default().trim().to_owned();
        let machine_id = [read("/etc/machine-id"), read("/var/lib/dbus/machine-id")];
        let machine_id = machine_id.into_iter().find(|id| !id.is_empty()).unwrap_or_default();
        let uuid = read("/sys/class/dmi/id/product_uuid");
        Self {
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid.to_lowercase() },
            machine_id,
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel_version: read("/proc/sys/kernel/osrelease"),
            os_image: pretty_name(&read("/etc/os-release")),
        }
    }
}

fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

/// The architecture as Go calls it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Huge pages in bytes, by their size as a quantity: `2Mi`.
pub fn hugepages() -> BTreeMap<String, i64> {
    hugepages_in(HUGEPAGES.as_ref())
}

fn hugepages_in(dir: &Path) -> BTreeMap<String, i64> {
    let bytes = |(kib, folder): (i64, PathBuf)| {
        let count: i64 = fs::read_to_string(folder.join("nr_hugepages")).ok()?.trim().parse().ok()?;
        Some((size(kib, ["Ki", "Mi", "Gi"]), count.saturating_mul(kib).saturating_mul(1024)))
    };
    hugepage_folders(dir).into_iter().filter_map(bytes).collect()
}

/// The folders of the kernel's huge pages, by size in KiB.
fn hugepage_folders(dir: &Path) -> BTreeMap<i64, PathBuf> {
    let folders = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let kib = |folder: &Path| {
        folder.file_name()?.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
    };
    folders.filter_map(|folder| Some((kib(&folder)?, folder))).collect()
}

/// A size in the largest of the three units in which it is whole.
fn size(kib: i64, [ki, mi, gi]: [&str; 3]) -> String {
    match kib {
        _ if kib % (1 << 20) == 0 => format!("{}{gi}", kib >> 20),
        _ if kib % (1 << 10) == 0 => format!("{}{mi}", kib >> 10),
        _ => format!("{kib}{ki}"),
    }
}

/// Where the kernel lists the CPUs that are online.
const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";

/// The CPUs of the machine that are online. Whether the agent itself may run on them does not matter.
pub fn online_cpus() -> Option<BTreeSet<u32>> {
    numbers(&fs::read_to_string(ONLINE_CPUS).ok()?)
}

/// The same as the kernel writes it, for a cgroup: `0-3,8`.
pub fn online_cpu_list() -> Option<String> {
    let list = fs::read_to_string(ONLINE_CPUS).ok()?.trim().to_owned();
    numbers(&list).map(|_| list)
}

/// How many CPUs the machine has. Rule: cAdvisor's `GetTopology`, which counts those that are online.
pub fn cores() -> i64 {
    let listed = online_cpus().map(|cpus| cpus.len());
    let in_cpuinfo = || {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
        Some(cpuinfo.lines().filter(|line| line.starts_with("processor")).count()).filter(|cores| *cores > 0)
    };
    let usable = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    listed.or_else(in_cpuinfo).unwrap_or_else(usable).try_into().unwrap_or(1)
}

/// The NUMA nodes that are online.
pub fn numa_nodes() -> Option<BTreeSet<u32>> {
    numbers(&text("/sys/devices/system/node/online".as_ref())?)
}

/// A list of numbers as the kernel writes it: `0-3,6`. `None` for what is no list of any.
fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    (!numbers.is_empty()).then_some(numbers)
}

/// Whether the kernel enforces AppArmor profiles.
pub fn apparmor() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
        && fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.starts_with('Y'))
}

/// The cgroup that the agent is in on v2: the line of `/proc/self/cgroup` with neither number nor controller.
pub fn own_cgroup() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Sizes of huge pages that the kernel offers, as cgroup files spell them (`2MB`, `1GB`), smallest first.
pub fn hugepage_sizes() -> Vec<String> {
    hugepage_sizes_in(HUGEPAGES.as_ref())
}

fn hugepage_sizes_in(dir: &Path) -> Vec<String> {
    hugepage_folders(dir).into_keys().map(|kib| size(kib, ["KB", "MB", "GB"])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        assert!(memory().unwrap() > 1 << 20 && swap().is_some() && uptime().unwrap() > Duration::ZERO);
    }

    #[test]
    fn this_machine_says_who_it_is() {
        let Identity { boot_id, kernel_version, os_image, .. } = Identity::read();
        assert!(!boot_id.is_empty() && !kernel_version.is_empty() && !os_image.is_empty());
    }

    #[test]
    fn the_system_is_called_by_its_pretty_name() {
        let text = "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(pretty_name(""), "Linux");
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
        assert_eq!(hugepages_in(dir.path()), pages.map(|(size, bytes)| (size.to_owned(), bytes)).into());
        assert_eq!(hugepage_sizes_in(dir.path()), ["64KB", "2MB", "1GB"]);
        assert!(hugepage_sizes_in(Path::new("/nowhere")).is_empty());
    }
}
