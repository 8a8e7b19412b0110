//! Feature gates: what a configuration sets becomes which are on.
//!
//! Owns the table of gates, the meaning of `AllAlpha` and `AllBeta`, and the rules for setting them (upstream
//! `k8s.io/component-base/featuregate/feature_gate.go`, `pkg/features/kube_features.go`). Must not know what any gate does:
//! whoever does a thing asks [`Gates::enabled`].

use std::collections::BTreeMap;
use std::fmt;

mod removed;
mod table;

pub use removed::is_removed;
pub use table::Gate;
use table::TABLE;

/// The gates that do in this agent what they do in the kubelet. To build a gate is to name it here; setting any
/// other one is accepted and reported by [`Gates::without_effect`].
const BUILT: &[Gate] = &[
    Gate::AllAlpha,
    Gate::AllBeta,
    Gate::CustomCPUCFSQuotaPeriod,
    Gate::ExtendWebSocketsToKubelet,
    Gate::LoggingAlphaOptions,
    Gate::LoggingBetaOptions,
    Gate::NodeDeclaredFeatures,
];

/// The built gates whose features a Node declares, so that API server and scheduler use them (upstream
/// `pkg/kubelet/nodestatus/setters.go` `DeclaredFeatures`).
const DECLARED: &[Gate] = &[Gate::ExtendWebSocketsToKubelet];

/// How settled the thing behind a gate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// May change or go at any time.
    Alpha,
    /// Will stay in some form.
    Beta,
    /// Stays; the gate goes a few releases later.
    GA,
    /// Goes, with its gate.
    Deprecated,
}

impl fmt::Display for Stage {
    /// The label `stage` of the metric `kubernetes_feature_enabled`: empty for [`Stage::GA`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
            Self::GA => "",
            Self::Deprecated => "DEPRECATED",
        })
    }
}

/// What is known of one gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// The gate.
    pub gate: Gate,
    /// Its name.
    pub name: &'static str,
    /// How settled it is.
    pub stage: Stage,
    /// Whether it is on when nobody sets it.
    pub default: bool,
    /// Whether it cannot be set to anything but its default.
    pub locked: bool,
    /// The minor version of Kubernetes 1 since which stage, default and lock are so; 0: from the start.
    pub since: u8,
    /// The gates that must be on when this one is.
    pub needs: &'static [Gate],
}

impl Gate {
    /// All gates, sorted by name.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        TABLE.iter().map(|spec| spec.gate)
    }

    /// The gate of this name; case matters.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.binary_search_by_key(&name, |spec| spec.name).ok().map(|index| TABLE[index].gate)
    }

    /// What is known of it.
    pub fn spec(self) -> &'static Spec {
        &TABLE[self as usize]
    }

    /// Whether setting it does in this agent what it does in the kubelet.
    pub fn built(self) -> bool {
        BUILT.contains(&self)
    }

    /// Its line in the help of `--feature-gates`; none for gates that are not meant to be set any more.
    pub fn help(self) -> Option<String> {
        let Spec { name, stage, default, .. } = self.spec();
        matches!(stage, Stage::Alpha | Stage::Beta)
            .then(|| format!("{name}=true|false ({stage} - default={default})"))
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().name)
    }
}

/// Why gates cannot be set so. The words are component-base's, which the kubelet uses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// No gate has this name.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    /// The gate has one value only.
    #[error("cannot set feature gate {gate} to {value}, feature is locked to {}", !.value)]
    Locked {
        /// The gate.
        gate: Gate,
        /// What it was set to.
        value: bool,
    },
    /// A gate is on, and others without which it cannot work are off.
    #[error("{gate} is enabled, but depends on features that are disabled: [{}]", Names(.off))]
    Needs {
        /// The gate that is on.
        gate: Gate,
        /// Those that are off.
        off: Vec<Gate>,
    },
}

