//! What the runtime has of pods that have ended: dead, and not to be removed for now. Nothing waits for it; a pod of the
//! same name, or the same one again, may run meanwhile. Counterpart: upstream
//! `pkg/kubelet/kuberuntime/kuberuntime_gc.go`.

use std::time::Duration;

use kube_model::observed::SandboxState;
use kube_model::{PodKey, PodUid};
use util::Backoff;

use super::Workers;
use crate::pods::Entry;
use crate::state::WorkerState;
use crate::traits::{CleanUp, Probes, Runtime, StepError};

/// Before each attempt.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));

/// What an attempt came to.
enum Attempt {
    /// The runtime has forgotten all of it.
    Done,
    /// The pod is there again, so that its own actor sees to it for now.
    Claimed,
    /// Something of it runs: it is no garbage.
    Alive,
}

impl<R: Runtime, P: Probes> Workers<R, P> {
    /// Removes what is left of a pod, however often that has to be tried.
    pub(super) fn collect_garbage(&self, uid: PodUid, key: PodKey) {
        let (workers, stop) = (self.clone(), self.inner.stop.clone());
        self.inner.tasks.spawn(stop.run_until_cancelled_owned(async move {
            tracing::warn!(pod = %key, %uid, "the pod has ended, and the runtime keeps what is dead of it for now");
            let mut pauses = PAUSES;
            loop {
                tokio::time::sleep(pauses.failed()).await;
                match workers.try_to_collect(&uid, &key).await {
                    Ok(Attempt::Claimed) => {}
                    Ok(Attempt::Alive) => {
                        return workers.decide(|pods, now| {
                            pods.garbage_collected(&uid);
                            pods.settle(now)
                        });
                    }
                    Ok(Attempt::Done) => {
                        tracing::info!(pod = %key, %uid, "the runtime has forgotten what was left of the pod");
                        workers.inner.lock().pods.garbage_collected(&uid);
                        return;
                    }
                    Err(error) => tracing::debug!(pod = %key, %uid, "still left: {}", util::causes(&error)),
                }
            }
        }));
    }

    async fn try_to_collect(&self, uid: &PodUid, key: &PodKey) -> Result<Attempt, StepError> {
        let runtime = &self.inner.context.runtime;
        let pod = runtime.observe(uid, key).await?.pod;
        // Asked afterwards: so nothing that was seen is of an actor that began meanwhile.
        let is_finished = |entry: &Entry| entry.desired.state == WorkerState::Finished;
        if self.inner.lock().pods.get(uid).is_some_and(|entry| !is_finished(entry)) {
            return Ok(Attempt::Claimed);
        }
        if pod.any_running() || pod.sandboxes.iter().any(|s| s.state == SandboxState::Ready) {
            return Ok(Attempt::Alive);
        }
        let mut failed = None;
        for container in &pod.containers {
            failed = runtime.remove_container(&pod, container).await.err().or(failed);
        }
        for sandbox in &pod.sandboxes {
            failed = runtime.remove_sandbox(uid, &sandbox.id).await.err().or(failed);
        }
        match failed {
            Some(error) => Err(error),
            None => runtime.clean_up(uid, key, CleanUp::Forgotten).await.map(|()| Attempt::Done),
        }
    }
}
