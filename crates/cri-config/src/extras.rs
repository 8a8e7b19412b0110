//! What a container gets beside what its spec and the node's settings say: of its volumes, its devices, its claims and
//! the CPUs that are its own (upstream `pkg/kubelet/container/runtime.go` `RunContainerOptions`, and
//! `pkg/kubelet/cm/internal_container_lifecycle_linux.go` for CPUs).

use std::collections::BTreeMap;

use node_proto::cri::v1::{CdiDevice, Device, LinuxContainerResources, Mount};

/// One container's extras, from everybody who has some. [`ContainerExtras::default`] changes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerExtras {
    /// Mounted in this order, before the files that the kubelet manages. `selinux_relabel` counts only where SELinux
    /// is on.
    pub mounts: Vec<Mount>,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Devices by their names in the Container Device Interface.
    pub cdi_devices: Vec<CdiDevice>,
    /// Variables. The container's own of the same name win; `command` and `args` may refer to these, variables not.
    pub envs: BTreeMap<String, String>,
    /// Annotations. Those that the kubelet writes win.
    pub annotations: BTreeMap<String, String>,
    /// What it may run on.
    pub cpuset: Cpuset,
    /// Groups of its processes, beside those of the spec.
    pub supplemental_groups: Vec<i64>,
}

/// CPUs and memory nodes, as lists of the kernel: `0-3,6`. Empty: all that the pod may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// CPUs
    pub cpus: String,
    /// NUMA nodes of memory
    pub mems: String,
}

impl ContainerExtras {
    /// Adds what another one gives: upstream's order is devices and claims, then volumes (`pkg/kubelet/kubelet_pods.go`
    /// `GenerateRunContainerOptions`). All mounts and devices stay, and of two at one path the later is the one to be
    /// seen; of variables, annotations and CPUs the later wins.
    pub fn append(&mut self, later: Self) {
        let Self { mounts, devices, cdi_devices, envs, annotations, cpuset, supplemental_groups } = later;
        self.mounts.extend(mounts);
        self.devices.extend(devices);
        self.cdi_devices.extend(cdi_devices);
        self.envs.extend(envs);
        self.annotations.extend(annotations);
        self.supplemental_groups.extend(supplemental_groups);
        for (known, later) in [(&mut self.cpuset.cpus, cpuset.cpus), (&mut self.cpuset.mems, cpuset.mems)] {
            if !later.is_empty() {
                *known = later;
            }
        }
    }
}

