//! Whether the pod's sandbox can be used, or has to be replaced (upstream `pkg/kubelet/kuberuntime/util/util.go`
//! `PodSandboxChanged`).

use kube_model::observed::{ContainerState, Sandbox, SandboxState};
use kube_model::pod::{self, ContainerKind};

use crate::context::Context;
use crate::restart::{self, Verdict};

/// The sandbox to run containers in, or the attempt number of the one to create.
///
/// A new one is needed if there is none, more than one is ready, the newest is not, the network mode changed,
/// or a pod network is wanted and there is no IP.
pub(crate) fn usable(cx: Context<'_>) -> Result<&Sandbox, u32> {
    let sandboxes = &cx.inputs.observed.sandboxes;
    let Some(newest) = sandboxes.first() else { return Err(0) };
    let ready = sandboxes.iter().filter(|s| s.state == SandboxState::Ready).count();
    let host_network = pod::host_network(cx.spec);
    let usable = newest.state == SandboxState::Ready
        && ready == 1
        && newest.host_network == host_network
        && (host_network || !newest.ips.is_empty());
    if usable { Ok(newest) } else { Err(newest.attempt.saturating_add(1)) }
}

/// Whether a new sandbox makes sense: not when nothing may run a second time, nor when every regular container
/// is done for good, be it gone or lost: nothing would run in it, and it would be stopped at once. A changed
/// container always makes sense.
pub(crate) fn may_be_created(cx: Context<'_>, attempt: u32) -> bool {
    let observed = cx.inputs.observed;
    let once_only = attempt != 0 && !observed.containers.is_empty() && !restart::any_may_restart(cx.spec);
    cx.spec.containers.iter().any(|c| match cx.newest(&c.name) {
        Some(i) if i.state == ContainerState::Exited => restart::restarts(cx, ContainerKind::Regular, c, i),
        _ => !once_only && restart::verdict(cx, ContainerKind::Regular, c) != Verdict::Done,
    })
}
