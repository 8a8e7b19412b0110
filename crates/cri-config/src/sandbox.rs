//! The configuration of a pod's sandbox.
//! Rule: upstream `pkg/kubelet/kuberuntime/kuberuntime_sandbox.go`.

use std::collections::BTreeMap;

use kube_model::core::{ContainerPort, Pod, PodSpec, Sysctl};
use kube_model::qos::QosClass;
use kube_model::{labels, pod, sysctl};
use node_proto::cri::v1::{
    LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping,
    Protocol,
};

use crate::error::{ConfigError, FieldError};
use crate::hostname::kernel_hostname;
use crate::settings::Settings;
use crate::{cgroup, dns, paths, resources, security};

/// What to ask the runtime for: the sandbox of `pod`, its `attempt`th, counted from 0. The same message goes
/// with each container that is created in it.
///
/// `groups` are further ones of the pod's processes, which its volumes bring.
///
/// # Errors
/// A field of the pod that no sandbox can be made of.
pub fn sandbox_config(
    pod: &Pod,
    attempt: u32,
    groups: &[i64],
    settings: &Settings,
) -> Result<PodSandboxConfig, ConfigError> {
    let spec = pod.spec.as_ref().ok_or_else(|| FieldError::new("spec", "is missing").of_pod(pod))?;
    let (uid, key) = pod::identity(pod);
    let hostname = match pod::host_network(spec) {
        true => String::new(),
        false => kernel_hostname(pod, &settings.dns.domain)?,
    };
    let logs = paths::pod_logs_dir(&settings.pod_logs_dir, &uid, &key);
    Ok(PodSandboxConfig {
        hostname,
        log_directory: logs.to_string_lossy().into_owned(),
        dns_config: Some(dns::pod_dns(pod, settings).0),
        port_mappings: port_mappings(spec),
        labels: pod_labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup::pod_cgroup(QosClass::of(pod), &uid, &settings.cgroups),
            security_context: Some(security::of_sandbox(spec, groups).map_err(|e| e.of_pod(pod))?),
            sysctls: sysctls(spec).map(|s| (sysctl::normalize(&s.name), s.value.clone())).collect(),
            // Only runtime classes bring one, and those need an API server.
            overhead: Some(LinuxContainerResources::default()),
            resources: Some(resources::of_sandbox(spec, settings)),
        }),
        metadata: Some(PodSandboxMetadata {
            name: key.name.to_string(),
            uid: uid.to_string(),
            namespace: key.namespace.to_string(),
            attempt,
        }),
        ..PodSandboxConfig::default()
    })
}

/// The pod's own labels, and over them those that it is found by.
pub(crate) fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut all = pod.metadata.labels.clone().unwrap_or_default();
    all.extend(identity_labels(pod));
    all
}

/// The labels that a restarted agent finds sandboxes and containers of a pod by.
pub(crate) fn identity_labels(pod: &Pod) -> [(String, String); 3] {
    let (uid, key) = pod::identity(pod);
    [
        (labels::POD_NAME.to_owned(), key.name.to_string()),
        (labels::POD_NAMESPACE.to_owned(), key.namespace.to_string()),
        (labels::POD_UID.to_owned(), uid.to_string()),
    ]
}

/// Of regular containers only; what stands there twice counts once.
fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    let mut all = Vec::new();
    for container in &spec.containers {
        let mut own: Vec<PortMapping> = Vec::new();
        for port in container.ports.iter().flatten().map(port_mapping) {
            if !own.contains(&port) {
                own.push(port);
            }
        }
        all.append(&mut own);
    }
    all
}

fn port_mapping(port: &ContainerPort) -> PortMapping {
    let protocol = port.protocol.as_deref().and_then(Protocol::from_str_name).unwrap_or(Protocol::Tcp);
    PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    }
}

/// The sysctls that the pod sets; whether it may was asked on admission.
fn sysctls(spec: &PodSpec) -> impl Iterator<Item = &Sysctl> {
    spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pods::pod;

    fn config(spec: &str) -> PodSandboxConfig {
        sandbox_config(&pod(spec), 3, &[], &Settings::default()).unwrap()
    }

    #[test]
    fn in_the_nodes_network_a_pod_has_no_name_of_its_own() {
        let got = config(r#"{"hostNetwork":true,"hostname":"h"}"#);
        assert_eq!((got.hostname.as_str(), got.metadata.unwrap().attempt), ("", 3));
    }

    #[test]
    fn sysctls_reach_the_sandbox_with_dots_in_their_names() {
        let got =
            config(r#"{"securityContext":{"sysctls":[{"name":"net/ipv4/tcp_syncookies","value":"1"}]}}"#);
        let want = [("net.ipv4.tcp_syncookies".to_owned(), "1".to_owned())];
        assert_eq!(got.linux.unwrap().sysctls, want.into());
    }

    #[test]
    fn a_pod_cannot_take_the_labels_that_it_is_found_by() {
        let mut pod = pod("{}");
        pod.metadata.labels = Some([(labels::POD_UID.to_owned(), "another".to_owned())].into());
        let got = sandbox_config(&pod, 0, &[], &Settings::default()).unwrap();
        assert_eq!(got.labels[labels::POD_UID], "uid-1");
    }

    #[test]
    fn ports_are_mapped_once_and_not_for_init_containers() {
        let got = config(
            r#"{"initContainers":[{"name":"i","ports":[{"containerPort":1}]}],"containers":[
                {"name":"a","ports":[{"containerPort":2,"protocol":"SCTP","hostPort":3,"hostIP":"::1"},
                {"containerPort":2,"protocol":"SCTP","hostPort":3,"hostIP":"::1"}]},
                {"name":"b","ports":[{"containerPort":4}]}]}"#,
        );
        let ports: Vec<_> = got
            .port_mappings
            .iter()
            .map(|p| (p.container_port, p.host_port, p.protocol(), p.host_ip.as_str()))
            .collect();
        assert_eq!(ports, [(2, 3, Protocol::Sctp, "::1"), (4, 0, Protocol::Tcp, "")]);
    }

    #[test]
    fn the_sandbox_is_privileged_if_any_container_is() {
        let got = config(
            r#"{"securityContext":{"runAsUser":1,"fsGroup":2,"seccompProfile":{"type":"Unconfined"}},
                "initContainers":[{"name":"i","securityContext":{"privileged":true}}]}"#,
        );
        let context = got.linux.unwrap().security_context.unwrap();
        assert!(context.privileged);
        assert_eq!((context.run_as_user.unwrap().value, context.supplemental_groups), (1, vec![2]));
        assert_eq!(context.seccomp.unwrap(), node_proto::cri::v1::SecurityProfile::default());
    }

    #[test]
    fn a_pod_without_spec_is_refused() {
        let mut pod = pod("{}");
        pod.spec = None;
        let error = sandbox_config(&pod, 0, &[], &Settings::default()).unwrap_err();
        assert_eq!(error.to_string(), "pod ns/web: spec: is missing");
    }
}
