//! Stopping containers side by side, each in its turn.
//! Rule: upstream `pkg/kubelet/kuberuntime/kuberuntime_container.go` `killContainer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube_model::core::Pod;
use kube_model::observed::ObservedPod;
use kube_model::view::EventType;
use pod_lifecycle::{Action, StopCause};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::pod_status::{Reporter, SharedStatus};
use crate::traits::{Runtime, StepError};

/// Stops containers; all their preStop hooks run at once, the signals wait for their turns. One budget of time, from
/// now on, is for all of that. Returns the first failure.
pub(super) async fn side_by_side<R: Runtime>(
    runtime: &R,
    status: &Arc<SharedStatus>,
    pod: &Arc<Pod>,
    observed: &ObservedPod,
    stops: &[Action],
) -> Result<(), StepError> {
    let began = Instant::now();
    let mut running = BTreeMap::<u32, usize>::new();
    for stop in stops {
        if let Action::StopContainer { turn, .. } = stop {
            *running.entry(*turn).or_default() += 1;
        }
    }
    // How many of each turn have not ended yet.
    let running = &watch::Sender::new(running);
    let all = stops.iter().map(|stop| async move {
        let Action::StopContainer { id, name, grace_seconds, cause, turn } = stop else { return Ok(()) };
        if let Some(container) = observed.containers.iter().find(|c| c.id == *id) {
            let reporter = Reporter::new(Arc::clone(status), Some(name));
            reporter.event(EventType::Normal, "Killing", killing(name, *cause));
            // What the runtime has lost track of has nothing left to run a hook in.
            if *cause != StopCause::StateUnknown {
                runtime.pre_stop(pod, container, *grace_seconds, &reporter).await;
            }
            let grace = Duration::from_secs(u64::try_from(*grace_seconds).unwrap_or(0));
            let mut others = running.subscribe();
            let its_turn = others.wait_for(|left| left.range(..*turn).all(|(_, count)| *count == 0));
            // Over with the grace period: then all go at once. The sending side outlives this.
            let _ = timeout_at(began + grace, its_turn).await;
            let used = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
            runtime.stop_container(&observed.uid, container, grace_seconds.saturating_sub(used)).await?;
        }
        running.send_modify(|left| {
            left.entry(*turn).and_modify(|count| *count -= 1);
        });
        Ok(())
    });
    join_all(all).await.into_iter().collect()
}

/// The text of the `Killing` event, as the kubelet words it.
fn killing(name: &str, cause: StopCause) -> String {
    match cause {
        StopCause::PodRemoved | StopCause::PodEnded => format!("Stopping container {name}"),
        StopCause::SandboxChanged => {
            format!("Stopping container {name}: pod sandbox changed, it will be killed and re-created")
        }
        StopCause::DefinitionChanged => {
            format!("Container {name} definition changed, will be restarted")
        }
        StopCause::LivenessFailed => format!("Container {name} failed liveness probe, will be restarted"),
        StopCause::StartupFailed => format!("Container {name} failed startup probe, will be restarted"),
        StopCause::StateUnknown => {
            format!("Container {name} is in unknown state, try killing it before restart")
        }
        StopCause::NotInSpec => format!("Container {name} is not in the pod's spec, stopping it"),
    }
}
