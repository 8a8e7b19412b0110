//! exec, attach, port-forward and run: which container or pod is meant, and the way to it.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use kube_model::view::PodView;
use kube_model::{PodUid, pod};

use super::Answered;
use crate::host::HostError;
use crate::http1::{Body, plain, text, whole};
use crate::kubelet::pods;
use crate::kubelet::route::{PodTarget, Target};
use crate::pod_streams::{PodStreams, bare};
use crate::streams::{self, Proxied, ProxyError, Translation};

/// How long to wait before asking a busy runtime again, in seconds: how long its tokens live.
const RETRY_AFTER: &str = "60";

/// A container as a stream is wanted to it.
#[derive(PartialEq, Eq)]
pub(super) enum Stream {
    Exec,
    Attach,
}

/// The pod that a stream goes to.
fn stream_pod(pod_streams: &PodStreams, target: PodTarget<'_>) -> Option<Arc<PodView>> {
    pods::find(&pod_streams.view.snapshot(), target.namespace, target.pod)
}

/// Whether the UID in the path, if there is one, is the pod's. A static pod has two: who knows it from the API server
/// knows that of its mirror pod only (upstream `pkg/kubelet/pod/pod_manager.go`).
fn is_uid_of(pod_streams: &PodStreams, pod: &PodView, target: PodTarget<'_>) -> bool {
    target.uid.is_none_or(|uid| {
        pod.pod.metadata.uid.as_deref() == Some(uid)
            || pod_streams
                .view
                .mirror_uid(target.namespace, target.pod)
                .is_some_and(|mirror| mirror.as_str() == uid)
    })
}

fn no_pod() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "pod does not exist")
}

/// The ID of a container that runs, if the UID in the path is its pod's.
fn running_container(pod_streams: &PodStreams, pod: &PodView, target: Target<'_>) -> Option<String> {
    if !is_uid_of(pod_streams, pod, target.pod) {
        return None;
    }
    let status = pod::container_statuses(&pod.status).find(|status| status.name == target.container)?;
    status.state.as_ref()?.running.as_ref()?;
    status.container_id.as_deref().map(|id| bare(id).to_owned())
}

pub(super) async fn stream(
    pod_streams: &PodStreams,
    kind: Stream,
    target: Target<'_>,
    request: Request<Incoming>,
    peer: Option<IpAddr>,
    translate: bool,
) -> Answered {
    let query = request.uri().query().unwrap_or_default();
    let mut wanted = match streams::streams(query) {
        Ok(wanted) => wanted,
        Err(none) => return plain(StatusCode::BAD_REQUEST, none).into(),
    };
    let Some(pod) = stream_pod(pod_streams, target.pod) else { return no_pod().into() };
    let container = target.container;
    let PodTarget { namespace, pod: name, .. } = target.pod;
    let id = running_container(pod_streams, &pod, target);
    let subresource = if kind == Stream::Exec { "exec" } else { "attach" };
    let url = match (kind, id) {
        (Stream::Exec, None) => {
            return text(StatusCode::INTERNAL_SERVER_ERROR, format!("container not found ({container:?})"))
                .into();
        }
        (Stream::Attach, None) => {
            let none = format!("container {container} not found in pod {name}_{namespace}");
            return text(StatusCode::INTERNAL_SERVER_ERROR, none).into();
        }
        _ if !streams::is_upgrade(request.headers()) => return upgrade_required().into(),
        (Stream::Exec, Some(id)) => pod_streams.streaming.exec(&id, streams::command(query), wanted).await,
        (Stream::Attach, Some(id)) => {
            // A process has a terminal or not from its start on.
            let spec = pod.pod.spec.as_ref().and_then(|spec| pod::container(spec, container));
            wanted.tty = spec.is_some_and(|(_, container)| container.tty == Some(true));
            wanted.stderr &= !wanted.tty;
            pod_streams.streaming.attach(&id, wanted).await
        }
    };
    let translation = translate.then(|| Translation::of_session(request.headers(), wanted)).flatten();
    let translated = translation.map(|_| subresource);
    Answered { translated, ..carry(url, request, translation, peer).await }
}

pub(super) async fn port_forward(
    pod_streams: &PodStreams,
    target: PodTarget<'_>,
    request: Request<Incoming>,
    peer: Option<IpAddr>,
    translate: bool,
) -> Answered {
    let translation = translate.then(|| Translation::of_ports(request.headers())).flatten();
    let query = request.uri().query().unwrap_or_default();
    let ports = match translation {
        // As with bare SPDY the client names them stream by stream.
        Some(_) => Ok(vec![]),
        None => streams::forwarded_ports(query, request.headers()),
    };
    let ports = match ports {
        Ok(ports) => ports,
        Err(error) => return text(StatusCode::BAD_REQUEST, error).into(),
    };
    let Some(pod) = stream_pod(pod_streams, target) else { return no_pod().into() };
    if !is_uid_of(pod_streams, &pod, target) {
        return plain(StatusCode::NOT_FOUND, "pod not found").into();
    }
    if !streams::is_upgrade(request.headers()) {
        return upgrade_required().into();
    }
    let uid = pod.pod.metadata.uid.as_deref().unwrap_or_default();
    let url = pod_streams.streaming.port_forward(&PodUid::from(uid), ports).await;
    let translated = translation.map(|_| "portforward");
    Answered { translated, ..carry(url, request, translation, peer).await }
}

fn upgrade_required() -> Response<Body> {
    plain(StatusCode::INTERNAL_SERVER_ERROR, "Upgrade request required\n")
}

async fn carry(
    url: Result<String, HostError>,
    request: Request<Incoming>,
    translation: Option<Translation>,
    peer: Option<IpAddr>,
) -> Answered {
    let url = match url {
        Ok(url) => url,
        Err(error) => return host_error(&error).into(),
    };
    match streams::proxy(&url, request, peer, translation).await {
        Ok(Proxied::Refused(response)) => response.into(),
        Ok(Proxied::Upgraded(response, tunnel)) => Answered { tunnel: Some(tunnel), ..response.into() },
        Err(error @ ProxyError::Handshake(_)) => text(StatusCode::BAD_REQUEST, error.to_string()).into(),
        Err(error) => {
            tracing::warn!(error = %util::causes(&error), "Cannot stream from the runtime");
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into()
        }
    }
}

pub(super) async fn run(pod_streams: &PodStreams, target: Target<'_>, query: &str) -> Response<Body> {
    let Some(pod) = stream_pod(pod_streams, target.pod) else { return no_pod() };
    let failed = |error: String| text(StatusCode::INTERNAL_SERVER_ERROR, error);
    let Some(id) = running_container(pod_streams, &pod, target) else {
        return failed(format!("container not found ({:?})", target.container));
    };
    let given =
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "cmd").map(|(_, value)| value);
    let command: Vec<String> = given.unwrap_or_default().split(' ').map(str::to_owned).collect();
    match pod_streams.streaming.exec_sync(&id, command.clone()).await {
        Ok(output) if output.exit_code == 0 => {
            let mut both = output.stdout;
            both.extend(output.stderr);
            // The kubelet says so of whatever a command wrote.
            whole(StatusCode::OK, "application/json", both.into())
        }
        Ok(output) => failed(format!(
            "command '{}' exited with {}: {}",
            command.join(" "),
            output.exit_code,
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => failed(error.to_string()),
    }
}

fn host_error(error: &HostError) -> Response<Body> {
    let status = match error {
        HostError::NotFound(_) => StatusCode::NOT_FOUND,
        HostError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
        HostError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = text(status, error.to_string());
    if let HostError::Busy(_) = error {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
    }
    response
}
