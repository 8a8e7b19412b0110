//! What a pod calls itself. Rule: upstream `GeneratePodHostNameAndDomain` in
//! `pkg/kubelet/kubelet_pods.go` and `pkg/kubelet/util`.

use kube_model::core::Pod;

use crate::error::{ConfigError, FieldError};

/// Longest host name; the name of a pod may be longer and is cut.
const MAX_HOSTNAME: usize = 63;
/// Longest name that the kernel takes, and so the longest fully qualified one.
const MAX_FQDN: usize = 64;

/// Host name and, where the pod has a subdomain, its domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// At most 63 bytes.
    pub hostname: String,
    /// `<subdomain>.<namespace>.svc.<cluster domain>`; empty without a subdomain.
    pub domain: String,
}

/// The names of a pod inside of its own network.
///
/// # Errors
/// `spec.hostname` or `spec.subdomain` is not a DNS label, or nothing is left of the name.
pub fn pod_name(pod: &Pod, cluster_domain: &str) -> Result<PodName, ConfigError> {
    names(pod, cluster_domain).map_err(|e| e.of_pod(pod))
}

/// The name that the kernel is told: the host name, or with `setHostnameAsFQDN` all of it.
pub(crate) fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, ConfigError> {
    let PodName { hostname, domain } = pod_name(pod, cluster_domain)?;
    let wants_fqdn = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn).unwrap_or(false);
    if !wants_fqdn || domain.is_empty() {
        return Ok(hostname);
    }
    let fqdn = format!("{hostname}.{domain}");
    if fqdn.len() > MAX_FQDN { Err(ConfigError::FqdnTooLong { fqdn, max: MAX_FQDN }) } else { Ok(fqdn) }
}

fn names(pod: &Pod, cluster_domain: &str) -> Result<PodName, FieldError> {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.as_deref()) {
        return Ok(PodName { hostname: cut("spec.hostnameOverride", name)?, domain: String::new() });
    }
    let label = |field: &str, value: Option<&str>| match value {
        Some(name) if !name.is_empty() && !is_dns_label(name) => {
            Err(FieldError::new(field, format!("{name:?} is not a DNS label")))
        }
        _ => Ok(()),
    };
    let hostname = spec.and_then(|s| s.hostname.as_deref());
    let subdomain = spec.and_then(|s| s.subdomain.as_deref());
    label("spec.hostname", hostname)?;
    label("spec.subdomain", subdomain)?;
    let name = hostname.filter(|h| !h.is_empty()).or(pod.metadata.name.as_deref()).unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Ok(PodName {
        hostname: cut("metadata.name", name)?,
        domain: subdomain
            .filter(|s| !s.is_empty())
            .map(|s| format!("{s}.{namespace}.svc.{cluster_domain}"))
            .unwrap_or_default(),
    })
}

/// The first 63 bytes without what may not stand at an end.
fn cut(field: &str, name: &str) -> Result<String, FieldError> {
    if name.len() <= MAX_HOSTNAME {
        return Ok(name.to_owned());
    }
    let cut = name[..name.floor_char_boundary(MAX_HOSTNAME)].trim_end_matches(['-', '.']);
    if cut.is_empty() {
        return Err(FieldError::new(field, format!("no host name can be made of {name:?}")));
    }
    Ok(cut.to_owned())
}

fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_HOSTNAME).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pods::pod;

    fn kernel(spec: &str, name: &str) -> Result<String, String> {
        let mut pod = pod(spec);
        pod.metadata.name = Some(name.into());
        kernel_hostname(&pod, "cluster.local").map_err(|e| e.to_string())
    }

    #[test]
    fn the_kernel_is_told_the_override_the_hostname_or_the_pods_name() {
        let long = "a".repeat(70);
        let dashes = format!("{}-.-{}", "a".repeat(60), "b".repeat(9));
        for (spec, name, want) in [
            ("{}", "web-node1", "web-node1"),
            (r#"{"hostname":"h"}"#, "web", "h"),
            (r#"{"hostname":""}"#, "web", "web"),
            (r#"{"hostname":"h","subdomain":"s"}"#, "web", "h"),
            (
                r#"{"hostname":"h","subdomain":"s","setHostnameAsFQDN":true}"#,
                "web",
                "h.s.ns.svc.cluster.local",
            ),
            (r#"{"setHostnameAsFQDN":true}"#, "web", "web"),
            (r#"{"hostnameOverride":"o.example","hostname":"h","subdomain":"s"}"#, "web", "o.example"),
            ("{}", &long, &long[..63]),
            ("{}", &dashes, &dashes[..60]),
        ] {
            assert_eq!(kernel(spec, name).as_deref(), Ok(want), "{spec} {name}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_used_is_refused_with_its_field() {
        for (spec, field) in [
            (r#"{"hostname":"A"}"#, "spec.hostname"),
            (r#"{"subdomain":"-s"}"#, "spec.subdomain"),
            (r#"{"subdomain":"a.b"}"#, "spec.subdomain"),
        ] {
            let error = kernel(spec, "web").unwrap_err();
            assert!(error.starts_with(&format!("pod ns/web: {field}: ")), "{error}");
        }
        let long = format!(r#"{{"hostname":"{}","subdomain":"s","setHostnameAsFQDN":true}}"#, "h".repeat(50));
        let fqdn = format!("{}.s.ns.svc.cluster.local", "h".repeat(50));
        let want = format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long (64 characters is \
             the max, 73 characters requested)"
        );
        assert_eq!(kernel(&long, "web").unwrap_err(), want);
        let dots = ".".repeat(80);
        assert!(kernel("{}", &dots).unwrap_err().contains("metadata.name"));
    }
}
