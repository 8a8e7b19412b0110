//! Reading what the runtime has of one pod.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use cri_client::v1::{
    Container, ContainerFilter, ContainerStatus, ContainerStatusRequest, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxFilter, PodSandboxState, PodSandboxStatusRequest,
};
use cri_client::{Client, Error};
use cri_config::observe::{SandboxContainer, container_as_listed, observed_pod, sandbox_as_listed};
use cri_config::termination;
use futures::future::join_all;
use kube_model::observed::ObservedPod;
use kube_model::{PodKey, PodUid, labels};
use pod_lifecycle::FailureReason;
use pod_workers::{Observed, StepError};

use super::failed;

/// Reads all sandboxes and containers of a pod, with their statuses and termination messages.
pub(super) async fn pod(client: &Client, uid: &PodUid, key: &PodKey) -> Result<Observed, Error> {
    let of_pod = || [(labels::POD_UID.to_owned(), uid.to_string())].into();
    let (sandboxes, containers) = futures::try_join!(
        client.list_pod_sandbox(ListPodSandboxRequest {
            filter: Some(PodSandboxFilter { label_selector: of_pod(), ..Default::default() }),
        }),
        client.list_containers(ListContainersRequest {
            filter: Some(ContainerFilter { label_selector: of_pod(), ..Default::default() }),
        }),
    )?;
    let observed = read(client, &sandboxes.items, &containers.containers).await;
    Ok(observed.unwrap_or_else(|| ObservedPod::empty(uid.clone(), key.clone()).into()))
}

/// Reads the statuses of what was listed, all of one pod. `None` if nothing of it is left.
pub async fn read(client: &Client, sandboxes: &[PodSandbox], containers: &[Container]) -> Option<Observed> {
    let sandboxes = sandboxes.iter().map(|item| async move {
        let request = PodSandboxStatusRequest { pod_sandbox_id: item.id.clone(), verbose: false };
        match found(client.pod_sandbox_status(request).await) {
            Ok(answer) => (answer.and_then(|a| a.status), None),
            // Of one that is not ready there is no more to know.
            Err(_) if item.state() == PodSandboxState::SandboxNotready => {
                (Some(sandbox_as_listed(item)), None)
            }
            Err(error) => (Some(sandbox_as_listed(item)), Some((item.id.clone(), unread(&error)))),
        }
    });
    let containers = containers.iter().map(|item| async move {
        let request = ContainerStatusRequest { container_id: item.id.clone(), verbose: false };
        let (status, unread) = match found(client.container_status(request).await) {
            Ok(answer) => (answer.and_then(|a| a.status), None),
            Err(error) => {
                let error = unread(&error);
                (Some(container_as_listed(item, &error.message)), Some((item.id.clone(), error)))
            }
        };
        (status.map(|status| (item.pod_sandbox_id.clone(), status)), unread)
    });
    let (sandboxes, containers) = futures::join!(join_all(sandboxes), join_all(containers));
    let (sandboxes, unread_sandboxes): (Vec<_>, Vec<_>) = sandboxes.into_iter().unzip();
    let (containers, unread_containers): (Vec<_>, Vec<_>) = containers.into_iter().unzip();
    let unread = unread_sandboxes.into_iter().chain(unread_containers).flatten().collect();
    let containers = with_termination_messages(containers.into_iter().flatten().collect()).await;
    let pod = observed_pod(sandboxes.into_iter().flatten().collect(), containers)?;
    Some(Observed { pod, unread })
}

fn unread(error: &Error) -> StepError {
    failed(FailureReason::FailedPrepare, error)
}

/// What went between the list and the question is not there.
fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Appends to each ended container's message what it left for that: its termination message, or the end of its log.
pub async fn with_termination_messages(containers: Vec<(String, ContainerStatus)>) -> Vec<SandboxContainer> {
    let whole = |(sandbox_id, status)| SandboxContainer { sandbox_id, status };
    if containers.iter().all(|(_, status)| termination::sources(status).is_none()) {
        return containers.into_iter().map(whole).collect();
    }
    let read = move || {
        let mut containers = containers;
        for (_, status) in &mut containers {
            let Some(sources) = termination::sources(status) else { continue };
            let read = |path: Option<&PathBuf>, bytes| path.and_then(|p| tail(p, bytes).ok());
            let file = read(sources.file.as_ref(), termination::MAX_FILE_BYTES);
            let log = read(sources.log.as_ref(), termination::LOG_TAIL_BYTES);
            status.message = termination::message(&status.message, file.as_deref(), log.as_deref());
        }
        containers
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(containers) => containers.into_iter().map(whole).collect(),
        // Only when the agent is going down: nobody will look at the answer.
        Err(_) => Vec::new(),
    }
}

/// The last bytes of a regular file; a container may have put anything in its place.
fn tail(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    if !path.symlink_metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes as u64)))?;
    let mut text = Vec::new();
    file.take(bytes as u64).read_to_end(&mut text)?;
    Ok(text)
}
