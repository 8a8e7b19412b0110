//! `kubelet_http_*`: the server's own requests.

use std::sync::Arc;

use http::Method;
use tokio::time::Instant;

use ::metrics::{DEFAULT_BOUNDS, Family, Gauge};

use super::{Histogram, Text};

/// The first parts of paths that are told apart. What a client makes up is `other`, so that it cannot make the
/// page grow.
const PATHS: &[&str] = &[
    "attach",
    "configz",
    "containerLogs",
    "debug",
    "exec",
    "healthz",
    "logs",
    "metrics",
    "metrics/probes",
    "metrics/resource",
    "pods",
    "portForward",
    "pprof",
    "run",
    "runningpods",
    "stats",
];

/// Counters of requests to the servers of one agent.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    in_flight: Family<4, Gauge>,
    seconds: Family<4, Histogram>,
    total: Family<4>,
    /// WebSockets that were translated, by what they are for.
    websockets: Family<1>,
}

/// The labels of requests.
const LABELS: [&str; 4] = ["long_running", "method", "path", "server_type"];

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            in_flight: Family::of(
                "kubelet_http_inflight_requests",
                "[ALPHA] Requests that are being answered",
                LABELS,
                Gauge::default,
            ),
            seconds: Family::of(
                "kubelet_http_requests_duration_seconds",
                "[ALPHA] How long requests took, in seconds",
                LABELS,
                || Histogram::new(DEFAULT_BOUNDS),
            ),
            total: Family::counter(
                "kubelet_http_requests_total",
                "[ALPHA] Requests since the agent started",
                LABELS,
            ),
            websockets: Family::counter(
                "kubelet_websocket_streaming_requests_total",
                "[ALPHA] WebSockets that were translated for the runtime",
                ["subresource"],
            ),
        }
    }
}

/// A request that is being answered; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    metrics: Arc<HttpMetrics>,
    values: [&'static str; 4],
    began: Instant,
}

impl HttpMetrics {
    /// A request begins. `server_type` is `readwrite` or `readonly`.
    pub(crate) fn begin(
        self: &Arc<Self>,
        method: &Method,
        path: &str,
        server_type: &'static str,
    ) -> InFlight {
        let path = bucket(path);
        let long_running = if long_running(path) { "true" } else { "false" };
        let values = [long_running, self::method(method), path, server_type];
        self.total.count(values);
        self.in_flight.change(values, |gauge| gauge.0 += 1);
        InFlight { metrics: Arc::clone(self), values, began: Instant::now() }
    }

    /// A WebSocket is translated, for `attach`, `exec` or `portforward`.
    pub(crate) fn websocket(&self, subresource: &'static str) {
        self.websockets.count([subresource]);
    }

    pub(crate) fn write(&self, out: &mut Text) {
        self.in_flight.write(out);
        self.seconds.write(out);
        self.total.write(out);
        self.websockets.write(out);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.change(self.values, |gauge| gauge.0 -= 1);
        self.metrics.seconds.change(self.values, |all| all.observe(self.began.elapsed().as_secs_f64()));
    }
}

/// What a path counts as: its first part, two for those under `/metrics`.
pub(crate) fn bucket(path: &str) -> &'static str {
    let path = path.trim_start_matches('/');
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    let root = match parts.next() {
        Some(second) if first == "metrics" => path.get(..first.len() + 1 + second.len()).unwrap_or(first),
        _ => first,
    };
    PATHS.iter().find(|known| **known == root).copied().unwrap_or("other")
}

fn long_running(bucket: &str) -> bool {
    matches!(bucket, "exec" | "attach" | "debug")
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_makes_up_does_not_make_the_page_grow() {
        for (path, expected) in [
            ("/pods", "pods"),
            ("/pods/", "pods"),
            ("/metrics", "metrics"),
            ("/metrics/resource", "metrics/resource"),
            ("/metrics/x", "other"),
            ("/containerLogs/ns/p/c", "containerLogs"),
            ("/random123", "other"),
            ("/", "other"),
            ("", "other"),
        ] {
            assert_eq!(bucket(path), expected, "{path}");
        }
        assert_eq!(method(&"BREW".parse().unwrap()), "other");
    }

    #[tokio::test]
    async fn a_request_is_in_flight_until_it_is_dropped() {
        let metrics = Arc::<HttpMetrics>::default();
        let page = || {
            let mut text = Text::default();
            metrics.write(&mut text);
            text.finish()
        };
        let labels = r#"{long_running="true",method="POST",path="exec",server_type="readwrite"}"#;
        let request = metrics.begin(&Method::POST, "/exec/ns/p/c", "readwrite");
        assert!(page().contains(&format!("kubelet_http_inflight_requests{labels} 1\n")));
        drop(request);
        assert!(page().contains(&format!("kubelet_http_inflight_requests{labels} 0\n")));
        assert!(page().contains(&format!("kubelet_http_requests_total{labels} 1\n")));
        assert!(page().contains("kubelet_http_requests_duration_seconds_count{"));
        metrics.websocket("exec");
        assert!(
            page().contains("kubelet_websocket_streaming_requests_total{subresource=\"exec\"} 1\n"),
            "{}",
            page()
        );
    }
}
