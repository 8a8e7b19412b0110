//! Whether a node takes a pod, in the kubelet's words.
//!
//! Owns the checks that a kubelet makes itself, whoever has bound the pod; what the node has for pods, and
//! what those that were taken hold of it. Must not know what becomes of a pod that is
//! rejected, nor where the facts come from. Rule: upstream `pkg/kubelet/lifecycle/predicate.go`.

mod affinity;
mod allocations;
mod apparmor;
mod fit;
mod ports;
mod resources;
mod sysctls;
mod taints;

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_model::core::{Pod, PodSpec, Taint};
use kube_model::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_model::pod;
use kube_model::resources::is_critical;

pub use allocations::Allocations;
pub use resources::{Amounts, Measured, NodeResources, Reservations, Resources};
pub use sysctls::{NotNamespaced, SysctlAllowlist};

/// The reason of a pod whose ports of the node others have.
const PORTS: &str = "NodePorts";
/// The label of a pod or node that names its operating system.
const OS_LABEL: &str = "kubernetes.io/os";
const OS: &str = "linux";

/// The node, as far as pods are chosen by it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What pods can have of it, by resource. One that is not listed is not there.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Whether the runtime knows `supplementalGroupsPolicy`.
    pub supplemental_groups_policy: bool,
    /// What its kernel and its configuration allow.
    pub host: Arc<Host>,
}

/// What a node can do for pods, whatever the API server says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// The kernel parameters that pods may set.
    pub sysctls: SysctlAllowlist,
    /// Whether the kernel enforces AppArmor profiles.
    pub apparmor: bool,
}

/// Why a node does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The Kubernetes reason, such as `OutOfcpu`.
    pub reason: String,
    /// What it lacks, in the kubelet's words.
    pub message: String,
}

impl Rejection {
    fn of_predicate(name: &str, text: &str) -> Self {
        Self { reason: name.to_owned(), message: format!("Predicate {name} failed: {text}") }
    }

    /// Whether it may be due to old news of the node's labels or taints.
    pub fn may_be_old_news(&self) -> bool {
        [affinity::NAME, taints::NAME].contains(&self.reason.as_str())
    }
}

/// Whether a pod that was turned away for this reason might be taken with fewer others beside it.
pub fn is_for_others(reason: &str) -> bool {
    reason.starts_with(fit::PREFIX) || [PORTS, fit::NOBODY_PREEMPTED].contains(&reason)
}

/// Whether `node` takes `pod` beside `others`, of which it is not one.
///
/// # Errors
/// The first reason against it.
pub fn admit(pod: &Pod, node: &Node, others: &Allocations) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    node.host.sysctls.admits(spec)?;
    operating_system(pod)?;
    supplemental_groups(spec, node)?;
    let lacking = fit::lacking(spec, node, others);
    let mut unfit = Vec::new();
    if !affinity::matches(spec, node) {
        unfit.push(Rejection::of_predicate(
            affinity::NAME,
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    if others.conflicts_with_ports_of(spec) {
        unfit.push(Rejection::of_predicate(
            PORTS,
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    // What runs a static pod is not the cluster's to say.
    if !pod::is_static(pod) && !taints::tolerated(spec, &node.taints) {
        unfit.push(Rejection::of_predicate(taints::NAME, "node(s) had taints that the pod didn't tolerate"));
    }
    if is_critical(pod) {
        // For these others have to make room, which helps against nothing else.
        unfit.extend(fit::nobody_preempted(&lacking));
    } else {
        unfit.splice(0..0, lacking.iter().map(fit::Lack::rejection));
    }
    unfit.into_iter().next().map_or(Ok(()), Err)?;
    apparmor::admits(pod, spec, node.host.apparmor)
}

/// Rule: upstream `rejectPodAdmissionBasedOnSupplementalGroupsPolicy`.
fn supplemental_groups(spec: &PodSpec, node: &Node) -> Result<(), Rejection> {
    let policy = spec.security_context.as_ref().and_then(|c| c.supplemental_groups_policy.as_deref());
    if policy != Some("Strict") || node.supplemental_groups_policy {
        return Ok(());
    }
    Err(Rejection {
        reason: "SupplementalGroupsPolicyNotSupported".to_owned(),
        message: "SupplementalGroupsPolicy=Strict is not supported in this node".to_owned(),
    })
}

fn operating_system(pod: &Pod) -> Result<(), Rejection> {
    let rejection = |reason: &str, message: &str| {
        Err(Rejection { reason: reason.to_owned(), message: message.to_owned() })
    };
    if pod.metadata.labels.as_ref().and_then(|labels| labels.get(OS_LABEL)).is_some_and(|os| os != OS) {
        return rejection(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    if pod.spec.as_ref().and_then(|spec| spec.os.as_ref()).is_some_and(|os| os.name != OS) {
        return rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    Ok(())
}

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
