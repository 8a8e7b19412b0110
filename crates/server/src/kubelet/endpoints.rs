//! What each endpoint answers. Words and codes are the kubelet's.

mod streaming;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::{Frame, Incoming};

use super::connection::Connection;
use super::route::{Check, InPod, PodTarget, Route, Target};
use super::service::Service;
use super::traffic::IDLE_LIMIT;
use super::{pods, var_log};
use crate::http1::{Body, plain, text, whole};
use crate::metrics::{self, InFlight, Page, Text};
use crate::pod_streams::PodStreams;
use streaming::Stream;

/// Longest verbosity, in bytes.
const MOST_LEVEL_BYTES: usize = 64;

pub(super) async fn answer(
    service: &Service,
    route: Route<'_>,
    request: Request<Incoming>,
    connection: &Connection,
    counted: &Arc<InFlight>,
) -> Response<Body> {
    let host = &service.host;
    match route {
        Route::Healthz => healthz(service, request.uri().query().unwrap_or_default()),
        Route::HealthCheck(check) => match run_check(service, check) {
            Ok(()) => healthy("ok".into()),
            Err(error) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {error}\n"))
            }
        },
        Route::Pods => json(pods::desired(&host.pod_streams.view.snapshot())),
        Route::RunningPods => match host.node.running_pods().await {
            Ok(running) => json(pods::running(&running)),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        Route::Configz => {
            json(serde_json::to_vec(&serde_json::json!({ "kubeletconfig": host.node.configuration() })))
        }
        Route::Metrics(page) => metrics(service, page).await,
        Route::ResourceMetrics => {
            let summary = host.stats.summary(true).await;
            if let Err(error) = &summary {
                tracing::warn!(error = %util::causes(&error), "No summary for /metrics/resource");
            }
            let mut out = Text::default();
            metrics::write_resource(&mut out, summary.ok().as_deref());
            whole(StatusCode::OK, metrics::CONTENT_TYPE, out.finish().into())
        }
        Route::StatsSummary => stats_summary(service, request.uri().query().unwrap_or_default()).await,
        Route::InPod(endpoint) => {
            connection.patient();
            let peer = Some(connection.peer.ip());
            let Answered { response, tunnel, translated } =
                in_pod(&host.pod_streams, endpoint, request, peer, service.handlers.extend_websockets).await;
            if let Some(subresource) = translated {
                host.requests.websocket(subresource);
            }
            if let Some(tunnel) = tunnel {
                // The request goes on for as long as its stream.
                let counted = Arc::clone(counted);
                connection.upgrade(tunnel.map(move |()| drop(counted)).boxed());
            }
            response
        }
        Route::VarLog(path) => {
            connection.patient();
            var_log::answer(path).await
        }
        Route::DebugFlags => debug_flags(service, request).await,
        Route::NotFound => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        Route::Unmatched => plain(StatusCode::NOT_FOUND, "404: Page Not Found"),
        Route::Disabled(words) => plain(StatusCode::METHOD_NOT_ALLOWED, words),
        Route::WrongMethod(allowed) => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
            response
        }
    }
}

/// An answer, and what goes on in its connection once it was sent.
pub(crate) struct Answered {
    pub(crate) response: Response<Body>,
    pub(crate) tunnel: Option<BoxFuture<'static, ()>>,
    /// What a WebSocket that is translated for the runtime is for.
    pub(crate) translated: Option<&'static str>,
}

impl From<Response<Body>> for Answered {
    fn from(response: Response<Body>) -> Self {
        Self { response, tunnel: None, translated: None }
    }
}

/// Answers an endpoint that looks into a pod. A client on this machine has no address. `translate`: WebSockets, too,
/// reach a runtime that speaks SPDY only.
pub(crate) async fn in_pod(
    pod_streams: &PodStreams,
    endpoint: InPod<'_>,
    request: Request<Incoming>,
    peer: Option<IpAddr>,
    translate: bool,
) -> Answered {
    let query = request.uri().query().unwrap_or_default();
    match endpoint {
        InPod::Logs(target) => container_logs(pod_streams, target, query).await.into(),
        InPod::Exec(target) => {
            streaming::stream(pod_streams, Stream::Exec, target, request, peer, translate).await
        }
        InPod::Attach(target) => {
            streaming::stream(pod_streams, Stream::Attach, target, request, peer, translate).await
        }
        InPod::PortForward(target) => {
            streaming::port_forward(pod_streams, target, request, peer, translate).await
        }
        InPod::Run(target) => streaming::run(pod_streams, target, query).await.into(),
    }
}

