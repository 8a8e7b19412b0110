//! postStart and preStop hooks (upstream `pkg/kubelet/lifecycle/handlers.go`): a command without a time limit of its
//! own, an HTTP GET whose every answer is a success, or a sleep. Who calls bounds the time.

use std::net::IpAddr;
use std::time::Duration;

use cri_client::Client;
use cri_client::v1::ExecSyncRequest;
use kube_model::core::{Container, LifecycleHandler};
use kube_model::view::EventType;
use pod_workers::Reporter;
use prober::http;

/// A hook that did not succeed. The kubelet's events hide the details; the log has them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error(transparent)]
    Runtime(#[from] cri_client::Error),
    #[error(transparent)]
    Http(#[from] http::HookError),
    #[error("command {command:?} exited with {code}: {output}")]
    Exit { command: Vec<String>, code: i32, output: String },
    #[error("the hook has no handler that can be run (exec, httpGet or sleep)")]
    NoHandler,
}

/// Runs the handlers of hooks.
#[derive(Debug)]
pub struct Hooks {
    /// For commands.
    pub client: Client,
    /// For HTTP requests.
    pub http: http::Client,
}

impl Hooks {
    /// Runs one handler to its end.
    pub(crate) async fn run(
        &self,
        handler: &LifecycleHandler,
        container: &Container,
        container_id: &str,
        pod_ip: Option<IpAddr>,
        reporter: &Reporter,
    ) -> Result<(), HookError> {
        if let Some(exec) = &handler.exec {
            let cmd = exec.command.clone().unwrap_or_default();
            let container_id = container_id.to_owned();
            let request = ExecSyncRequest { container_id, cmd, timeout: 0 };
            let command = request.cmd.clone();
            let answer = self.client.exec_sync(request).await?;
            if answer.exit_code == 0 {
                return Ok(());
            }
            let output = [answer.stdout, answer.stderr].concat();
            let output = String::from_utf8_lossy(&output).trim_end().to_owned();
            return Err(HookError::Exit { command, code: answer.exit_code, output });
        }
        if let Some(get) = &handler.http_get {
            let answer = self.http.hook(get, container, pod_ip).await?;
            if let Some(server) = answer.fell_back {
                let text = format!(
                    "request to HTTPS lifecycle hook {server} got HTTP response, retrying with HTTP succeeded"
                );
                reporter.event(EventType::Warning, "LifecycleHTTPFallback", text);
            }
            return Ok(());
        }
        if let Some(sleep) = &handler.sleep {
            let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            return Ok(());
        }
        Err(HookError::NoHandler)
    }
}
