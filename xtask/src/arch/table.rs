//! The layer table: which crate stands where, and which of ours it may use.

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// In the product, by layer.
    Layer(u8),
    /// Tests, examples and tools: may use everything, and nothing of the product may use them.
    Outside(&'static str),
}

/// One row of the table.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) level: Level,
    /// `None`: everything on lower layers.
    pub(super) uses: Option<&'static [&'static str]>,
}

const fn row(name: &'static str, layer: u8, uses: &'static [&'static str]) -> Row {
    Row { name, level: Level::Layer(layer), uses: Some(uses) }
}

const fn outside(name: &'static str, kind: &'static str) -> Row {
    Row { name, level: Level::Outside(kind), uses: None }
}

/// A crate may use lower layers only, as listed. A new crate gets its row here first.
pub(super) const TABLE: &[Row] = &[
    row("kube-model", 0, &[]),
    row("node-config", 0, &["kube-model"]),
    row("node-proto", 0, &[]),
    row("util", 0, &[]),
    row("admission", 1, &["kube-model"]),
    row("cri-config", 1, &["kube-model", "node-proto"]),
    row("manifest", 1, &["kube-model"]),
    row("metrics", 1, &["kube-model"]),
    row("pod-lifecycle", 1, &["kube-model", "util"]),
    row("pod-manager", 1, &["kube-model"]),
    row("volume-plan", 1, &["kube-model", "util"]),
    row("apiserver-sync", 2, &["kube-model", "reload", "util"]),
    row("certs", 2, &["kube-model", "metrics", "util"]),
    row("cgroups", 2, &["kube-model", "util"]),
    row("cri-client", 2, &["kube-model", "node-proto", "util"]),
    row("csi", 2, &["kube-model", "metrics", "node-proto", "util"]),
    row("images", 2, &["kube-model", "util"]),
    row("logging", 2, &["kube-model", "util"]),
    row("pod-api", 2, &["kube-model", "manifest", "reload", "serving", "util"]),
    row("podsource", 2, &["kube-model", "manifest", "pod-api", "pod-manager", "util"]),
    row("reload", 2, &["util"]),
    row("serving", 2, &["util"]),
    row("stats", 2, &["kube-model", "node-proto"]),
    row("volume-fs", 2, &["util"]),
    row("volumes", 2, &["csi", "kube-model", "metrics", "util", "volume-fs", "volume-plan"]),
    row("node-reporter", 3, &["admission", "kube-model", "metrics", "util"]),
    row("pod-workers", 3, &["admission", "kube-model", "metrics", "pod-lifecycle", "pod-manager", "util"]),
    row("prober", 3, &["kube-model", "metrics", "util"]),
    row("server", 3, &["kube-model", "metrics", "reload", "serving", "util"]),
    row(
        "kuberuntime",
        4,
        &[
            "admission",
            "apiserver-sync",
            "cgroups",
            "cri-client",
            "cri-config",
            "images",
            "kube-model",
            "metrics",
            "pod-lifecycle",
            "pod-workers",
            "prober",
            "server",
            "stats",
            "util",
            "volume-fs",
            "volume-plan",
            "volumes",
        ],
    ),
    row("pleg", 4, &["cri-client", "cri-config", "kube-model", "kuberuntime", "pod-workers", "util"]),
    Row { name: "agent", level: Level::Layer(5), uses: None },
    row("cli", 5, &["kube-model", "manifest", "node-config", "podsource", "server", "util"]),
    row("node-agent", 6, &["agent", "cli", "logging", "node-config"]),
    outside("crictl-ps", "example"),
    outside("integration", "test"),
    outside("testkit", "test"),
    outside("xtask", "tool"),
];

/// Dependencies of others that a crate of these layers may not have, and why.
pub(super) struct Foreign {
    pub(super) names: &'static [&'static str],
    pub(super) layers: std::ops::RangeInclusive<u8>,
    pub(super) why: &'static str,
}

pub(super) const FOREIGN: &[Foreign] = &[
    Foreign {
        names: &[
            "tokio",
            "tokio-util",
            "tokio-stream",
            "futures",
            "tracing",
            "rand",
            "hyper",
            "inotify",
            "rustix",
            "libc",
        ],
        layers: 0..=1,
        why: "layers 0 and 1 are pure: no runtime, clock, system calls, randomness or logging",
    },
    Foreign { names: &["anyhow"], layers: 0..=5, why: "libraries have typed errors (thiserror)" },
];

/// The row of a crate.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_uses_only_crates_of_the_table_on_lower_layers() {
        for row in TABLE {
            let Level::Layer(layer) = row.level else { continue };
            for used in row.uses.unwrap_or_default() {
                let below = find(used).map(|r| r.level);
                let lower = matches!(below, Some(Level::Layer(l)) if l < layer)
                    // The configuration model speaks in quantities and durations; the pod API is one of the sources,
                    // and has connections as other servers do; the PLEG asks the runtime manager, as upstream's does; what
                    // volumes need of Linux, and how drivers are called, stands in rooms of its own; files change under clients and servers alike.
                    || [
                        ("node-config", "kube-model"),
                        ("apiserver-sync", "reload"),
                        ("pod-api", "reload"),
                        ("pod-api", "serving"),
                        ("podsource", "pod-api"),
                        ("pleg", "kuberuntime"),
                        ("volumes", "csi"),
                        ("volumes", "volume-fs"),
                    ]
                    .contains(&(row.name, *used));
                assert!(lower, "{} uses {used}, which stands at {below:?}", row.name);
            }
        }
    }

    #[test]
    fn layer_3_never_names_layer_2() {
        for row in TABLE.iter().filter(|r| r.level == Level::Layer(3)) {
            // What is below HTTP, and its own files, are a server's own matter.
            for used in row.uses.unwrap().iter().filter(|used| !["reload", "serving"].contains(used)) {
                assert_ne!(find(used).unwrap().level, Level::Layer(2), "{} uses {used}", row.name);
            }
        }
    }
}
