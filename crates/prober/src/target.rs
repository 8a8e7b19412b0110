//! Where a probe or hook goes: named ports and the pod's address.

use std::net::IpAddr;

use kube_model::core::Container;
use kube_model::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The spec and what is known of the pod do not yield an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The pod has no IP, and the handler names no host.
    #[error("the pod has no IP address yet")]
    NoPodIp,
    /// No port of the container has this name.
    #[error("port {name:?} not found in container {container:?}")]
    NoSuchPort {
        /// Name that was looked for.
        name: String,
        /// Container whose ports were searched.
        container: String,
    },
    /// Not within 1..=65535.
    #[error("invalid port number: {0}")]
    BadPort(i32),
}

/// The port as a number; a name is looked up in the container's ports and never read as a number
/// (upstream `ResolveContainerPort`).
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, TargetError> {
    match port {
        IntOrString::Int(number) => number_of(*number),
        IntOrString::String(name) => {
            let found = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            let missing =
                || TargetError::NoSuchPort { name: name.clone(), container: container.name.clone() };
            number_of(found.ok_or_else(missing)?.container_port)
        }
    }
}

/// Checks the range of a port number.
pub(crate) fn number_of(port: i32) -> Result<u16, TargetError> {
    u16::try_from(port).ok().filter(|p| *p != 0).ok_or(TargetError::BadPort(port))
}

/// The host that the handler names, or the pod's IP.
///
/// With neither the kubelet would connect to the node itself; here that is an error.
pub fn host(host: Option<&str>, pod_ip: Option<IpAddr>) -> Result<String, TargetError> {
    match host {
        Some(host) if !host.is_empty() => Ok(host.to_owned()),
        _ => pod_ip.map(|ip| ip.to_string()).ok_or(TargetError::NoPodIp),
    }
}

#[cfg(test)]
mod tests {
    use kube_model::core::ContainerPort;

    use super::*;

    fn named(name: &str, number: i32) -> Container {
        let port = ContainerPort { name: Some(name.into()), container_port: number, ..Default::default() };
        Container { name: "app".into(), ports: Some(vec![port]), ..Default::default() }
    }

    #[test]
    fn ports_resolve() {
        let app = named("web", 8080);
        let cases = [
            (IntOrString::Int(80), Ok(80)),
            (IntOrString::Int(65535), Ok(65535)),
            (IntOrString::Int(0), Err(TargetError::BadPort(0))),
            (IntOrString::Int(-1), Err(TargetError::BadPort(-1))),
            (IntOrString::Int(65536), Err(TargetError::BadPort(65536))),
            (IntOrString::String("web".into()), Ok(8080)),
            (
                IntOrString::String("80".into()),
                Err(TargetError::NoSuchPort { name: "80".into(), container: "app".into() }),
            ),
        ];
        for (given, expected) in cases {
            assert_eq!(port(&given, &app), expected, "{given:?}");
        }
        let zero = named("web", 0);
        assert_eq!(port(&IntOrString::String("web".into()), &zero), Err(TargetError::BadPort(0)));
    }

    #[test]
    fn the_host_defaults_to_the_pod() {
        let ip = Some("10.0.0.9".parse().unwrap());
        assert_eq!(host(Some("example.com"), ip), Ok("example.com".into()));
        assert_eq!(host(Some(""), ip), Ok("10.0.0.9".into()));
        assert_eq!(host(None, ip), Ok("10.0.0.9".into()));
        assert_eq!(host(None, None), Err(TargetError::NoPodIp));
    }
}