impl Cpuset {
    pub(crate) fn apply(&self, linux: &mut LinuxContainerResources) {
        linux.cpuset_cpus.clone_from(&self.cpus);
        linux.cpuset_mems.clone_from(&self.mems);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use node_proto::cri::v1::{ContainerConfig, MountPropagation};

    use super::*;
    use crate::test_pods::{pod, spec};
    use crate::{ContainerInputs, ImageUser, Settings, container_config};

    fn mount(host: &str, container: &str) -> Mount {
        Mount { host_path: host.into(), container_path: container.into(), ..Mount::default() }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn config(container: &str, extras: &ContainerExtras, selinux: bool) -> ContainerConfig {
        let pod = pod(&format!(r#"{{"containers":[{container}]}}"#));
        let inputs = ContainerInputs {
            pod: &pod,
            container: &spec(&pod).containers[0],
            restart_count: 2,
            image_ref: "sha256:1",
            image_user: &ImageUser::Uid(0),
            pod_ips: &[],
            hosts_file: Some(Path::new("/h")),
            termination_log: Path::new("/t"),
            references: None,
            extras,
        };
        container_config(inputs, &Settings { selinux, ..Settings::default() }).unwrap()
    }

    #[test]
    fn mounts_come_before_the_files_that_are_managed_in_the_order_of_who_gives_them() {
        const APP: &str = r#""name":"a","terminationMessagePath":"/dev/termination-log""#;
        let own_hosts = format!(r#"{{{APP},"volumeMounts":[{{"name":"v","mountPath":"/etc/hosts"}}]}}"#);
        let plain = format!("{{{APP}}}");
        type Mounts = &'static [(&'static str, &'static str)];
        let cases: [(&str, &str, Mounts, Mounts, &str); 5] = [
            ("none", &plain, &[], &[], "/h:/etc/hosts /t:/dev/termination-log"),
            (
                "of devices, then of volumes, each as given",
                &plain,
                &[("/lib/b", "/b"), ("/lib/a", "/a")],
                &[("/v/z", "/z"), ("/v/y", "/y")],
                "/lib/b:/b /lib/a:/a /v/z:/z /v/y:/y /h:/etc/hosts /t:/dev/termination-log",
            ),
            (
                "two at one path: both are told, the later covers the other",
                &plain,
                &[("/lib/a", "/a")],
                &[("/v/a", "/a")],
                "/lib/a:/a /v/a:/a /h:/etc/hosts /t:/dev/termination-log",
            ),
            (
                "a volume at the hosts file takes its place",
                &own_hosts,
                &[],
                &[("/v/hosts", "/etc/hosts")],
                "/v/hosts:/etc/hosts /t:/dev/termination-log",
            ),
            (
                "a device's mount there does not",
                &plain,
                &[("/lib/hosts", "/etc/hosts")],
                &[],
                "/lib/hosts:/etc/hosts /h:/etc/hosts /t:/dev/termination-log",
            ),
        ];
        for (case, container, of_devices, of_volumes, want) in cases {
            let some = |list: Mounts| ContainerExtras {
                mounts: list.iter().map(|(host, at)| mount(host, at)).collect(),
                ..ContainerExtras::default()
            };
            let mut extras = some(of_devices);
            extras.append(some(of_volumes));
            let got = config(container, &extras, false).mounts;
            let got: Vec<_> = got.iter().map(|m| format!("{}:{}", m.host_path, m.container_path)).collect();
            assert_eq!(got.join(" "), want, "{case}");
        }
    }

    #[test]
    fn a_mount_is_told_as_it_was_given_but_relabelled_only_where_selinux_is_on() {
        let given = Mount {
            readonly: true,
            recursive_read_only: true,
            propagation: MountPropagation::PropagationHostToContainer.into(),
            image_sub_path: "etc".into(),
            selinux_relabel: true,
            ..mount("/v", "/v")
        };
        let extras = ContainerExtras { mounts: vec![given.clone()], ..ContainerExtras::default() };
        assert_eq!(config(r#"{"name":"a"}"#, &extras, true).mounts[0], given);
        let plain = Mount { selinux_relabel: false, ..given };
        assert_eq!(config(r#"{"name":"a"}"#, &extras, false).mounts[0], plain);
    }

    #[test]
    fn variables_are_the_weakest_and_only_words_of_the_command_may_refer_to_them() {
        let container = r#"{"name":"a","command":["run","$(GPU)"],"args":["$(MODE) $(NONE)"],
            "env":[{"name":"MODE","value":"own"},{"name":"COPY","value":"$(GPU) $(MODE)"}]}"#;
        let mut extras = ContainerExtras { envs: map(&[("GPU", "0"), ("MODE", "x")]), ..Default::default() };
        extras.append(ContainerExtras { envs: map(&[("GPU", "1")]), ..Default::default() });
        let got = config(container, &extras, false);
        let envs: Vec<_> =
            got.envs.iter().map(|v| format!("{}={}", v.key, String::from_utf8_lossy(&v.value))).collect();
        assert_eq!(envs, ["COPY=$(GPU) own", "GPU=1", "MODE=own"]);
        assert_eq!((got.command, got.args), (vec!["run".into(), "1".into()], vec!["own $(NONE)".into()]));
    }

    #[test]
    fn annotations_never_replace_the_kubelets() {
        let restart_count = kube_model::labels::CONTAINER_RESTART_COUNT;
        let mut extras = ContainerExtras {
            annotations: map(&[("a", "1"), (restart_count, "9"), ("b", "1")]),
            ..Default::default()
        };
        extras.append(ContainerExtras { annotations: map(&[("b", "2")]), ..Default::default() });
        let got = config(r#"{"name":"a"}"#, &extras, false).annotations;
        assert_eq!([&got["a"], &got["b"], &got[restart_count]], ["1", "2", "2"]);
    }

    #[test]
    fn devices_and_cpus_are_told_as_they_are_given() {
        let device = |path: &str| Device {
            host_path: path.into(),
            container_path: path.into(),
            permissions: "rw".into(),
        };
        let cdi = |name: &str| CdiDevice { name: name.into() };
        let cpuset = |cpus: &str, mems: &str| Cpuset { cpus: cpus.into(), mems: mems.into() };
        let mut extras = ContainerExtras {
            devices: vec![device("/dev/a")],
            cdi_devices: vec![cdi("vendor.com/gpu=0")],
            cpuset: cpuset("0-1", "0"),
            ..Default::default()
        };
        extras.append(ContainerExtras {
            devices: vec![device("/dev/b")],
            cdi_devices: vec![cdi("vendor.com/gpu=1")],
            cpuset: cpuset("4", ""),
            ..Default::default()
        });
        let got = config(r#"{"name":"a"}"#, &extras, false);
        assert_eq!(got.devices, [device("/dev/a"), device("/dev/b")]);
        assert_eq!(got.cdi_devices, [cdi("vendor.com/gpu=0"), cdi("vendor.com/gpu=1")]);
        let linux = got.linux.unwrap().resources.unwrap();
        assert_eq!((linux.cpuset_cpus.as_str(), linux.cpuset_mems.as_str()), ("4", "0"));
    }
}