fn json(body: serde_json::Result<Vec<u8>>) -> Response<Body> {
    match body {
        Ok(body) => whole(StatusCode::OK, "application/json", body.into()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn run_check(service: &Service, check: Check) -> Result<(), String> {
    match check {
        // Log lines are written without waiting for anybody: that we answer is the check.
        Check::Ping | Check::Log => Ok(()),
        // There is no registration of device plugins yet that could fail.
        Check::DevicePlugin => Ok(()),
        Check::SyncLoop => service.host.node.sync_loop(),
        Check::BlockingWork => service.host.checks.blocking_work(),
    }
}

fn healthy(text: Bytes) -> Response<Body> {
    let mut response = whole(StatusCode::OK, "text/plain; charset=utf-8", text);
    let nosniff = header::HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// All checks but the excluded ones; why one failed is for the log, as everybody may look here.
fn healthz(service: &Service, query: &str) -> Response<Body> {
    let parameters = || form_urlencoded::parse(query.as_bytes());
    let mut excluded: Vec<String> =
        parameters().filter(|(key, _)| key == "exclude").map(|(_, value)| value.into_owned()).collect();
    excluded.sort_unstable();
    excluded.dedup();
    let (mut lines, mut failed) = (String::new(), false);
    for check in Check::ALL {
        let name = check.name();
        if let Some(index) = excluded.iter().position(|excluded| excluded == name) {
            excluded.remove(index);
            lines += &format!("[+]{name} excluded: ok\n");
            continue;
        }
        let result = run_check(service, check);
        service.host.checks.count(name, result.is_ok());
        if let Err(error) = result {
            tracing::warn!(check = name, error = error.as_str(), "Health check failed");
            lines += &format!("[-]{name} failed: reason withheld\n");
            failed = true;
        } else {
            lines += &format!("[+]{name} ok\n");
        }
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        lines +=
            &format!("warn: some health checks cannot be excluded: no matches for {}\n", names.join(","));
    }
    if failed {
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}healthz check failed\n"))
    } else if parameters().any(|(key, _)| key == "verbose") {
        healthy(format!("{lines}healthz check passed\n").into())
    } else {
        healthy("ok".into())
    }
}

async fn metrics(service: &Service, page: Page) -> Response<Body> {
    let host = &service.host;
    let mut out = Text::default();
    if page == Page::Slis {
        host.checks.write(&mut out);
    } else {
        host.node.write_metrics(page, &mut out);
    }
    if page == Page::Main {
        let running = host.node.running_pods().await;
        metrics::write_pods(&mut out, &host.pod_streams.view.snapshot(), running.as_deref().ok());
        host.requests.write(&mut out);
        metrics::write_process(&mut out);
    } else {
        metrics::write_start_time(&mut out);
    }
    whole(StatusCode::OK, metrics::CONTENT_TYPE, out.finish().into())
}

async fn stats_summary(service: &Service, query: &str) -> Response<Body> {
    let mut asked = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "only_cpu_and_memory");
    let only_cpu_and_memory =
        matches!((asked.next(), asked.next()), (Some((_, value)), None) if value == "true");
    match service.host.stats.summary(only_cpu_and_memory).await {
        Ok(summary) => {
            let mut body = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b" ");
            let mut writer = serde_json::Serializer::with_formatter(&mut body, indent);
            json(serde::Serialize::serialize(&*summary, &mut writer).map(|()| body))
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("Internal Error: {error}")),
    }
}

async fn container_logs(pod_streams: &PodStreams, target: Target<'_>, query: &str) -> Response<Body> {
    let PodTarget { namespace, pod, .. } = target.pod;
    match pod_streams.log(namespace, pod, target.container, query).await {
        Ok(log) => streamed(log),
        Err(none) => text(none.status, none.message),
    }
}

/// A body without a length or a type, as the kubelet's logs have none.
fn streamed(pieces: impl futures::Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    Response::new(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync())
}

async fn debug_flags(service: &Service, request: Request<Incoming>) -> Response<Body> {
    let said = |status, said: String| whole(status, "text/plain", format!("{said}\n").into());
    if request.method() != Method::PUT {
        return said(StatusCode::NOT_ACCEPTABLE, "unsupported http method".to_owned());
    }
    let body = Limited::new(request.into_body(), MOST_LEVEL_BYTES).collect();
    let Ok(Ok(body)) = tokio::time::timeout(IDLE_LIMIT, body).await else {
        return said(StatusCode::BAD_REQUEST, "error reading request body".to_owned());
    };
    let level = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let set = match level.parse::<u32>() {
        Ok(level) => service.host.node.set_verbosity(level),
        Err(error) => Err(error.to_string()),
    };
    match set {
        Ok(()) => said(StatusCode::OK, format!("successfully set klog.logging.verbosity to {level}")),
        Err(error) => {
            said(StatusCode::BAD_REQUEST, format!("failed set klog.logging.verbosity {level}: {error}"))
        }
    }
}
