//! Gates of earlier releases that distributions still set.

/// Gates that 1.36 does not have any more. What they turned on is there for good, or gone with them. Only those that a
/// configuration of a distribution has and the kubelet of `tests/distributions.rs` let pass; any other unknown gate is
/// refused.
const REMOVED: &[&str] = &["DynamicKubeletConfig", "ExpandCSIVolumes", "IdentifyPodOS"];

/// Whether 1.36 has no gate of this name, and it is passed over nevertheless.
pub fn is_removed(name: &str) -> bool {
    REMOVED.contains(&name)
}
