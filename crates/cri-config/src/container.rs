//! The configuration of a container.
//! Rule: upstream `pkg/kubelet/kuberuntime/kuberuntime_container.go`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use kube_model::core::{Container, Pod, PodSpec};
use kube_model::{hash, labels, pod};
use node_proto::cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, Signal,
};

use crate::env::{Env, References};
use crate::error::{ConfigError, FieldError};
use crate::extras::ContainerExtras;
use crate::hosts::{HOSTS_PATH, mounts_hosts_file};
use crate::sandbox::identity_labels;
use crate::security::{self, ImageUser, check_run_as_non_root};
use crate::settings::Settings;
use crate::{paths, resources};

/// One start of one container.
#[derive(Debug, Clone, Copy)]
pub struct ContainerInputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container in its spec.
    pub container: &'a Container,
    /// How often it was restarted before.
    pub restart_count: u32,
    /// What the runtime knows the image by.
    pub image_ref: &'a str,
    /// The user that the image names.
    pub image_user: &'a ImageUser,
    /// IPs of the sandbox, the primary one first; not used in the node's network.
    pub pod_ips: &'a [IpAddr],
    /// The managed hosts file on the node, if there is one: it is mounted unless the container mounts another.
    pub hosts_file: Option<&'a Path>,
    /// The termination log on the node: mounted if the container wants one.
    pub termination_log: &'a Path,
    /// What was found of the objects that its variables come from; `None` on a node without an API server, where
    /// a container that needs one is refused.
    pub references: Option<&'a References<'a>>,
    /// What it gets beside what its spec and the node say.
    pub extras: &'a ContainerExtras,
}

/// What to ask the runtime for.
///
/// # Errors
/// A field of the pod or container that no container can be made of, or a user that it must not run as.
pub fn container_config(
    inputs: ContainerInputs<'_>,
    settings: &Settings,
) -> Result<ContainerConfig, ConfigError> {
    let ContainerInputs { pod, container, image_user, .. } = inputs;
    let refuse = |e: FieldError| e.of_container(pod, &container.name);
    check_run_as_non_root(pod, container, image_user)?;
    let spec = pod.spec.as_ref().ok_or_else(|| refuse(FieldError::new("spec", "is missing")))?;
    let pod_ips = if pod::host_network(spec) { &settings.node_ips } else { inputs.pod_ips };
    let mut env = Env::new(pod, spec, container, pod_ips, settings, inputs.references)?;
    env.underlay(&inputs.extras.envs);
    build(inputs, spec, env, settings).map_err(refuse)
}

/// The variables of a container with their values, as the paths in its volumes may refer to them (`subPathExpr`).
///
/// # Errors
/// A variable of which nothing can be made.
pub fn variables(
    pod: &Pod,
    container: &Container,
    pod_ips: &[IpAddr],
    settings: &Settings,
    references: Option<&References<'_>>,
) -> Result<BTreeMap<String, Vec<u8>>, ConfigError> {
    let Some(spec) = &pod.spec else { return Ok(BTreeMap::new()) };
    let pod_ips = if pod::host_network(spec) { &settings.node_ips } else { pod_ips };
    Ok(Env::new(pod, spec, container, pod_ips, settings, references)?.into_variables())
}

