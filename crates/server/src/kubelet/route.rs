//! Which endpoint a method and a path mean (upstream `pkg/kubelet/server/server.go`), and how the kubelet words that
//! there is none. Pure.

use http::Method;

use super::Handlers;
use crate::metrics::Page;

/// A check of `/healthz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Ping,
    Log,
    SyncLoop,
    DevicePlugin,
    BlockingWork,
}

impl Check {
    /// In the order in which the kubelet runs them; the last is ours.
    pub(crate) const ALL: [Self; 5] =
        [Self::Ping, Self::Log, Self::SyncLoop, Self::DevicePlugin, Self::BlockingWork];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Log => "log",
            Self::SyncLoop => "syncloop",
            Self::DevicePlugin => "device-plugin",
            Self::BlockingWork => "blocking-work",
        }
    }
}

/// A pod named in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PodTarget<'p> {
    pub(crate) namespace: &'p str,
    pub(crate) pod: &'p str,
    pub(crate) uid: Option<&'p str>,
}

/// A container named in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'p> {
    pub(crate) pod: PodTarget<'p>,
    pub(crate) container: &'p str,
}

/// An endpoint that looks into a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InPod<'p> {
    Logs(Target<'p>),
    Exec(Target<'p>),
    Attach(Target<'p>),
    PortForward(PodTarget<'p>),
    Run(Target<'p>),
}

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'p> {
    Healthz,
    HealthCheck(Check),
    Pods,
    RunningPods,
    Configz,
    Metrics(Page),
    ResourceMetrics,
    StatsSummary,
    InPod(InPod<'p>),
    /// The path below `/var/log/`.
    VarLog(&'p str),
    DebugFlags,
    /// No endpoint: `404 page not found`.
    NotFound,
    /// No endpoint below a known first part: go-restful's words.
    Unmatched,
    /// Not with this method, only with these.
    WrongMethod(&'static str),
    /// Switched off, with these words.
    Disabled(&'static str),
}

/// Finds the endpoint for a clean path.
pub(crate) fn route<'p>(method: &Method, path: &'p str, handlers: Handlers) -> Route<'p> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let only = |allowed: &'static str, route| {
        if allowed.split(", ").any(|one| one == method.as_str()) {
            route
        } else {
            Route::WrongMethod(allowed)
        }
    };
    match parts.as_slice() {
        // A slash at the end is another path to the first ones, as they are plain handlers in the kubelet.
        ["healthz"] => Route::Healthz,
        ["healthz", name] => match Check::ALL.into_iter().find(|check| check.name() == *name) {
            Some(check) => Route::HealthCheck(check),
            None => Route::NotFound,
        },
        ["metrics"] => Route::Metrics(Page::Main),
        ["metrics", "probes"] => Route::Metrics(Page::Probes),
        ["metrics", "slis"] => Route::Metrics(Page::Slis),
        ["metrics", "resource"] => Route::ResourceMetrics,
        ["pods"] | ["pods", ""] => only("GET", Route::Pods),
        ["stats", "summary"] | ["stats", "summary", ""] => only("GET, POST", Route::StatsSummary),
        ["pods" | "stats", ..] => Route::Unmatched,
        ["configz"] if handlers.debugging => Route::Configz,
        [first, rest @ ..] => below(first, rest, path, handlers, &only),
        [] => Route::NotFound,
    }
}

/// What is there only with debugging handlers.
fn below<'p>(
    first: &str,
    rest: &[&'p str],
    path: &'p str,
    handlers: Handlers,
    only: &dyn Fn(&'static str, Route<'p>) -> Route<'p>,
) -> Route<'p> {
    let profile = first == "debug" && rest.first() == Some(&"pprof");
    let known =
        matches!(first, "run" | "exec" | "attach" | "portForward" | "containerLogs" | "runningpods" | "logs")
            || profile;
    let in_pod = |target: Option<Target<'p>>, allowed, endpoint: fn(Target<'p>) -> InPod<'p>| {
        target.map_or(Route::Unmatched, |target| only(allowed, Route::InPod(endpoint(target))))
    };
    match (first, rest) {
        _ if known && !handlers.debugging => Route::Disabled("Debug endpoints are disabled.\n"),
        ("runningpods", [] | [""]) => only("GET", Route::RunningPods),
        ("containerLogs", _) => match target(rest) {
            Some(target) if target.pod.uid.is_none() => only("GET", Route::InPod(InPod::Logs(target))),
            _ => Route::Unmatched,
        },
        ("exec", _) => in_pod(target(rest), "GET, POST", InPod::Exec),
        ("attach", _) => in_pod(target(rest), "GET, POST", InPod::Attach),
        ("run", _) => in_pod(target(rest), "POST", InPod::Run),
        ("portForward", _) => match pod_target(rest) {
            Some(target) => only("GET, POST", Route::InPod(InPod::PortForward(target))),
            None => Route::Unmatched,
        },
        ("logs", _) if !handlers.system_log => Route::Disabled("logs endpoint is disabled.\n"),
        ("logs", _) => {
            only("GET", Route::VarLog(path.strip_prefix("/logs").unwrap_or_default().trim_start_matches('/')))
        }
        ("debug", ["flags", "v"]) if handlers.debugging => match handlers.debug_flags {
            true => Route::DebugFlags,
            false => Route::Disabled("flags endpoint is disabled.\n"),
        },
        // There are no Go profiles in this agent.
        ("debug", _) if profile && !handlers.profiling => {
            Route::Disabled("profiling endpoint is disabled.\n")
        }
        _ if known => Route::Unmatched,
        _ => Route::NotFound,
    }
}

fn pod_target<'p>(parts: &[&'p str]) -> Option<PodTarget<'p>> {
    match *without_last_slash(parts) {
        [namespace, pod] => Some(PodTarget { namespace, pod, uid: None }),
        [namespace, pod, uid] => Some(PodTarget { namespace, pod, uid: Some(uid) }),
        _ => None,
    }
}

fn target<'p>(parts: &[&'p str]) -> Option<Target<'p>> {
    let (container, pod) = without_last_slash(parts).split_last()?;
    Some(Target { pod: pod_target(pod)?, container })
}

fn without_last_slash<'a, 'p>(parts: &'a [&'p str]) -> &'a [&'p str] {
    parts.strip_suffix(&[""]).unwrap_or(parts)
}

#[cfg(test)]
mod tests;
