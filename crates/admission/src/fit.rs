//! Resources: what a pod requests beside what the others do. Rule: upstream
//! `pkg/scheduler/framework/plugins/noderesources` `Fits`, and `pkg/kubelet/preemption` for critical pods.

use kube_model::core::PodSpec;
use kube_model::quantity::Quantity;
use kube_model::resources::{CPU, MEMORY, requests};

use crate::{Allocations, Node, Rejection};

pub(crate) const PODS: &str = "pods";
pub(crate) const STORAGE: &str = "ephemeral-storage";

/// The reason of a pod that does not fit begins with this; the resource follows.
pub(crate) const PREFIX: &str = "OutOf";
/// The reason of a critical pod that does not fit.
pub(crate) const NOBODY_PREEMPTED: &str = "UnexpectedAdmissionError";

/// A resource of which there is not enough: thousandths of a core for `cpu`, else bytes or a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lack {
    resource: String,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl Lack {
    pub(crate) fn rejection(&self) -> Rejection {
        let Self { resource, requested, used, capacity } = self;
        let message = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        Rejection { reason: format!("{PREFIX}{resource}"), message }
    }

    fn missing(&self) -> i64 {
        self.requested.saturating_sub(self.capacity.saturating_sub(self.used))
    }
}

/// What there is not enough of: first the number of pods, then CPU, memory and storage, then the rest.
pub(crate) fn lacking(spec: &PodSpec, node: &Node, others: &Allocations) -> Vec<Lack> {
    let requested = requests(spec);
    let requested = requested.iter().map(|(name, nanos)| (name, amount(name, nanos)));
    let mut all: Vec<_> = std::iter::once((PODS, 1)).chain(requested).filter(|(_, n)| *n > 0).collect();
    all.sort_by_key(|(name, _)| [PODS, CPU, MEMORY, STORAGE].iter().position(|n| n == name).unwrap_or(4));
    let lack = |(name, requested): (&str, i64)| {
        let capacity = match node.allocatable.get(name) {
            Some(quantity) => Quantity::try_from(quantity).map_or(0, |q| amount(name, q.nanos())),
            // A resource of the cluster that this node knows nothing of, or a node that has not been measured.
            None if is_extended(name) || node.allocatable.is_empty() => return None,
            None => 0,
        };
        let used = if name == PODS { others.pods() } else { others.requested(name) };
        let lack = Lack { resource: name.to_owned(), requested, used, capacity };
        (lack.missing() > 0).then_some(lack)
    };
    all.into_iter().filter_map(lack).collect()
}

/// Why a critical pod is not taken that does not fit: no pod is preempted for it yet, so it is as if none could be.
pub(crate) fn nobody_preempted(lacking: &[Lack]) -> Option<Rejection> {
    if lacking.is_empty() {
        return None;
    }
    let missing: String =
        lacking.iter().map(|lack| format!("(res: {}, q: {}), ", lack.resource, lack.missing())).collect();
    let message = format!(
        "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods \
         to preempt: no set of running pods found to reclaim resources: [{missing}]"
    );
    Some(Rejection { reason: NOBODY_PREEMPTED.to_owned(), message })
}

/// Rounded up.
pub(crate) fn amount(name: &str, nanos: i128) -> i64 {
    let unit: i128 = if name == CPU { 1_000_000 } else { 1_000_000_000 };
    let amount = nanos / unit + i128::from(nanos % unit > 0);
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}

/// Whether somebody other than Kubernetes itself has named this resource.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}