fn build(
    inputs: ContainerInputs<'_>,
    spec: &PodSpec,
    mut env: Env,
    settings: &Settings,
) -> Result<ContainerConfig, FieldError> {
    let ContainerInputs { pod, container, restart_count, extras, .. } = inputs;
    let mut words = |field: &str, list: &Option<Vec<String>>| {
        let words = list.iter().flatten().map(|word| env.expand(word));
        words.collect::<Result<_, _>>().map_err(|problem| FieldError::new(field, problem))
    };
    let mut labels: BTreeMap<_, _> = identity_labels(pod).into();
    labels.insert(labels::CONTAINER_NAME.to_owned(), container.name.clone());
    let mut annotations = extras.annotations.clone();
    annotations.append(&mut self::annotations(pod, spec, container, restart_count)?);
    let mut resources = resources::of_container(pod, spec, container, settings);
    extras.cpuset.apply(&mut resources);
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: restart_count }),
        image: Some(ImageSpec {
            image: inputs.image_ref.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: words("command", &container.command)?,
        args: words("args", &container.args)?,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: mounts(inputs, settings),
        devices: extras.devices.clone(),
        cdi_devices: extras.cdi_devices.clone(),
        labels,
        annotations,
        log_path: paths::log_path(&container.name, restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources),
            security_context: Some(security::of_container(
                pod,
                spec,
                container,
                inputs.image_user,
                &extras.supplemental_groups,
                settings,
            )?),
        }),
        stop_signal: stop_signal(container)?.into(),
        envs: env.variables.into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        ..ContainerConfig::default()
    })
}

fn mounts(inputs: ContainerInputs<'_>, settings: &Settings) -> Vec<Mount> {
    let mount = |at: &str, file: &Path| Mount {
        container_path: at.to_owned(),
        host_path: file.to_string_lossy().into_owned(),
        selinux_relabel: settings.selinux,
        ..Mount::default()
    };
    let hosts = inputs.hosts_file.filter(|_| mounts_hosts_file(inputs.container));
    let message_path = inputs.container.termination_message_path.as_deref().filter(|p| !p.is_empty());
    let given = inputs.extras.mounts.iter();
    given
        .map(|m| Mount { selinux_relabel: m.selinux_relabel && settings.selinux, ..m.clone() })
        .chain(hosts.map(|file| mount(HOSTS_PATH, file)))
        .chain(message_path.map(|at| mount(at, inputs.termination_log)))
        .collect()
}

/// What a restarted agent needs to know of a container whose pod is gone, and what others read.
pub(crate) fn annotations(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    restart_count: u32,
) -> Result<BTreeMap<String, String>, FieldError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut all: BTreeMap<String, String> = [
        (labels::CONTAINER_HASH, hash::container_hash(container)),
        (labels::CONTAINER_RESTART_COUNT, restart_count.to_string()),
        (labels::CONTAINER_TERMINATION_MESSAGE_PATH, text(&container.termination_message_path)),
        (labels::CONTAINER_TERMINATION_MESSAGE_POLICY, text(&container.termination_message_policy)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut add = |name: &str, value: Option<String>| all.extend(value.map(|v| (name.to_owned(), v)));
    let seconds = |value: Option<i64>| value.map(|v| v.to_string());
    add(labels::POD_DELETION_GRACE_PERIOD, seconds(pod.metadata.deletion_grace_period_seconds));
    add(labels::POD_TERMINATION_GRACE_PERIOD, seconds(spec.termination_grace_period_seconds));
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) {
        let json =
            serde_json::to_string(hook).map_err(|e| FieldError::new("lifecycle.preStop", e.to_string()))?;
        add(labels::CONTAINER_PRE_STOP_HANDLER, Some(json));
    }
    if let Some(ports) = container.ports.as_ref().filter(|p| !p.is_empty()) {
        let json = serde_json::to_string(ports).map_err(|e| FieldError::new("ports", e.to_string()))?;
        add(labels::CONTAINER_PORTS, Some(json));
    }
    Ok(all)
}

