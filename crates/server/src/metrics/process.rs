//! `process_*`: the agent's own process, as Prometheus' client libraries write it.

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
pub(super) struct Stat {
    pub(super) cpu_seconds: f64,
    pub(super) started_after_boot: f64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_bytes: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, ticks, rustix::param::page_size() as u64)
    }

    /// proc(5): the fields after the command, which may itself contain blanks and brackets.
    pub(super) fn parse(text: &str, ticks: f64, page: u64) -> Option<Self> {
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
