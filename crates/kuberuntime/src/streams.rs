//! The runtime's part in logs and streams, for everybody who looks into pods.

use std::path::PathBuf;

use cri_client::v1::{
    AttachRequest, ContainerStatusRequest, ExecRequest, ExecSyncRequest, ListPodSandboxRequest,
    PodSandboxFilter, PodSandboxState, PodSandboxStateValue, PortForwardRequest,
};
use cri_client::{Client, Error};
use kube_model::{PodUid, labels};
use server::host::{Answer, HostError, Output, Streaming, Streams};

/// Streams of a CRI runtime.
pub struct CriStreams(pub Client);

impl CriStreams {
    /// The sandbox of a pod that is up.
    async fn sandbox(&self, pod: &PodUid) -> Result<String, HostError> {
        let filter = PodSandboxFilter {
            state: Some(PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() }),
            label_selector: [(labels::POD_UID.to_owned(), pod.to_string())].into(),
            ..PodSandboxFilter::default()
        };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let answer = self.0.list_pod_sandbox(request).await.map_err(failed)?;
        let newest = answer.items.into_iter().max_by_key(|sandbox| sandbox.created_at);
        newest.map(|s| s.id).ok_or_else(|| HostError::Failed(format!("failed to find sandbox for pod {pod}")))
    }
}

/// What a client is told of a runtime that refused.
pub fn failed(error: Error) -> HostError {
    if error.is_not_found() {
        HostError::NotFound(error.message().to_owned())
    } else if error.is_exhausted() {
        HostError::Busy(error.message().to_owned())
    } else {
        HostError::Failed(error.to_string())
    }
}

impl Streaming for CriStreams {
    fn log_path<'a>(&'a self, container: &'a str) -> Answer<'a, PathBuf> {
        Box::pin(async move {
            let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
            let answer = self.0.container_status(request).await.map_err(failed)?;
            Ok(answer.status.unwrap_or_default().log_path.into())
        })
    }

    fn exec<'a>(&'a self, container: &'a str, command: Vec<String>, streams: Streams) -> Answer<'a, String> {
        Box::pin(async move {
            let Streams { stdin, stdout, stderr, tty } = streams;
            let request =
                ExecRequest { container_id: container.to_owned(), cmd: command, tty, stdin, stdout, stderr };
            Ok(self.0.exec(request).await.map_err(failed)?.url)
        })
    }

    fn attach<'a>(&'a self, container: &'a str, streams: Streams) -> Answer<'a, String> {
        Box::pin(async move {
            let Streams { stdin, stdout, stderr, tty } = streams;
            let request = AttachRequest { container_id: container.to_owned(), stdin, tty, stdout, stderr };
            Ok(self.0.attach(request).await.map_err(failed)?.url)
        })
    }

    fn port_forward<'a>(&'a self, pod: &'a PodUid, ports: Vec<i32>) -> Answer<'a, String> {
        Box::pin(async move {
            let request = PortForwardRequest { pod_sandbox_id: self.sandbox(pod).await?, port: ports };
            Ok(self.0.port_forward(request).await.map_err(failed)?.url)
        })
    }

    fn exec_sync<'a>(&'a self, container: &'a str, command: Vec<String>) -> Answer<'a, Output> {
        Box::pin(async move {
            let request = ExecSyncRequest { container_id: container.to_owned(), cmd: command, timeout: 0 };
            let answer = self.0.exec_sync(request).await.map_err(failed)?;
            Ok(Output { stdout: answer.stdout, stderr: answer.stderr, exit_code: answer.exit_code })
        })
    }
}