/// The API writes `SIGRTMIN+1`, the CRI `SIGRTMINPLUS1`.
fn stop_signal(container: &Container) -> Result<Signal, FieldError> {
    let Some(name) = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref()) else {
        return Ok(Signal::RuntimeDefault);
    };
    Signal::from_str_name(&name.replace('+', "PLUS").replace('-', "MINUS"))
        .filter(|s| *s != Signal::RuntimeDefault)
        .ok_or_else(|| {
            FieldError::new("lifecycle.stopSignal", format!("{name:?} is not the name of a signal"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pods::{pod, spec};

    fn config_of(pod: &Pod, hosts_file: Option<&Path>) -> Result<ContainerConfig, ConfigError> {
        let settings =
            Settings { node_ips: vec!["10.0.0.1".parse().unwrap()], selinux: true, ..Settings::default() };
        let inputs = ContainerInputs {
            pod,
            container: &spec(pod).containers[0],
            restart_count: 2,
            image_ref: "sha256:1",
            image_user: &ImageUser::Uid(0),
            pod_ips: &["10.1.0.5".parse().unwrap()],
            hosts_file,
            termination_log: Path::new("/t"),
            references: None,
            extras: &ContainerExtras::default(),
        };
        container_config(inputs, &settings)
    }

    #[test]
    fn files_are_mounted_where_the_container_wants_them() {
        let hosts = Some(Path::new("/h"));
        let own_hosts = r#""volumeMounts":[{"name":"v","mountPath":"/etc/hosts"}],"#;
        for (extra, path, hosts, want) in [
            ("", "/dev/termination-log", hosts, "/h:/etc/hosts /t:/dev/termination-log"),
            ("", "/x", None, "/t:/x"),
            ("", "", hosts, "/h:/etc/hosts"),
            (own_hosts, "/x", hosts, "/t:/x"),
        ] {
            let pod = pod(&format!(
                r#"{{"containers":[{{{extra}"name":"a","terminationMessagePath":"{path}"}}]}}"#
            ));
            let mounts = config_of(&pod, hosts).unwrap().mounts;
            assert!(mounts.iter().all(|m| m.selinux_relabel));
            let mounts: Vec<_> =
                mounts.iter().map(|m| format!("{}:{}", m.host_path, m.container_path)).collect();
            assert_eq!(mounts.join(" "), want);
        }
    }

    #[test]
    fn in_the_nodes_network_the_pods_ip_is_the_nodes() {
        let with = |host| {
            let pod = pod(&format!(
                r#"{{"hostNetwork":{host},"containers":[{{"name":"a","args":["$(IP)"],"env":[
                    {{"name":"IP","valueFrom":{{"fieldRef":{{"fieldPath":"status.podIP"}}}}}}]}}]}}"#
            ));
            config_of(&pod, None).unwrap().args
        };
        assert_eq!((with(true), with(false)), (vec!["10.0.0.1".into()], vec!["10.1.0.5".into()]));
    }

    #[test]
    fn a_stop_signal_is_named_as_the_runtime_names_it() {
        for (name, want) in [
            ("SIGUSR1", Some(Signal::Sigusr1)),
            ("SIGRTMIN+15", Some(Signal::Sigrtminplus15)),
            ("SIGRTMAX-1", Some(Signal::Sigrtmaxminus1)),
            ("USR1", None),
            ("RUNTIME_DEFAULT", None),
        ] {
            let pod =
                pod(&format!(r#"{{"containers":[{{"name":"a","lifecycle":{{"stopSignal":"{name}"}}}}]}}"#));
            let got = config_of(&pod, None);
            assert_eq!(got.as_ref().ok().map(ContainerConfig::stop_signal), want, "{name}");
            if let Err(e) = got {
                let want = format!(
                    "pod ns/web, container a: lifecycle.stopSignal: {name:?} is not the name of a signal"
                );
                assert_eq!(e.to_string(), want);
            }
        }
    }

    #[test]
    fn a_deletion_grace_period_is_noted_where_there_is_one() {
        let mut pod = pod(r#"{"containers":[{"name":"a"}]}"#);
        let name = labels::POD_DELETION_GRACE_PERIOD;
        assert_eq!(config_of(&pod, None).unwrap().annotations.get(name), None);
        pod.metadata.deletion_grace_period_seconds = Some(7);
        assert_eq!(config_of(&pod, None).unwrap().annotations[name], "7");
    }

    #[test]
    fn a_container_that_must_not_be_root_is_not_configured_as_root() {
        let pod = pod(r#"{"containers":[{"name":"a","securityContext":{"runAsNonRoot":true}}]}"#);
        assert!(matches!(config_of(&pod, None), Err(ConfigError::NonRoot { .. })));
    }
}
