//! The runtime's numbers in the terms of the summary.

use kube_model::Timestamp;
use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::{CpuStats, IoStats, MemoryStats, PsiData, PsiStats, SwapStats};
use node_proto::cri::v1;

use crate::cgroup::Reading;
use crate::disk::Used;

/// Nanoseconds since 1970; `None` for 0, which is how the runtime leaves out a time.
pub(crate) fn time(nanoseconds: i64) -> Option<Time> {
    Timestamp::from_nanosecond(nanoseconds.into()).ok().filter(|_| nanoseconds != 0).map(Time)
}

/// Everything but the writable layer.
pub(crate) fn reading(stats: &v1::ContainerStats, now: Timestamp) -> Reading {
    let at = |nanoseconds| time(nanoseconds).unwrap_or(Time(now));
    Reading {
        cpu: stats.cpu.as_ref().map(|cpu| CpuStats {
            time: at(cpu.timestamp),
            usage_nano_cores: value(cpu.usage_nano_cores),
            usage_core_nano_seconds: value(cpu.usage_core_nano_seconds),
            psi: cpu.psi.as_ref().map(psi),
        }),
        memory: stats.memory.as_ref().map(|memory| MemoryStats {
            time: at(memory.timestamp),
            available_bytes: value(memory.available_bytes),
            usage_bytes: value(memory.usage_bytes),
            working_set_bytes: value(memory.working_set_bytes),
            rss_bytes: value(memory.rss_bytes),
            page_faults: value(memory.page_faults),
            major_page_faults: value(memory.major_page_faults),
            psi: memory.psi.as_ref().map(psi),
        }),
        swap: stats.swap.as_ref().map(|swap| SwapStats {
            time: at(swap.timestamp),
            swap_available_bytes: value(swap.swap_available_bytes),
            swap_usage_bytes: value(swap.swap_usage_bytes),
        }),
        io: stats.io.as_ref().map(|io| IoStats { time: at(io.timestamp), psi: io.psi.as_ref().map(psi) }),
    }
}

/// What a writable layer, or a store of images, takes.
pub(crate) fn used(usage: &v1::FilesystemUsage) -> Used {
    Used { bytes: value(usage.used_bytes), inodes: value(usage.inodes_used) }
}

fn value(value: Option<v1::UInt64Value>) -> Option<u64> {
    value.map(|value| value.value)
}

fn psi(psi: &v1::PsiStats) -> PsiStats {
    let line = |line: &Option<v1::PsiData>| {
        let line = line.unwrap_or_default();
        PsiData { total: line.total, avg10: line.avg10, avg60: line.avg60, avg300: line.avg300 }
    };
    PsiStats { full: line(&psi.full), some: line(&psi.some) }
}
