//! What the agent finds out about the node that it runs on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

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

/// CPUs of the node in thousandths of a core.
pub(crate) fn milli_cpu() -> i64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i64::try_from(cores).unwrap_or(1).saturating_mul(1000)
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
