use super::*;

fn found(method: &str, path: &'static str) -> Route<'static> {
    route(&method.parse().unwrap(), path, Handlers::default())
}

fn pod(uid: Option<&'static str>) -> PodTarget<'static> {
    PodTarget { namespace: "ns", pod: "p", uid }
}

fn container(uid: Option<&'static str>) -> Target<'static> {
    Target { pod: pod(uid), container: "c" }
}

#[test]
fn each_endpoint_is_found_with_its_methods_only() {
    let not = Route::WrongMethod;
    for (method, path, expected) in [
        ("GET", "/healthz", Route::Healthz),
        ("GET", "/healthz/ping", Route::HealthCheck(Check::Ping)),
        ("GET", "/healthz/log", Route::HealthCheck(Check::Log)),
        ("GET", "/healthz/syncloop", Route::HealthCheck(Check::SyncLoop)),
        ("GET", "/healthz/device-plugin", Route::HealthCheck(Check::DevicePlugin)),
        ("GET", "/healthz/nope", Route::NotFound),
        ("GET", "/healthz/", Route::NotFound),
        ("GET", "/pods", Route::Pods),
        ("GET", "/pods/", Route::Pods),
        ("POST", "/pods", not("GET")),
        ("GET", "/pods/x", Route::Unmatched),
        ("GET", "/runningpods/", Route::RunningPods),
        ("GET", "/configz", Route::Configz),
        ("GET", "/metrics", Route::Metrics(Page::Main)),
        ("GET", "/metrics/", Route::NotFound),
        ("GET", "/metrics/probes", Route::Metrics(Page::Probes)),
        ("GET", "/metrics/slis", Route::Metrics(Page::Slis)),
        ("GET", "/metrics/resource", Route::ResourceMetrics),
        ("GET", "/stats/summary", Route::StatsSummary),
        ("POST", "/stats/summary", Route::StatsSummary),
        ("PUT", "/stats/summary", not("GET, POST")),
        ("GET", "/stats/", Route::Unmatched),
        ("GET", "/containerLogs/ns/p/c", Route::InPod(InPod::Logs(container(None)))),
        ("GET", "/containerLogs/ns/p/uid/c", Route::Unmatched),
        ("GET", "/containerLogs/ns/p", Route::Unmatched),
        ("POST", "/containerLogs/ns/p/c", not("GET")),
        ("POST", "/exec/ns/p/c", Route::InPod(InPod::Exec(container(None)))),
        ("GET", "/exec/ns/p/u/c", Route::InPod(InPod::Exec(container(Some("u"))))),
        ("GET", "/exec/ns/p", Route::Unmatched),
        ("GET", "/exec/ns/p/u/c/more", Route::Unmatched),
        ("HEAD", "/exec/ns/p/c", not("GET, POST")),
        ("GET", "/attach/ns/p/c", Route::InPod(InPod::Attach(container(None)))),
        ("POST", "/portForward/ns/p", Route::InPod(InPod::PortForward(pod(None)))),
        ("POST", "/portForward/ns/p/u", Route::InPod(InPod::PortForward(pod(Some("u"))))),
        ("POST", "/run/ns/p/c", Route::InPod(InPod::Run(container(None)))),
        ("GET", "/run/ns/p/c", not("POST")),
        ("GET", "/logs/", Route::VarLog("")),
        ("GET", "/logs/pods/x.log", Route::VarLog("pods/x.log")),
        ("DELETE", "/logs/", not("GET")),
        ("PUT", "/debug/flags/v", Route::DebugFlags),
        ("GET", "/debug/pprof/heap", Route::Unmatched),
        ("GET", "/debug/vars", Route::NotFound),
        ("POST", "/checkpoint/ns/p/c", Route::NotFound),
        ("GET", "/spec/", Route::NotFound),
        ("GET", "/", Route::NotFound),
    ] {
        assert_eq!(found(method, path), expected, "{method} {path}");
    }
}

#[test]
fn without_debugging_handlers_pods_cannot_be_looked_into() {
    let handlers = Handlers { debugging: false, ..Handlers::default() };
    let disabled = Route::Disabled("Debug endpoints are disabled.\n");
    for (path, expected) in [
        ("/run/ns/p/c", disabled),
        ("/exec/ns/p/c", disabled),
        ("/attach/ns/p/c", disabled),
        ("/portForward/ns/p", disabled),
        ("/containerLogs/ns/p/c", disabled),
        ("/runningpods/", disabled),
        ("/logs/", disabled),
        ("/debug/pprof/heap", disabled),
        ("/debug/flags/v", Route::NotFound),
        ("/configz", Route::NotFound),
        ("/pods", Route::Pods),
        ("/metrics", Route::Metrics(Page::Main)),
        ("/stats/summary", Route::StatsSummary),
        ("/healthz", Route::Healthz),
    ] {
        assert_eq!(route(&Method::GET, path, handlers), expected, "{path}");
    }
}

#[test]
fn single_handlers_can_be_switched_off() {
    let handlers =
        Handlers { system_log: false, profiling: false, debug_flags: false, ..Handlers::default() };
    for (path, words) in [
        ("/logs/", "logs endpoint is disabled.\n"),
        ("/debug/pprof/heap", "profiling endpoint is disabled.\n"),
        ("/debug/flags/v", "flags endpoint is disabled.\n"),
    ] {
        assert_eq!(route(&Method::GET, path, handlers), Route::Disabled(words), "{path}");
    }
}
