//! Names of cgroups, for both drivers. Rule: upstream `pkg/kubelet/cm/cgroup_manager_linux.go`.

use std::fmt;

use crate::PodUid;

/// What systemd's units for cgroups end in.
const SLICE: &str = ".slice";

/// Who makes cgroups: `cgroupDriver`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// The agent, as directories; the default.
    #[default]
    Cgroupfs,
    /// systemd, as slices.
    Systemd,
}

impl Driver {
    /// As `cgroupDriver` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// Where a cgroup is below the mount point, without a leading slash: `kubepods/burstable`, or with systemd
    /// `kubepods.slice/kubepods-burstable.slice`. `name` is slash-separated; a cgroup root may come first in it.
    pub fn path(self, name: &str) -> String {
        match self {
            Self::Cgroupfs => parts(name).collect::<Vec<_>>().join("/"),
            Self::Systemd => slices(name).join("/"),
        }
    }

    /// The UID of the pod whose cgroup has this directory name, if it is that of a pod: `pod<uid>`, with systemd
    /// `kubepods-burstable-pod<uid>.slice`. systemd's escape of `-` is undone: an `_` in a UID comes back as `-`.
    pub fn pod_of(self, dir: &str) -> Option<PodUid> {
        let uid = match self {
            Self::Cgroupfs => dir.strip_prefix("pod")?.to_owned(),
            Self::Systemd => {
                let name = dir.strip_suffix(SLICE)?;
                let last = name.rsplit_once('-').map_or(name, |(_, last)| last);
                last.strip_prefix("pod")?.replace('_', "-")
            }
        };
        (!uid.is_empty()).then(|| PodUid::from(uid.as_str()))
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The units of a cgroup and those above it, outermost first: each one's name holds those of its parents.
pub fn slices(name: &str) -> Vec<String> {
    let mut unit = String::new();
    let add = |part: &str| {
        if !unit.is_empty() {
            unit.push('-');
        }
        // systemd reads `-` as a step down.
        unit.push_str(&part.replace('-', "_"));
        format!("{unit}{SLICE}")
    };
    parts(name).map(add).collect()
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_path_of_its_driver() {
        for (name, cgroupfs, systemd) in [
            ("/", "", ""),
            ("/kubepods", "kubepods", "kubepods.slice"),
            ("kubepods/burstable", "kubepods/burstable", "kubepods.slice/kubepods-burstable.slice"),
            (
                "/kubepods/burstable/pod1-2",
                "kubepods/burstable/pod1-2",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice",
            ),
            // As recorded of the kubelet.
            (
                "/kubepods/pod365d9b676de8fc0fca665daab75b8039",
                "kubepods/pod365d9b676de8fc0fca665daab75b8039",
                "kubepods.slice/kubepods-pod365d9b676de8fc0fca665daab75b8039.slice",
            ),
            ("/my-root//kubepods/", "my-root/kubepods", "my_root.slice/my_root-kubepods.slice"),
        ] {
            assert_eq!(Driver::Cgroupfs.path(name), cgroupfs);
            assert_eq!(Driver::Systemd.path(name), systemd);
        }
    }

    #[test]
    fn a_pod_is_known_by_its_directory() {
        for (driver, dir, uid) in [
            (Driver::Cgroupfs, "pod1-2", Some("1-2")),
            (Driver::Cgroupfs, "pod1_2", Some("1_2")),
            (Driver::Cgroupfs, "pod", None),
            (Driver::Cgroupfs, "burstable", None),
            (Driver::Cgroupfs, "kubepods-pod1_2.slice", None),
            (Driver::Systemd, "kubepods-pod1_2.slice", Some("1-2")),
            (Driver::Systemd, "my_root-kubepods-besteffort-pod1_2.slice", Some("1-2")),
            (Driver::Systemd, "kubepods-burstable.slice", None),
            (Driver::Systemd, "kubepods-pod.slice", None),
            (Driver::Systemd, "cri-containerd-1.scope", None),
            (Driver::Systemd, "pod1-2", None),
        ] {
            assert_eq!(driver.pod_of(dir).as_ref().map(PodUid::as_str), uid, "{driver} {dir}");
        }
    }
}
