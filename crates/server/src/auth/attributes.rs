//! What right a request needs (upstream `pkg/kubelet/server/auth.go`).

use http::Method;

/// One right: `verb` on the subresource of this node. API version `v1`, resource `nodes`, no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    /// `get`, `create`, ...; empty for methods that have no verb.
    pub verb: &'static str,
    /// The node's name.
    pub node: String,
    /// `proxy`, `metrics`, ...
    pub subresource: &'static str,
}

/// The verb of a method.
pub(super) fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources that allow a path, in the order in which they are tried: one is enough. The path is decoded
/// and clean.
pub(super) fn subresources(path: &str) -> &'static [&'static str] {
    let mut parts = path.split('/').skip(1);
    // No path is so odd that nobody has to be asked.
    match parts.next().unwrap_or_default() {
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "statusz" => &["statusz"],
        "flagz" => &["configz"],
        _ => &["proxy"],
    }
}

/// Whether a path is that of a stream to a process or a port of a pod.
pub(super) fn is_stream(path: &str) -> bool {
    matches!(path.split('/').nth(1), Some("exec" | "attach" | "portForward"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_subresources_and_the_rest_is_proxy() {
        for (path, expected) in [
            ("/healthz", &["healthz", "proxy"][..]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/pods", &["pods", "proxy"]),
            ("/pods/", &["pods", "proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/stats/summary", &["stats"]),
            ("/logs/", &["log"]),
            ("/logs/pods", &["log"]),
            ("/checkpoint/ns/p/c", &["checkpoint"]),
            ("/statusz", &["statusz"]),
            ("/flagz", &["configz"]),
            ("/exec/ns/p/c", &["proxy"]),
            ("/run/ns/p/c", &["proxy"]),
            ("/containerLogs/ns/p/c", &["proxy"]),
            ("/podsx", &["proxy"]),
            ("/metricsx", &["proxy"]),
            ("/nope", &["proxy"]),
            ("/", &["proxy"]),
            ("", &["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }

    #[test]
    fn each_method_has_its_verb() {
        for (method, expected) in [
            ("GET", "get"),
            ("POST", "create"),
            ("PUT", "update"),
            ("PATCH", "patch"),
            ("DELETE", "delete"),
            ("HEAD", ""),
            ("OPTIONS", ""),
            ("BREW", ""),
        ] {
            assert_eq!(verb(&method.parse().unwrap()), expected, "{method}");
        }
    }
}
