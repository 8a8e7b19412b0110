//! The rules that a whole configuration must keep, checked all at once.
//!
//! Owns what makes a value of the right type wrong all the same: on its own, beside others, with the feature gates,
//! or on this machine (upstream `pkg/kubelet/apis/config/validation/validation.go`). One rule is a row of a table or a
//! function. Must not know where values came from, beyond asking; nor files and flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::config::{KubeletConfiguration, join};
use crate::gates::{Gate, Gates, Stage, is_removed};

pub mod documents;
mod eviction;
mod network;
mod node;
mod pods;
mod reservations;
mod resources;
mod tables;
#[cfg(test)]
mod tests;
mod tls;

pub use node::node_labels;
pub(crate) use resources::cpu_ranges;

/// What the rules need to know of the machine. What is `None` is not known, and no rule fails over it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The version of the control groups: 1 or 2.
    pub cgroup_version: Option<u8>,
    /// The CPUs that are online.
    pub online_cpus: Option<BTreeSet<u32>>,
    /// Whether swap is on.
    pub swap: Option<bool>,
    /// Whether there is an API server (`--kubeconfig`).
    pub api_server: Option<bool>,
    /// What the machine has, by resource: thousandths of a core for `cpu`, else bytes.
    pub capacity: BTreeMap<String, i64>,
    /// Its NUMA nodes.
    pub numa_nodes: Option<BTreeSet<i32>>,
    /// The folders that would have to be there for a cgroup to be, and are not.
    pub missing_cgroup: Option<fn(&str) -> Vec<String>>,
    /// Whether what credential providers need is there, of their configuration and the folder of their programs: the
    /// flag that is wrong, and how.
    pub credential_providers: Option<CredentialProviders>,
}

/// See [`Facts::credential_providers`].
pub type CredentialProviders = fn(&str, &str) -> Result<(), (&'static str, String)>;

/// A value that breaks a rule, or is odd. `O` says where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding<O> {
    /// Path of the field: `evictionHard[memory.available]`, `logging.format`.
    pub field: String,
    /// The value as JSON; a default counts as a value.
    pub value: String,
    /// What was expected, as the end of a sentence: `must be between 0 and 65535`.
    pub rule: String,
    /// Where the value came from.
    pub origin: O,
}

impl<O: fmt::Display> fmt::Display for Finding<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ({})", self.field, self.value, self.rule, self.origin)
    }
}

/// Everything that was found, in the order of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<O> {
    /// What keeps the agent from starting.
    pub errors: Vec<Finding<O>>,
    /// What is accepted but does not do what its author may expect.
    pub warnings: Vec<Finding<O>>,
}

/// Checks `config` after all merging, its feature gates included. `origin` says of the path of a field where its
/// value came from; paths may lead into lists and maps: `registerWithTaints[0].key`.
pub fn validate<O>(config: &KubeletConfiguration, facts: &Facts, origin: impl Fn(&str) -> O) -> Report<O> {
    let mut check = Check::new(config, facts);
    for rule in RULES {
        rule(&mut check);
    }
    let place = |found: Vec<Finding<()>>| {
        let place = |Finding { field, value, rule, origin: () }| {
            let origin = origin(&field);
            Finding { field, value, rule, origin }
        };
        found.into_iter().map(place).collect()
    };
    Report { errors: place(check.errors), warnings: place(check.warnings) }
}

const RULES: &[fn(&mut Check<'_>)] = &[
    gates,
    tables::numbers,
    tables::durations,
    tables::choices,
    pods::image_gc,
    pods::image_pulls,
    pods::image_credentials,
    pods::crash_loop,
    pods::cfs_period,
    pods::run_once,
    pods::shutdown,
    pods::swap,
    pods::logs,
    pods::user_namespaces,
    pods::unsafe_sysctls,
    resources::cgroups,
    resources::enforcement,
    resources::reserved,
    resources::reserved_cpus,
    resources::reserved_memory,
    resources::qos_reserved,
    reservations::within_capacity,
    reservations::static_cpus,
    reservations::static_memory,
    resources::manager_options,
    resources::memory_qos,
    eviction::thresholds,
    node::taints,
    node::metrics_version,
    network::addresses,
    network::endpoints,
    network::manifest_url,
    network::certificates,
    tls::versions,
    tls::cipher_suites,
    tls::key_exchanges,
    network::webhooks,
    network::logging,
    network::system_logs,
    network::tracing,
];

/// A configuration, what its rules need, and what was found so far.
struct Check<'a> {
    config: &'a KubeletConfiguration,
    gates: Gates,
    facts: &'a Facts,
    errors: Vec<Finding<()>>,
    warnings: Vec<Finding<()>>,
}

impl<'a> Check<'a> {
    fn new(config: &'a KubeletConfiguration, facts: &'a Facts) -> Self {
        // With gates that cannot be set, the other rules go by the defaults.
        let gates = Gates::new(&config.feature_gates).unwrap_or_default();
        Self { config, gates, facts, errors: Vec::new(), warnings: Vec::new() }
    }

    fn error(&mut self, field: impl Into<String>, value: &impl Serialize, rule: impl Into<String>) {
        self.errors.push(finding(field, value, rule));
    }

    fn warn(&mut self, field: impl Into<String>, value: &impl Serialize, rule: impl Into<String>) {
        self.warnings.push(finding(field, value, rule));
    }

    fn enabled(&self, gate: Gate) -> bool {
        self.gates.enabled(gate)
    }
}

fn finding(field: impl Into<String>, value: &impl Serialize, rule: impl Into<String>) -> Finding<()> {
    let value = serde_json::to_string(value).unwrap_or_default();
    Finding { field: field.into(), value, rule: rule.into(), origin: () }
}

/// `"a", "b" or "c"`
fn any_of(options: &[&str]) -> String {
    let mut text = String::new();
    for (index, option) in options.iter().enumerate() {
        let before = match index {
            0 => "",
            _ if index + 1 == options.len() => " or ",
            _ => ", ",
        };
        text.push_str(&format!("{before}{option:?}"));
    }
    text
}

fn gates(check: &mut Check<'_>) {
    let set = &check.config.feature_gates;
    for error in Gates::new(set).err().into_iter().flatten() {
        let name = error.name();
        let value = set.get(name).copied().unwrap_or(true);
        check.error(join("featureGates", name), &value, format!("is not possible: {error}"));
    }
    for (name, value) in set {
        let Some(gate) = Gate::named(name) else {
            if is_removed(name) {
                let rule = "is of an earlier release and passed over: unrecognized feature gate";
                check.warn(join("featureGates", name), value, rule);
            }
            continue;
        };
        if matches!(gate.spec().stage, Stage::GA | Stage::Deprecated) {
            check.warn(join("featureGates", name), value, "sets a gate that a future release removes");
        }
    }
}