impl GateError {
    /// The name under `featureGates` that is to be changed.
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown(name) => name,
            Self::Locked { gate, .. } | Self::Needs { gate, .. } => gate.spec().name,
        }
    }
}

struct Names<'a>(&'a [Gate]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, gate) in self.0.iter().enumerate() {
            write!(f, "{}{gate}", if index > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

/// What `--feature-gates` and the configuration's `featureGates` make together: gate by gate, the flag wins
/// (upstream `cmd/kubelet/app/server.go`; the only map for which it is so).
pub fn merge(config: &BTreeMap<String, bool>, flags: &BTreeMap<String, bool>) -> BTreeMap<String, bool> {
    config.iter().chain(flags).map(|(name, on)| (name.clone(), *on)).collect()
}

/// Which gates are on.
#[derive(Clone, PartialEq, Eq)]
pub struct Gates {
    on: [bool; TABLE.len()],
}

impl Default for Gates {
    fn default() -> Self {
        Self { on: std::array::from_fn(|index| TABLE[index].default) }
    }
}

impl fmt::Debug for Gates {
    /// The gates that are not at their defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.changed().map(|gate| (gate, self.enabled(gate)))).finish()
    }
}

impl Gates {
    /// The gates after `set`. `AllAlpha` and `AllBeta` count for those of their stage that are not named.
    ///
    /// # Errors
    /// All unknown and locked gates; when there are none, all whose needs are not met.
    pub fn new(set: &BTreeMap<String, bool>) -> Result<Self, Vec<GateError>> {
        let mut errors = Vec::new();
        let mut named = BTreeMap::new();
        for (name, &value) in set {
            match Gate::named(name) {
                None if removed::is_removed(name) => {}
                None => errors.push(GateError::Unknown(name.clone())),
                Some(gate) if gate.spec().locked && gate.spec().default != value => {
                    errors.push(GateError::Locked { gate, value });
                }
                Some(gate) => {
                    named.insert(gate, value);
                }
            }
        }
        let of_stage = |stage| match stage {
            Stage::Alpha => named.get(&Gate::AllAlpha),
            Stage::Beta => named.get(&Gate::AllBeta),
            Stage::GA | Stage::Deprecated => None,
        };
        let gates = Self {
            on: std::array::from_fn(|index| {
                let Spec { gate, stage, default, .. } = TABLE[index];
                let all = of_stage(stage).filter(|_| !matches!(gate, Gate::AllAlpha | Gate::AllBeta));
                *named.get(&gate).or(all).unwrap_or(&default)
            }),
        };
        if errors.is_empty() {
            errors.extend(Gate::all().filter(|&gate| gates.enabled(gate)).filter_map(|gate| {
                let off: Vec<_> =
                    gate.spec().needs.iter().copied().filter(|&needed| !gates.enabled(needed)).collect();
                (!off.is_empty()).then_some(GateError::Needs { gate, off })
            }));
        }
        if errors.is_empty() { Ok(gates) } else { Err(errors) }
    }

    /// Whether `gate` is on.
    pub fn enabled(&self, gate: Gate) -> bool {
        self.on[gate as usize]
    }

    /// The gates that are not at their defaults, by name.
    pub fn changed(&self) -> impl Iterator<Item = Gate> {
        Gate::all().filter(|&gate| self.enabled(gate) != gate.spec().default)
    }

    /// The features that the Node declares, by name.
    pub fn declared_features(&self) -> Vec<String> {
        let declared =
            DECLARED.iter().filter(|&&gate| self.enabled(Gate::NodeDeclaredFeatures) && self.enabled(gate));
        declared.map(ToString::to_string).collect()
    }

    /// The gates that are not at their defaults and whose setting has no effect in this agent, by name: to be
    /// told once at start.
    pub fn without_effect(&self) -> impl Iterator<Item = Gate> {
        self.changed().filter(|gate| !gate.built())
    }
}

#[cfg(test)]
mod tests;
