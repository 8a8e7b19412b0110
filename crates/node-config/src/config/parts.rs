//! Smaller structs in a `KubeletConfiguration`.

use std::collections::BTreeMap;

use kube_model::duration::GoDuration;
use kube_model::quantity::Quantity;
use serde::{Deserialize, Serialize};

use super::zero;

/// `memorySwap`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MemorySwap {
    /// `NoSwap`, `LimitedSwap` (in proportion to the container's memory request), or empty for `NoSwap`.
    #[serde(skip_serializing_if = "zero")]
    pub swap_behavior: String,
}

/// `crashLoopBackOff`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CrashLoopBackOff {
    /// Longest wait before a crashed container starts again, 1s to 300s. Default 300s; `None` while the gate
    /// `KubeletCrashLoopBackOffMax` is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_container_restart_period: Option<GoDuration>,
}

/// One item of `shutdownGracePeriodByPodPriority`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ShutdownGracePeriodByPodPriority {
    /// The lowest priority that this is for; the next higher item's priority ends it.
    pub priority: i32,
    /// Seconds that such pods get when the node shuts down.
    pub shutdown_grace_period_seconds: i64,
}

/// One item of `reservedMemory`: memory of one NUMA node that the memory manager gives to no container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MemoryReservation {
    /// The NUMA node.
    pub numa_node: i32,
    /// Bytes, by `memory` or `hugepages-<size>`.
    pub limits: BTreeMap<String, Quantity>,
}

/// `tracing`: OpenTelemetry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    /// The collector, host and port, spoken to in plain text. Default `localhost:4317`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Spans to sample of each million that have no sampled parent. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_rate_per_million: Option<i32>,
}

/// `userNamespaces`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UserNamespaces {
    /// UIDs and GIDs that each pod with a user namespace gets: a multiple of 65536, below 2^32. Default 65536.
    #[serde(rename = "idsPerPod", skip_serializing_if = "Option::is_none")]
    pub ids_per_pod: Option<i64>,
}
