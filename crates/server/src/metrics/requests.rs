//! `kubelet_http_*`: the server's own requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use tokio::time::Instant;

use super::{Histogram, Kind, Text};

/// The upper bounds of request times, in seconds: Prometheus' default ones.
const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

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
#[derive(Debug, Default)]
pub(crate) struct HttpMetrics {
    requests: Mutex<BTreeMap<Series, Counts>>,
    /// WebSockets that were translated, by what they are for.
    websockets: Mutex<BTreeMap<&'static str, u64>>,
}

/// Writes one series of a metric.
type Sample = dyn Fn(&mut Text, &str, &[(&str, &str)], &Counts);

/// Method, path, server type.
type Series = (&'static str, &'static str, &'static str);

#[derive(Debug)]
struct Counts {
    total: u64,
    in_flight: u64,
    seconds: Histogram,
}

/// A request that is being answered; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    metrics: Arc<HttpMetrics>,
    series: Series,
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
        let series = (self::method(method), bucket(path), server_type);
        let mut counts = lock(&self.requests);
        let counts = counts.entry(series).or_insert_with(|| Counts {
            total: 0,
            in_flight: 0,
            seconds: Histogram::new(SECONDS),
        });
        counts.total += 1;
        counts.in_flight += 1;
        InFlight { metrics: Arc::clone(self), series, began: Instant::now() }
    }

    /// A WebSocket is translated, for `attach`, `exec` or `portforward`.
    pub(crate) fn websocket(&self, subresource: &'static str) {
        *lock(&self.websockets).entry(subresource).or_default() += 1;
    }

    pub(crate) fn write(&self, out: &mut Text) {
        let counts = lock(&self.requests);
        let mut family = |name: &str, kind, help: &str, sample: &Sample| {
            out.metric(name, kind, help);
            for ((method, path, server_type), counts) in &*counts {
                let labels = [
                    ("long_running", if long_running(path) { "true" } else { "false" }),
                    ("method", method),
                    ("path", path),
                    ("server_type", server_type),
                ];
                sample(out, name, &labels, counts);
            }
        };
        family(
            "kubelet_http_inflight_requests",
            Kind::Gauge,
            "[ALPHA] Requests that are being answered",
            &|out, name, labels, counts| out.sample(name, labels, counts.in_flight),
        );
        family(
            "kubelet_http_requests_duration_seconds",
            Kind::Histogram,
            "[ALPHA] How long requests took, in seconds",
            &|out, name, labels, counts| out.histogram(name, labels, &counts.seconds),
        );
        family(
            "kubelet_http_requests_total",
            Kind::Counter,
            "[ALPHA] Requests since the agent started",
            &|out, name, labels, counts| out.sample(name, labels, counts.total),
        );
        let name = "kubelet_websocket_streaming_requests_total";
        out.metric(name, Kind::Counter, "[ALPHA] WebSockets that were translated for the runtime");
        for (subresource, total) in &*lock(&self.websockets) {
            out.sample(name, &[("subresource", subresource)], *total);
        }
    }
}

fn lock<T>(counters: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters that a panic left half counted are still counters.
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(counts) = lock(&self.metrics.requests).get_mut(&self.series) {
            counts.in_flight -= 1;
            counts.seconds.observe(self.began.elapsed().as_secs_f64());
        }
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
