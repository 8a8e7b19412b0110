//! What `/proc` says of the node, of its network, and of one process. All values in bytes and nanoseconds.

use std::path::Path;

use kube_model::Timestamp;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::{CpuStats, InterfaceStats, MemoryStats, NetworkStats, PsiData, PsiStats};

use crate::text;

/// Interfaces of the node that belong to pods, or lead nowhere. The kubelet's cAdvisor leaves out the same.
const NOT_THE_NODES: [&str; 2] = ["veth", "docker"];

/// The value of a line `name value`, or `name: value kB` in bytes.
pub(crate) fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', ':']))?;
    match line.trim().strip_suffix("kB") {
        Some(kib) => kib.trim().parse::<u64>().ok()?.checked_mul(1024),
        None => line.trim().parse().ok(),
    }
}

/// A file of pressure stall information.
pub(crate) fn pressure(text: &str) -> Option<PsiStats> {
    let line = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let field =
            |name: &str| line.split_whitespace().find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
        let share = |name| field(name)?.parse().ok();
        Some(PsiData {
            // The kernel's microseconds, which cAdvisor and pkg/kubelet/stats/helper.go pass on as they are.
            total: field("total")?.parse().ok()?,
            avg10: share("avg10")?,
            avg60: share("avg60")?,
            avg300: share("avg300")?,
        })
    };
    // Old kernels have no `full` for the CPU.
    Some(PsiStats { some: line("some ")?, full: line("full ").unwrap_or_default() })
}

/// Threads that exist: `0.00 0.01 0.05 1/123 4567` means 123.
pub(crate) fn threads(loadavg: &str) -> Option<i64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Traffic in the network namespace whose `net` folder is in `process`.
pub(crate) fn network(process: &Path, now: Timestamp) -> Option<NetworkStats> {
    let interfaces = interfaces(&text(&process.join("net/dev"))?);
    let read = |file: &str| text(&process.join("net").join(file)).unwrap_or_default();
    let name = default_interface(&read("route"), &read("ipv6_route")).unwrap_or_else(|| "eth0".to_owned());
    let default = interfaces.iter().find(|i| i.name == name).cloned().unwrap_or_default();
    Some(NetworkStats { time: Time(now), default, interfaces })
}

/// All interfaces in the text of `net/dev`, but loopback and those to pods.
fn interfaces(dev: &str) -> Vec<InterfaceStats> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let name = name.trim();
        if name == "lo" || NOT_THE_NODES.iter().any(|prefix| name.starts_with(prefix)) {
            return None;
        }
        let counters: Vec<u64> = counters.split_whitespace().map_while(|c| c.parse().ok()).collect();
        let counter = |index: usize| counters.get(index).copied();
        Some(InterfaceStats {
            name: name.to_owned(),
            rx_bytes: counter(0),
            rx_errors: counter(2),
            tx_bytes: counter(8),
            tx_errors: counter(10),
        })
    };
    dev.lines().filter_map(interface).collect()
}

/// Where packets to the outside leave: the interface of the first default route.
fn default_interface(route: &str, ipv6_route: &str) -> Option<String> {
    let v4 = route.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, destination, mask) = (fields.next()?, fields.next()?, fields.nth(5)?);
        (destination == "00000000" && mask == "00000000").then_some(name)
    });
    let v6 = || {
        ipv6_route.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let everything = fields.first()?.bytes().all(|b| b == b'0') && *fields.get(1)? == "00";
            // Where there is no default route, the kernel shows one that rejects, on loopback.
            fields.last().copied().filter(|name| everything && *name != "lo")
        })
    };
    v4.or_else(v6).map(str::to_owned)
}

/// One process, from its `stat`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Process {
    cpu: u64,
    rss: u64,
    faults: u64,
    major_faults: u64,
    /// Since the node was booted.
    started: u64,
}

