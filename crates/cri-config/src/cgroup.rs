//! The cgroups that pods run in, for both drivers.

use kube_model::PodUid;
use kube_model::qos::QosClass;

use crate::settings::Cgroups;

/// The `cgroup_parent` of a pod's sandbox: `/kubepods/burstable/pod<uid>`, or with systemd
/// `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with _ for ->.slice`.
pub fn pod_cgroup(qos: QosClass, uid: &PodUid, cgroups: &Cgroups) -> String {
    let name = format!("{}{}", cgroups.root.trim_end_matches('/'), qos.pod_cgroup(uid));
    format!("/{}", cgroups.driver.path(&name))
}

#[cfg(test)]
mod tests {
    use kube_model::cgroup::Driver;

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
