//! The environment variables that tell a container where services are.
//!
//! Rule: upstream `pkg/kubelet/kubelet_pods.go` (`getServiceEnvVarMap`), `pkg/kubelet/envvars/envvars.go`.

use std::collections::BTreeMap;

/// What of a service goes into variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
    /// `spec.clusterIP`; services without one, and headless ones, are in no variable.
    pub cluster_ip: Box<str>,
    /// `spec.ports`
    pub ports: Box<[Port]>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// May be empty if it is the only one.
    pub name: Box<str>,
    /// The service's port, not that of its pods.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
}

/// The services of this namespace are known to every pod.
const MASTER_NAMESPACE: &str = "default";
/// And of them this one.
const MASTER_SERVICE: &str = "kubernetes";

/// The variables for a container in `namespace`, by name: those of `default/kubernetes`, and with `links`
/// (`enableServiceLinks`) those of all services of its namespace, of which one called `kubernetes` wins.
///
/// Services whose names make the same variable are taken in the order of their names, so that the outcome does
/// not change from one container to the next. (The kubelet takes them at random.)
pub fn environment<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services.into_iter().filter(|service| has_address(service)) {
        if links && *service.namespace == *namespace {
            chosen.insert(&service.name, service);
        } else if *service.namespace == *MASTER_NAMESPACE && *service.name == *MASTER_SERVICE {
            chosen.entry(&service.name).or_insert(service);
        }
    }
    let mut variables = BTreeMap::new();
    for service in chosen.into_values() {
        add(&mut variables, service);
    }
    variables
}

fn has_address(service: &Service) -> bool {
    !service.cluster_ip.is_empty() && *service.cluster_ip != *"None"
}

fn add(variables: &mut BTreeMap<String, String>, service: &Service) {
    let Service { name, cluster_ip: ip, ports, .. } = service;
    let prefix = variable_name(name);
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{prefix}_SERVICE_HOST"), ip.to_string());
    if let Some(first) = ports.first() {
        set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    }
    for port in ports.iter().filter(|port| !port.name.is_empty()) {
        set(format!("{prefix}_SERVICE_PORT_{}", variable_name(&port.name)), port.port.to_string());
    }
    // As Docker's links had them.
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_string() };
    for (index, Port { port, protocol, .. }) in ports.iter().enumerate() {
        let protocol = if protocol.is_empty() { "TCP" } else { protocol };
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{host}:{port}");
        if index == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let prefix = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        set(format!("{prefix}_PROTO"), lower);
        set(format!("{prefix}_PORT"), port.to_string());
        set(format!("{prefix}_ADDR"), ip.to_string());
        set(prefix, url);
    }
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, ip: &str, ports: &[(&str, i32, &str)]) -> Service {
        let port = |&(name, port, protocol): &(&str, i32, &str)| Port {
            name: name.into(),
            port,
            protocol: protocol.into(),
        };
        Service {
            namespace: namespace.into(),
            name: name.into(),
            cluster_ip: ip.into(),
            ports: ports.iter().map(port).collect(),
        }
    }

    fn lines(services: &[Service], namespace: &str, links: bool) -> Vec<String> {
        environment(services, namespace, links).into_iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    fn hosts(services: &[Service], namespace: &str, links: bool) -> Vec<String> {
        let all = lines(services, namespace, links);
        all.into_iter().filter(|line| line.contains("_SERVICE_HOST=")).collect()
    }

    #[test]
    fn a_service_gives_host_ports_and_links() {
        let web = service("shop", "foo-bar", "1.2.3.4", &[("http", 8080, "TCP"), ("dns-udp", 53, "UDP")]);
        assert_eq!(
            lines(&[web], "shop", true),
            [
                "FOO_BAR_PORT=tcp://1.2.3.4:8080",
                "FOO_BAR_PORT_53_UDP=udp://1.2.3.4:53",
                "FOO_BAR_PORT_53_UDP_ADDR=1.2.3.4",
                "FOO_BAR_PORT_53_UDP_PORT=53",
                "FOO_BAR_PORT_53_UDP_PROTO=udp",
                "FOO_BAR_PORT_8080_TCP=tcp://1.2.3.4:8080",
                "FOO_BAR_PORT_8080_TCP_ADDR=1.2.3.4",
                "FOO_BAR_PORT_8080_TCP_PORT=8080",
                "FOO_BAR_PORT_8080_TCP_PROTO=tcp",
                "FOO_BAR_SERVICE_HOST=1.2.3.4",
                "FOO_BAR_SERVICE_PORT=8080",
                "FOO_BAR_SERVICE_PORT_DNS_UDP=53",
                "FOO_BAR_SERVICE_PORT_HTTP=8080",
            ]
        );
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets_in_urls_only_and_the_protocol_is_tcp_if_unsaid() {
        let six = service("shop", "six", "fd00::1", &[("", 80, "")]);
        assert_eq!(
            lines(&[six], "shop", true),
            [
                "SIX_PORT=tcp://[fd00::1]:80",
                "SIX_PORT_80_TCP=tcp://[fd00::1]:80",
                "SIX_PORT_80_TCP_ADDR=fd00::1",
                "SIX_PORT_80_TCP_PORT=80",
                "SIX_PORT_80_TCP_PROTO=tcp",
                "SIX_SERVICE_HOST=fd00::1",
                "SIX_SERVICE_PORT=80",
            ]
        );
    }

    #[test]
    fn which_services_a_namespace_sees() {
        let all = [
            service("default", "kubernetes", "10.0.0.1", &[("https", 443, "TCP")]),
            service("default", "other", "10.0.0.2", &[("", 80, "TCP")]),
            service("shop", "web", "10.0.0.3", &[("", 80, "TCP")]),
            service("shop", "headless", "None", &[("", 80, "TCP")]),
            service("shop", "external", "", &[]),
        ];
        let mut with_own = all.to_vec();
        with_own.push(service("shop", "kubernetes", "10.0.0.9", &[("", 80, "TCP")]));
        let master = "KUBERNETES_SERVICE_HOST=10.0.0.1";
        type Case<'a> = (&'a str, &'a [Service], &'a str, bool, &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("links", &all, "shop", true, &[master, "WEB_SERVICE_HOST=10.0.0.3"]),
            ("no links", &all, "shop", false, &[master]),
            ("default with links", &all, "default", true, &[master, "OTHER_SERVICE_HOST=10.0.0.2"]),
            ("default without links", &all, "default", false, &[master]),
            ("another namespace", &all, "empty", true, &[master]),
            (
                "one's own is nearer",
                &with_own,
                "shop",
                true,
                &["KUBERNETES_SERVICE_HOST=10.0.0.9", "WEB_SERVICE_HOST=10.0.0.3"],
            ),
            ("but not without links", &with_own, "shop", false, &[master]),
            ("no services", &[], "shop", true, &[]),
        ];
        for (case, services, namespace, links, expected) in cases {
            assert_eq!(hosts(services, namespace, *links), *expected, "{case}");
            let reversed: Vec<_> = services.iter().rev().cloned().collect();
            assert_eq!(hosts(&reversed, namespace, *links), *expected, "{case}, the other way round");
        }
    }

    #[test]
    fn a_service_without_ports_has_a_host_only() {
        let bare = service("shop", "bare", "10.0.0.4", &[]);
        assert_eq!(lines(&[bare], "shop", true), ["BARE_SERVICE_HOST=10.0.0.4"]);
    }
}