impl Process {
    pub(crate) fn parse(stat: &str) -> Option<Self> {
        // The name before the bracket may be any text.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // Counted from 1 as in proc(5), where the state is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = |number| {
            Some(field(number)?.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second()))
        };
        Some(Self {
            cpu: ticks(14)?.saturating_add(ticks(15)?),
            rss: field(24)?.saturating_mul(rustix::param::page_size() as u64),
            faults: field(10)?.saturating_add(field(12)?),
            major_faults: field(12)?,
            started: ticks(22)?,
        })
    }

    pub(crate) fn started(&self, booted: Timestamp) -> Option<Time> {
        Timestamp::from_nanosecond(booted.as_nanosecond() + i128::from(self.started)).ok().map(Time)
    }

    pub(crate) fn cpu(&self, now: Timestamp) -> CpuStats {
        CpuStats {
            time: Time(now),
            usage_nano_cores: None,
            usage_core_nano_seconds: Some(self.cpu),
            psi: None,
        }
    }

    pub(crate) fn memory(&self, now: Timestamp) -> MemoryStats {
        MemoryStats {
            time: Time(now),
            available_bytes: None,
            usage_bytes: Some(self.rss),
            working_set_bytes: Some(self.rss),
            rss_bytes: Some(self.rss),
            page_faults: Some(self.faults),
            major_page_faults: Some(self.major_faults),
            psi: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        ens3\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    const V6: &str = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        fd000000000000000000000000000001 00000400 00000003 00000000 00000003     ens4\n";
    const V6_NONE: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";

    #[test]
    fn values_are_found_by_their_whole_name_and_kilobytes_are_bytes() {
        let text = "inactive_file_x 1\ninactive_file 53248\nMemTotal:       24684092 kB\nbad x\n";
        let cases = [
            ("inactive_file", Some(53248)),
            ("MemTotal", Some(24_684_092 * 1024)),
            ("inactive", None),
            ("bad", None),
        ];
        for (name, expected) in cases {
            assert_eq!(value(text, name), expected, "{name}");
        }
    }

    #[test]
    fn the_default_route_names_the_interface() {
        assert_eq!(default_interface(ROUTE, V6).as_deref(), Some("ens3"));
        assert_eq!(default_interface("", V6).as_deref(), Some("ens4"), "a node with IPv6 only");
        assert_eq!(default_interface("", V6_NONE), None, "no way out");
    }

    #[test]
    fn loopback_and_the_ends_of_pods_are_no_interfaces_of_the_node() {
        let dev = "Inter-|   Receive            |  Transmit\n face |bytes packets errs drop\n\
            lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
            vethab12: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
            \x20 eth0: 100 2 3 4 5 6 7 8 900 10 11 12 13 14 15 16\n\
            cni0:1 2\n";
        let eth0 = InterfaceStats {
            name: "eth0".to_owned(),
            rx_bytes: Some(100),
            rx_errors: Some(3),
            tx_bytes: Some(900),
            tx_errors: Some(11),
        };
        let cut = InterfaceStats { name: "cni0".to_owned(), rx_bytes: Some(1), ..InterfaceStats::default() };
        assert_eq!(interfaces(dev), [eth0, cut]);
    }

    #[test]
    fn pressure_is_served_in_the_microseconds_of_the_kernel() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=5\n";
        let psi = pressure(text).unwrap();
        assert_eq!((psi.some.total, psi.some.avg10, psi.some.avg60), (1234, 1.5, 0.2));
        assert_eq!((psi.full.total, psi.full.avg300), (5, 0.01));
        let old = pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n").unwrap();
        assert_eq!((old.some.total, old.full), (7, PsiData::default()));
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat =
            "24994 (a ) R (b) S 1 1 0 0 -1 4194304 98 7 2 3 150 50 1 1 20 0 1 0 1672227 3133440 379 184 1 1";
        let process = Process::parse(stat).unwrap();
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let expected = Process {
            cpu: 200 * tick,
            rss: 379 * rustix::param::page_size() as u64,
            faults: 100,
            major_faults: 2,
            started: 1_672_227 * tick,
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("1 (cut) S 1"), None);
    }

    #[test]
    fn threads_are_those_that_exist() {
        assert_eq!(threads("7.98 7.52 7.08 12/209 24985\n"), Some(209));
        assert_eq!(threads("7.98"), None);
    }
}
