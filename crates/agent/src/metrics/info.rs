//! What does not change while the agent runs, said as metrics.

use std::env::consts::OS;

use ::metrics::{Kind, Text};
use node_config::gates::{Gate, Gates};

/// The release whose kubelet this is, as `kubectl` and dashboards read it.
pub(crate) fn write_build(out: &mut Text) {
    let version = node_config::KUBERNETES_VERSION;
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let arch = stats::machine::architecture();
    let name = "kubernetes_build_info";
    out.metric(name, Kind::Gauge, "[ALPHA] The release of Kubernetes that this agent follows; always 1");
    let labels = [
        ("build_date", ""),
        ("compiler", "rustc"),
        ("git_commit", ""),
        ("git_tree_state", ""),
        ("git_version", &format!("v{version}+node-agent.{}", env!("CARGO_PKG_VERSION"))),
        ("go_version", ""),
        ("major", major),
        ("minor", minor),
        ("platform", &format!("{OS}/{arch}")),
    ];
    out.sample(name, &labels, 1);
}

/// All feature gates as they are set, built or not.
pub(crate) fn write_gates(out: &mut Text, gates: &Gates) {
    let name = "kubernetes_feature_enabled";
    out.metric(name, Kind::Gauge, "[BETA] Whether a feature gate is on, by its name and stage");
    for gate in Gate::all() {
        let stage = gate.spec().stage.to_string();
        let labels = [("name", gate.spec().name), ("stage", &*stage)];
        out.sample(name, &labels, u8::from(gates.enabled(gate)));
    }
}

/// `version` is 1 or 2.
pub(crate) fn write_cgroup_version(out: &mut Text, version: u8) {
    let name = "kubelet_cgroup_version";
    out.metric(name, Kind::Gauge, "[ALPHA] The version of cgroups that the node has");
    out.sample(name, &[], version);
}

/// The mirror pods that the API server has of this node.
pub(crate) fn write_mirrors(out: &mut Text, count: usize) {
    let name = "kubelet_mirror_pods";
    out.metric(name, Kind::Gauge, "[ALPHA] Mirror pods of static pods");
    out.sample(name, &[], count);
}
