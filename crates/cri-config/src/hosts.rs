//! The text of a pod's `/etc/hosts`. Rule: upstream `pkg/kubelet/kubelet_pods.go`.

use std::fmt::Write;
use std::net::IpAddr;

use kube_model::core::{Container, Pod};
use kube_model::pod;

use crate::error::ConfigError;
use crate::hostname::{PodName, pod_name};

/// Where it is mounted.
pub const HOSTS_PATH: &str = "/etc/hosts";

/// The head of every managed file; the addresses are what distributions put there.
const HEAD: &str = "# Kubernetes-managed hosts file.\n\
    127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

const HEAD_HOST_NETWORK: &str = "# Kubernetes-managed hosts file (host network).\n";

/// Whether a container gets the managed file: not if it mounts something else there.
pub fn mounts_hosts_file(container: &Container) -> bool {
    !container.volume_mounts.iter().flatten().any(|m| m.mount_path == HOSTS_PATH)
}

/// The text of the managed file: the pod's names under each of its `ips`, or for a pod in the node's network
/// the node's own file (`node_hosts`), and then its host aliases.
///
/// # Errors
/// As [`pod_name`].
pub fn etc_hosts(
    pod: &Pod,
    ips: &[IpAddr],
    node_hosts: &str,
    cluster_domain: &str,
) -> Result<String, ConfigError> {
    let spec = pod.spec.as_ref();
    let mut text;
    if spec.is_some_and(pod::host_network) {
        text = format!("{HEAD_HOST_NETWORK}{node_hosts}");
    } else {
        let PodName { hostname, domain } = pod_name(pod, cluster_domain)?;
        text = HEAD.to_owned();
        for ip in ips {
            // Writing to a String cannot fail.
            let _ = match domain.as_str() {
                "" => writeln!(text, "{ip}\t{hostname}"),
                _ => writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}"),
            };
        }
    }
    let aliases = spec.and_then(|s| s.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        let _ = writeln!(text, "{}\t{names}", alias.ip);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pods::{pod, spec};

    fn text(spec: &str) -> String {
        let ips = ["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        etc_hosts(&pod(spec), &ips, "127.0.0.1\tlocalhost\n", "c.local").unwrap()
    }

    #[test]
    fn a_pod_finds_its_own_names() {
        assert_eq!(text("{}"), format!("{HEAD}10.0.0.5\tweb\nfd00::5\tweb\n"));
        assert_eq!(
            text(r#"{"hostname":"h","subdomain":"s"}"#),
            format!("{HEAD}10.0.0.5\th.s.ns.svc.c.local\th\nfd00::5\th.s.ns.svc.c.local\th\n")
        );
    }

    #[test]
    fn in_the_nodes_network_the_file_is_the_nodes() {
        let got = text(
            r#"{"hostNetwork":true,"hostAliases":[{"ip":"1.2.3.4","hostnames":["a","b"]},{"ip":"::2"}]}"#,
        );
        assert_eq!(
            got,
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1\tlocalhost\n\
             \n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n::2\t\n"
        );
    }

    #[test]
    fn a_container_that_mounts_its_own_file_keeps_it() {
        let pod = pod(
            r#"{"containers":[{"name":"a"},{"name":"b","volumeMounts":[{"name":"v","mountPath":"/etc/hosts"}]}]}"#,
        );
        let mounts: Vec<bool> = spec(&pod).containers.iter().map(mounts_hosts_file).collect();
        assert_eq!(mounts, [true, false]);
    }
}
