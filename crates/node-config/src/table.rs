//! The tables of flags: one row a flag. Adding a flag is adding a row, the field that it sets and, when the
//! agent heeds it, a line in [`Settings`](crate::Settings).

mod agent;
mod pod;

use std::collections::BTreeMap;

use kube_model::duration::GoDuration;

use crate::config::{Effect, KubeletConfiguration};
use crate::flag::{Field, Flag, Slot, Standing, WITHOUT_EFFECT, field};
use crate::value::Version;

pub use agent::AGENT;
pub use pod::{EXEC, LOGS, PORT_FORWARD, PodFlags};

/// What the agent's flags set.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentFlags {
    /// What is not part of the configuration.
    pub flags: KubeletFlags,
    /// The configuration.
    pub config: KubeletConfiguration,
}

impl Default for AgentFlags {
    /// Without a configuration file.
    fn default() -> Self {
        Self { flags: KubeletFlags::default(), config: KubeletConfiguration::legacy() }
    }
}

/// What can be set on the command line only. The default is zero everywhere, as in Go; the flags' defaults stand
/// in [`AGENT`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the flag of the same name")]
pub struct KubeletFlags {
    pub bootstrap_kubeconfig: String,
    pub cert_dir: String,
    pub cloud_provider: String,
    pub config: String,
    pub config_dir: String,
    pub exit_on_lock_contention: bool,
    pub help: bool,
    pub hostname_override: String,
    pub housekeeping_interval: GoDuration,
    pub image_credential_provider_bin_dir: String,
    pub image_credential_provider_config: String,
    pub kubeconfig: String,
    pub lock_file: String,
    pub manifest_server_address: String,
    pub manifest_server_anonymous: bool,
    pub manifest_server_client_ca_file: String,
    pub manifest_server_tls_cert_file: String,
    pub manifest_server_tls_private_key_file: String,
    pub manifest_server_token_file: String,
    pub manifest_url_ca_file: String,
    pub manifest_url_redirects: String,
    pub max_housekeeping_interval: GoDuration,
    pub node_ip: String,
    pub node_labels: BTreeMap<String, String>,
    pub root_dir: String,
    pub runtime_cgroups: String,
    pub seccomp_default: bool,
    pub streams_need_create: bool,
    pub version: Version,
    pub watch_config: bool,
}

/// Fixes the type that a row's closure takes.
const fn at<V>(get: fn(&mut AgentFlags) -> &mut V) -> Field<AgentFlags, V> {
    field(get)
}

/// A flag of the kubelet that is not deprecated.
const fn kubelet<T>(
    name: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    let (effect, standing) = (Effect::Done, Standing::Kubelet);
    Flag { name, short: None, default, help, field: None, standing, effect, instead: "", slot }
}

/// A flag of the kubelet for which it prefers the configuration field `field`.
const fn deprecated<T>(
    name: &'static str,
    field: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { field: Some(field), standing: Standing::Deprecated, ..kubelet(name, default, slot, help) }
}

/// A flag of the kubelet for the configuration field `field` that is not deprecated.
const fn configured<T>(
    name: &'static str,
    field: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { standing: Standing::Kubelet, ..deprecated(name, field, default, slot, help) }
}

/// A flag of the kubelet that this agent does nothing with yet.
const fn not_yet<T>(
    name: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { effect: Effect::NotYet, ..kubelet(name, default, slot, help) }
}

/// A flag of the kubelet that this agent does only a part of; the rest is `missing`.
const fn partly<T>(missing: &'static str, flag: Flag<T>) -> Flag<T> {
    Flag { effect: Effect::Partly(missing), ..flag }
}

/// A flag of the kubelet that nobody should use any more, and that does nothing here.
const fn gone<T>(name: &'static str, default: &'static str, slot: &'static dyn Slot<T>) -> Flag<T> {
    Flag { standing: Standing::Deprecated, ..not_yet(name, default, slot, WITHOUT_EFFECT) }
}

/// A deprecated flag of the kubelet for which it names something else, and that this agent does nothing with yet.
const fn replaced<T>(
    name: &'static str,
    default: &'static str,
    instead: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { standing: Standing::Deprecated, instead, ..not_yet(name, default, slot, help) }
}

/// A flag of ours.
const fn own<T>(
    name: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { standing: Standing::Ours, ..kubelet(name, default, slot, help) }
}

/// A flag of ours for the configuration field `field`.
const fn ours<T>(
    name: &'static str,
    field: &'static str,
    default: &'static str,
    slot: &'static dyn Slot<T>,
    help: &'static str,
) -> Flag<T> {
    Flag { standing: Standing::Ours, ..deprecated(name, field, default, slot, help) }
}

const fn help<T>(slot: &'static dyn Slot<T>) -> Flag<T> {
    Flag { short: Some('h'), ..kubelet("help", "false", slot, "show this help") }
}

/// What was typed for the commands that ask the running agent: `pods`, `explain` and `sources`.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each field is the flag of the same name")]
pub struct ViewFlags {
    pub help: bool,
    pub output: String,
    pub root_dir: String,
    pub watch: bool,
}

const fn view<V>(get: fn(&mut ViewFlags) -> &mut V) -> Field<ViewFlags, V> {
    field(get)
}

const ROOT_DIR: Flag<ViewFlags> = kubelet(
    "root-dir",
    "/var/lib/kubelet",
    &view(|f| &mut f.root_dir),
    "the --root-dir of the running agent",
);

/// The flags of `node-agent pods`.
#[rustfmt::skip]
pub static PODS: &[Flag<ViewFlags>] = &[
    help(&view(|f| &mut f.help)),
    Flag { short: Some('o'), ..kubelet("output", "", &view(|f| &mut f.output), "`format`: json, yaml or wide") },
    ROOT_DIR,
    Flag { short: Some('w'), ..kubelet("watch", "false", &view(|f| &mut f.watch), "go on and show changes") },
];

/// The flags of `node-agent explain`.
#[rustfmt::skip]
pub static EXPLAIN: &[Flag<ViewFlags>] = &[
    help(&view(|f| &mut f.help)),
    Flag { short: Some('o'), ..kubelet("output", "", &view(|f| &mut f.output), "`format`: json or yaml") },
    ROOT_DIR,
];

/// The flags of `node-agent sources`.
#[rustfmt::skip]
pub static SOURCES: &[Flag<ViewFlags>] = &[
    help(&view(|f| &mut f.help)),
    Flag { short: Some('o'), ..kubelet("output", "", &view(|f| &mut f.output), "`format`: json, yaml or wide") },
    ROOT_DIR,
];

/// What was typed for `node-agent validate`.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each field is the flag of the same name")]
pub struct ValidateFlags {
    pub help: bool,
    pub output: String,
}

/// The flags of `node-agent validate`.
#[rustfmt::skip]
pub static VALIDATE: &[Flag<ValidateFlags>] = &[
    help(&field(|f: &mut ValidateFlags| &mut f.help)),
    Flag { short: Some('o'), ..kubelet("output", "", &field(|f: &mut ValidateFlags| &mut f.output), "`format`: json") },
];

/// The flags of `node-agent completion`.
pub static COMPLETION: &[Flag<bool>] = &[help(&field(|help: &mut bool| help))];

#[cfg(test)]
mod tests;
