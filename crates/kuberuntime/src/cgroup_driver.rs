//! Whether the runtime makes cgroups as the agent does: where they differ, no sandbox can be made.
//! Asked for as upstream `cmd/kubelet/app/server.go` `getCgroupDriverFromCRI` does.

use std::time::Duration;

use cri_client::v1::{CgroupDriver, RuntimeConfigRequest, RuntimeConfigResponse};
use kube_model::cgroup::Driver;
use tokio::time::sleep;

/// Pause before a runtime that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Asks the runtime until it answers, and says in the log where its driver is not `ours`. A runtime that does not
/// know the call (containerd 1) tells nothing.
pub async fn check_cgroup_driver(runtime: cri_client::Client, ours: Driver) {
    let answer = loop {
        match runtime.runtime_config(RuntimeConfigRequest {}).await {
            Ok(answer) => break answer,
            Err(error) if error.is_unimplemented() => {
                tracing::info!(
                    "the container runtime does not tell its cgroup driver: it has to be {ours}, as cgroupDriver is"
                );
                return;
            }
            // What keeps it from answering is told where its state is watched.
            Err(_) => sleep(AGAIN).await,
        }
    };
    match of_runtime(&answer) {
        Ok(Some(theirs)) if theirs != ours => tracing::error!(
            "the container runtime makes cgroups with the {theirs} driver, this agent with {ours}: no pod can start \
             before the runtime is set to {ours} (containerd: SystemdCgroup, CRI-O: cgroup_manager) and restarted"
        ),
        Ok(_) => {}
        Err(number) => tracing::error!("runtime returned an unknown cgroup driver {number}"),
    }
}

/// The driver that the runtime names, if it does; the number of one that is not known.
fn of_runtime(answer: &RuntimeConfigResponse) -> Result<Option<Driver>, i32> {
    // Systemd is the zero value of the enum: what is not there must not be read as it.
    let Some(linux) = &answer.linux else { return Ok(None) };
    match CgroupDriver::try_from(linux.cgroup_driver) {
        Ok(CgroupDriver::Systemd) => Ok(Some(Driver::Systemd)),
        Ok(CgroupDriver::Cgroupfs) => Ok(Some(Driver::Cgroupfs)),
        Err(_) => Err(linux.cgroup_driver),
    }
}

#[cfg(test)]
mod tests {
    use cri_client::v1::LinuxRuntimeConfiguration;

    use super::*;

    #[test]
    fn the_runtime_names_its_driver_or_none() {
        let of = |driver: Option<i32>| {
            let linux = driver.map(|cgroup_driver| LinuxRuntimeConfiguration { cgroup_driver });
            of_runtime(&RuntimeConfigResponse { linux })
        };
        assert_eq!(of(None), Ok(None));
        assert_eq!(of(Some(CgroupDriver::Systemd.into())), Ok(Some(Driver::Systemd)));
        assert_eq!(of(Some(CgroupDriver::Cgroupfs.into())), Ok(Some(Driver::Cgroupfs)));
        assert_eq!(of(Some(7)), Err(7));
    }
}
