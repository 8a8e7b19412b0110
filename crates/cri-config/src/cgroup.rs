//! Names of the cgroups that pods run in, for both drivers.
//! Rule: upstream `pkg/kubelet/cm/cgroup_manager_linux.go`.

use kube_model::PodUid;
use kube_model::qos::QosClass;

use crate::settings::{Cgroups, Driver};

/// The `cgroup_parent` of a pod's sandbox: `/kubepods/burstable/pod<uid>`, or with systemd
/// `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with _ for ->.slice`.
pub fn pod_cgroup(qos: QosClass, uid: &PodUid, cgroups: &Cgroups) -> String {
    let path = format!("{}{}", cgroups.root.trim_end_matches('/'), qos.pod_cgroup(uid));
    match cgroups.driver {
        Driver::Cgroupfs => path,
        Driver::Systemd => slices(&path),
    }
}

/// A cgroup path as nested systemd slices: each one's name holds those of its parents.
fn slices(path: &str) -> String {
    let (mut out, mut name) = (String::new(), String::new());
    for part in path.split('/').filter(|p| !p.is_empty()) {
        if !name.is_empty() {
            name.push('-');
        }
        // systemd reads `-` as a step down.
        name.push_str(&part.replace('-', "_"));
        out.push('/');
        out.push_str(&name);
        out.push_str(".slice");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_cgroup_follows_its_class_root_and_driver() {
        for (root, driver, qos, want) in [
            ("/", Driver::Cgroupfs, QosClass::Guaranteed, "/kubepods/pod1-2"),
            ("/", Driver::Cgroupfs, QosClass::Burstable, "/kubepods/burstable/pod1-2"),
            ("/a/b/", Driver::Cgroupfs, QosClass::BestEffort, "/a/b/kubepods/besteffort/pod1-2"),
            ("/", Driver::Systemd, QosClass::Guaranteed, "/kubepods.slice/kubepods-pod1_2.slice"),
            (
                "/",
                Driver::Systemd,
                QosClass::BestEffort,
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice",
            ),
            (
                "/my-root",
                Driver::Systemd,
                QosClass::Guaranteed,
                "/my_root.slice/my_root-kubepods.slice/my_root-kubepods-pod1_2.slice",
            ),
        ] {
            let cgroups = Cgroups { root: root.into(), driver, ..Cgroups::default() };
            assert_eq!(pod_cgroup(qos, &"1-2".into(), &cgroups), want);
        }
    }
}
