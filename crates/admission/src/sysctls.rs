//! Which kernel parameters a pod may set. Rule: upstream `pkg/kubelet/sysctl`.

use kube_model::core::PodSpec;
use kube_model::pod;
use kube_model::sysctl::{self, Namespace, namespace, normalize};

use crate::Rejection;

/// Those that harm nobody else, and the kernel from which on they belong to a namespace: before it they are the node's.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// The parameters that pods may set on a node. By default none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SysctlAllowlist {
    /// Whole names; `true`: what names begin with.
    allowed: Vec<(String, bool, Namespace)>,
}

/// A pattern of which nobody knows that it names parameters of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sysctls {0:?} are not known to be namespaced")]
pub struct NotNamespaced(pub String);

impl SysctlAllowlist {
    /// What is safe with this kernel (`uname -r`), and `patterns`: names, or beginnings of names with `*` behind
    /// (`allowedUnsafeSysctls`).
    ///
    /// # Errors
    /// For the first pattern that names nothing of a pod's own.
    pub fn new(kernel: &str, patterns: &[String]) -> Result<Self, NotNamespaced> {
        let running = version(kernel);
        let safe = SAFE.iter().filter(|(_, since)| *since == (0, 0) || running.is_some_and(|v| v >= *since));
        let safe = safe.map(|(name, _)| *name);
        let allowed = safe.chain(patterns.iter().map(String::as_str)).map(|pattern| {
            let (name, begins) = sysctl::pattern(pattern);
            let namespace = namespace(&name).ok_or_else(|| NotNamespaced(name.clone()))?;
            Ok((name, begins, namespace))
        });
        Ok(Self { allowed: allowed.collect::<Result<_, _>>()? })
    }

    /// Whether the pod may set what it sets.
    pub(crate) fn admits(&self, spec: &PodSpec) -> Result<(), Rejection> {
        let set = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
        for name in set.map(|sysctl| normalize(&sysctl.name)) {
            if let Some(problem) = self.problem(&name, spec) {
                return Err(Rejection {
                    reason: "SysctlForbidden".to_owned(),
                    message: format!("forbidden sysctl: {name:?} {problem}"),
                });
            }
        }
        Ok(())
    }

    fn problem(&self, name: &str, spec: &PodSpec) -> Option<String> {
        let whole = self.allowed.iter().find(|(known, begins, _)| !begins && known == name);
        let rule = whole
            .or_else(|| self.allowed.iter().find(|(known, begins, _)| *begins && name.starts_with(known)));
        let Some((_, _, namespace)) = rule else { return Some("not allowlisted".to_owned()) };
        let nodes = match namespace {
            Namespace::Ipc => spec.host_ipc == Some(true),
            Namespace::Net => pod::host_network(spec),
        };
        nodes.then(|| format!("not allowed with host {namespace} enabled"))
    }
}

/// `6.1.0-13-amd64` is 6.1.
fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut parts = kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(list: &SysctlAllowlist, spec: serde_json::Value) -> String {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        list.admits(&spec).map_or_else(|rejection| rejection.message, |()| String::new())
    }

    fn with(name: &str) -> serde_json::Value {
        json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}})
    }

    #[test]
    fn what_may_be_set_depends_on_name_kernel_and_namespaces() {
        let patterns = ["net.core.*", "kernel/msg*", "kernel.shmmax"].map(str::to_owned);
        let not_listed = |name: &str| format!("forbidden sysctl: {name:?} not allowlisted");
        for (kernel, name, extra, want) in [
            ("6.1.0-13-amd64", "kernel.shm_rmid_forced", "", String::new()),
            ("6.1", "net/ipv4/tcp_syncookies", "", String::new()),
            ("6.1", "net.ipv4.tcp_rmem", "", String::new()),
            ("4.15.0-generic", "net.ipv4.tcp_wmem", "", String::new()),
            ("4.14.99", "net.ipv4.tcp_wmem", "", not_listed("net.ipv4.tcp_wmem")),
            ("4.5", "net.ipv4.tcp_fin_timeout", "", not_listed("net.ipv4.tcp_fin_timeout")),
            ("4.5", "net.ipv4.tcp_keepalive_time", "", String::new()),
            ("3.10", "net.ipv4.ip_local_reserved_ports", "", not_listed("net.ipv4.ip_local_reserved_ports")),
            ("", "net.ipv4.tcp_rmem", "", not_listed("net.ipv4.tcp_rmem")),
            ("", "net.ipv4.ping_group_range", "", String::new()),
            ("6.1", "net/core/somaxconn", "", String::new()),
            ("6.1", "kernel.msgmax", "", String::new()),
            ("6.1", "kernel.shmmax", "", String::new()),
            ("6.1", "kernel.shmall", "", not_listed("kernel.shmall")),
            ("6.1", "vm.swappiness", "", not_listed("vm.swappiness")),
            (
                "6.1",
                "net.core.somaxconn",
                "hostNetwork",
                "forbidden sysctl: \"net.core.somaxconn\" not allowed with host Net enabled".to_owned(),
            ),
            (
                "6.1",
                "kernel.shm_rmid_forced",
                "hostIPC",
                "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host IPC enabled".to_owned(),
            ),
            ("6.1", "net.ipv4.tcp_syncookies", "hostIPC", String::new()),
            ("6.1", "kernel.msgmax", "hostNetwork", String::new()),
        ] {
            let list = SysctlAllowlist::new(kernel, &patterns).unwrap();
            let mut spec = with(name);
            if !extra.is_empty() {
                spec[extra] = json!(true);
            }
            assert_eq!(verdict(&list, spec), want, "{kernel} {name} {extra}");
        }
    }

    #[test]
    fn a_pattern_for_what_is_the_nodes_is_refused() {
        for (pattern, named) in [("kernel.panic", "kernel.panic"), ("vm/*", "vm."), ("*", "")] {
            let error = SysctlAllowlist::new("6.1", &[pattern.to_owned()]).unwrap_err();
            assert_eq!(error.to_string(), format!("the sysctls {named:?} are not known to be namespaced"));
        }
    }

    #[test]
    fn a_pod_that_sets_none_may_do_so_anywhere() {
        assert_eq!(verdict(&SysctlAllowlist::default(), json!({"containers": []})), "");
        let message = verdict(&SysctlAllowlist::default(), with("kernel.shm_rmid_forced"));
        assert_eq!(message, "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowlisted");
    }
}
