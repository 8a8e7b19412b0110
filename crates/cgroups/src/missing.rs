//! Which folders of a cgroup are not there.

use std::path::{Path, PathBuf};

/// The hierarchies of version 1 that pods are put into.
const CONTROLLERS: &[&str] = &["cpu", "cpuacct", "cpuset", "hugetlb", "memory", "pids", "systemd"];

/// The folders of a cgroup that are not there: in each hierarchy of version 1 that pods are put into, or in the one of
/// version 2. Upstream `pkg/kubelet/cm/cgroup_v1_manager_linux.go`.
pub fn missing(mount: &Path, cgroup: &str) -> Vec<String> {
    let hierarchies: Vec<PathBuf> = if mount.join("cgroup.controllers").exists() {
        vec![mount.to_owned()]
    } else {
        CONTROLLERS.iter().map(|name| mount.join(name)).filter(|folder| folder.is_dir()).collect()
    };
    let folders = hierarchies.into_iter().map(|folder| folder.join(cgroup.trim_start_matches('/')));
    folders.filter(|folder| !folder.is_dir()).map(|folder| folder.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_cgroup_that_is_not_there_is_told_by_its_folders() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path();
        for folder in ["cpu/there", "memory", "blkio"] {
            fs::create_dir_all(mount.join(folder)).unwrap();
        }
        let memory = mount.join("memory/there").display().to_string();
        assert_eq!(missing(mount, "/"), [""; 0]);
        assert_eq!(missing(mount, "/there"), [memory], "pods are in no blkio cgroup");
        fs::write(mount.join("cgroup.controllers"), "cpu memory").unwrap();
        assert_eq!(missing(mount, "/there"), [mount.join("there").display().to_string()]);
    }
}
