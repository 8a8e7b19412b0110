//! `process_*`: the agent's own process, as Prometheus' client libraries write it. What is read of `/proc` waits for no disk.

use std::fs;

use super::{Kind, Text};

/// Times, memory and file descriptors of this process. What `/proc` does not tell is left out.
pub(crate) fn write(out: &mut Text) {
    let Some(stat) = Stat::read() else { return };
    let name = "process_cpu_seconds_total";
    out.metric(name, Kind::Counter, "[STABLE] Total user and system CPU time spent in seconds");
    out.sample(name, &[], stat.cpu_seconds);
    if let Ok(limit) = fs::read_to_string("/proc/self/limits")
        && let Some(most) = max_open_files(&limit)
    {
        let name = "process_max_fds";
        out.metric(name, Kind::Gauge, "[STABLE] Maximum number of open file descriptors");
        out.sample(name, &[], most);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        out.metric(name, Kind::Gauge, "[STABLE] Number of open file descriptors");
        out.sample(name, &[], open.count());
    }
    let name = "process_resident_memory_bytes";
    out.metric(name, Kind::Gauge, "[STABLE] Resident memory size in bytes");
    out.sample(name, &[], stat.resident_bytes);
    write_start_time(out);
    let name = "process_virtual_memory_bytes";
    out.metric(name, Kind::Gauge, "[STABLE] Virtual memory size in bytes");
    out.sample(name, &[], stat.virtual_bytes);
}

/// When this process was started.
pub(crate) fn write_start_time(out: &mut Text) {
    let booted = fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat));
    if let (Some(stat), Some(booted)) = (Stat::read(), booted) {
        let name = "process_start_time_seconds";
        out.metric(name, Kind::Gauge, "[STABLE] Start time of the process since unix epoch in seconds");
        out.sample(name, &[], booted + stat.started_after_boot);
    }
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    started_after_boot: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, ticks, rustix::param::page_size() as u64)
    }

    /// proc(5): the fields after the command, which may itself contain blanks and brackets.
    fn parse(text: &str, ticks: f64, page: u64) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_seconds: (number(14)? + number(15)?) as f64 / ticks,
            started_after_boot: number(22)? as f64 / ticks,
            virtual_bytes: number(23)?,
            resident_bytes: number(24)? * page,
        })
    }
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn max_open_files(limits: &str) -> Option<u64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_their_fields() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 9 8 7 6 150 50 0 0 20 0 4 0 12345 1048576 256 1844674407 1 1";
        let expected = Stat {
            cpu_seconds: 2.0,
            started_after_boot: 123.45,
            virtual_bytes: 1_048_576,
            resident_bytes: 1_048_576,
        };
        assert_eq!(Stat::parse(stat, 100.0, 4096), Some(expected));
        assert_eq!(Stat::parse("42 (cut) S 1", 100.0, 4096), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\nprocesses 1\n"), Some(1_700_000_000.0));
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(max_open_files(limits), Some(1024));
    }
}
