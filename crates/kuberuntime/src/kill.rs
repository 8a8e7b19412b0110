//! What the runtime fails to stop or remove: its processes are killed, and the runtime is asked once more.
//!
//! A runtime that was interrupted in starting a container may be left with a process that it takes for neither running
//! nor gone, and refuse each time to remove it.

use cri_client::{Error, ErrorKind};
use kube_model::PodUid;
use pod_lifecycle::FailureReason;
use pod_workers::StepError;

use super::{CriRuntime, failed, gone_is_done};

impl CriRuntime {
    /// Makes a call that is to end the container or sandbox with this ID for good. If the runtime cannot, what runs in
    /// its cgroup is killed, and if there was anything the call is made again.
    pub(super) async fn or_kill<T, F: Future<Output = Result<T, Error>>>(
        &self,
        uid: &PodUid,
        id: &str,
        call: impl Fn() -> F,
    ) -> Result<(), StepError> {
        let Err(error) = gone_is_done(call().await) else { return Ok(()) };
        let refused = failed(FailureReason::FailedKillPod, &error);
        // Nobody has refused anything while nobody answers.
        let Some(cgroups) = self.cgroups.as_ref().filter(|_| !is_unanswered(&error)) else {
            return Err(refused);
        };
        match cgroups.kill_container(uid, id).await {
            Ok(true) => {
                tracing::warn!(id, "killed what the runtime did not end: {refused}");
                gone_is_done(call().await).map_err(|e| failed(FailureReason::FailedKillPod, &e))
            }
            Ok(false) => Err(refused),
            Err(error) => {
                let why = failed(FailureReason::FailedKillPod, &error);
                Err(StepError { message: format!("{refused}; {why}"), ..refused })
            }
        }
    }
}

fn is_unanswered(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable { .. })
}
