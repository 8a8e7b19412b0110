//! One run of one probe: picks the handler and tries it again when it cannot be run.

use std::net::IpAddr;
use std::time::Duration;

use kube_model::core::{Container, Probe};

use crate::exec::{self, Exec};
use crate::target::{self, TargetError};
use crate::{grpc, http, tcp};

/// What a handler found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Success,
    /// Counts as a success, but somebody should know: an HTTP redirect to another host.
    Warning(String),
    /// The container does not do what the probe asks for.
    Failure(String),
}

/// A handler that could not be run, so that nothing is known about the container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// There is no address to go to.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The runtime could not run the command; its words.
    #[error("{0}")]
    Exec(String),
    /// An HTTP answer broke off within its body; request and error.
    #[error("{0}")]
    HttpBody(String),
    /// The probe has none of the four handlers.
    #[error("missing probe handler for container {0:?}")]
    NoHandler(String),
}

/// How often a handler that errs is run before the probe's result is unknown (upstream `pkg/kubelet/prober/prober.go`).
const TRIES: u32 = 3;

/// What a probe is aimed at.
pub(crate) struct Aim<'a> {
    pub(crate) probe: &'a Probe,
    pub(crate) container: &'a Container,
    pub(crate) container_id: &'a str,
    pub(crate) pod_ip: Option<IpAddr>,
    pub(crate) timeout: Duration,
}

/// Runs the probe until it yields a verdict, at most three times.
pub(crate) async fn run<E: Exec>(
    exec: &E,
    http: &http::Client,
    aim: &Aim<'_>,
) -> Result<Verdict, HandlerError> {
    let mut result = once(exec, http, aim).await;
    for _ in 1..TRIES {
        if result.is_ok() {
            break;
        }
        result = once(exec, http, aim).await;
    }
    result
}

async fn once<E: Exec>(exec: &E, http: &http::Client, aim: &Aim<'_>) -> Result<Verdict, HandlerError> {
    let Aim { probe, container, container_id, pod_ip, timeout } = *aim;
    if let Some(action) = &probe.exec {
        exec::probe(exec, action, container, container_id, timeout).await
    } else if let Some(action) = &probe.http_get {
        http.probe(action, container, pod_ip, timeout).await
    } else if let Some(action) = &probe.tcp_socket {
        let port = target::port(&action.port, container)?;
        Ok(tcp::probe(&target::host(action.host.as_deref(), pod_ip)?, port, timeout).await)
    } else if let Some(action) = &probe.grpc {
        let port = target::number_of(action.port)?;
        let service = action.service.as_deref().unwrap_or_default();
        Ok(grpc::probe(pod_ip.ok_or(TargetError::NoPodIp)?, port, service, timeout).await)
    } else {
        Err(HandlerError::NoHandler(container.name.clone()))
    }
}
