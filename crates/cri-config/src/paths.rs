//! The names on disk of all that belongs to a pod: one owner, so that what is written is found again.
//! Rule: upstream `pkg/kubelet/kubelet_getters.go`, `pkg/kubelet/kuberuntime/helpers.go`.

use std::path::{Path, PathBuf};

use kube_model::{PodKey, PodUid};

/// Where log shippers look for `<pod>_<namespace>_<container>-<id>.log`.
pub const CONTAINER_LOGS_DIR: &str = "/var/log/containers";

/// Longest file name that ext4 takes, in bytes.
const MAX_FILE_NAME: usize = 255;

/// Where the directories of all pods stand: `<root>/pods`; their names are UIDs.
pub fn pods_dir(root_dir: &Path) -> PathBuf {
    root_dir.join("pods")
}

/// Everything of one pod but its logs: `<root>/pods/<uid>`.
pub fn pod_dir(root_dir: &Path, uid: &PodUid) -> PathBuf {
    pods_dir(root_dir).join(uid.as_str())
}

/// What is mounted at `/etc/hosts`: `<pod>/etc-hosts`.
pub fn hosts_file(root_dir: &Path, uid: &PodUid) -> PathBuf {
    pod_dir(root_dir, uid).join("etc-hosts")
}

/// What is kept for one container: `<pod>/containers/<name>`.
pub fn container_dir(root_dir: &Path, uid: &PodUid, container: &str) -> PathBuf {
    pod_dir(root_dir, uid).join("containers").join(container)
}

/// The termination log of one instance: `<pod>/containers/<name>/<8 hex digits>`; `token` is any number that
/// no other instance of the container has.
pub fn termination_log(root_dir: &Path, uid: &PodUid, container: &str, token: u32) -> PathBuf {
    container_dir(root_dir, uid, container).join(format!("{token:08x}"))
}

/// There while a container's postStart hook has not ended, and holds the ID of that instance:
/// `<pod>/containers/<name>/post-start`.
pub fn post_start_marker(root_dir: &Path, uid: &PodUid, container: &str) -> PathBuf {
    container_dir(root_dir, uid, container).join("post-start")
}

/// Where profiles of the type `Localhost` stand: `<root>/seccomp`.
pub fn seccomp_profiles(root_dir: &Path) -> PathBuf {
    root_dir.join("seccomp")
}

/// The logs of one pod: `<pod logs>/<namespace>_<name>_<uid>`.
pub fn pod_logs_dir(pod_logs_dir: &Path, uid: &PodUid, key: &PodKey) -> PathBuf {
    pod_logs_dir.join(format!("{}_{}_{uid}", key.namespace, key.name))
}

/// The log of one container instance below its pod's directory: `<name>/<restart count>.log`.
pub fn log_path(container: &str, restart_count: u32) -> String {
    format!("{container}/{restart_count}.log")
}

/// The restart count that a file in a container's log directory belongs to: 3 for `3.log`, `3.log.20240102-…`
/// and `3.log.….gz`. Other names give `None`.
pub fn log_restart_count(file_name: &str) -> Option<u32> {
    let (count, rest) = file_name.split_once(".log")?;
    (rest.is_empty() || rest.starts_with('.')).then(|| count.parse().ok())?
}

/// File name of the link to a container's log in [`CONTAINER_LOGS_DIR`], cut so that it fits into 255 bytes.
pub fn log_link_name(key: &PodKey, container: &str, container_id: &str) -> String {
    let mut name = format!("{}_{}_{container}-{container_id}", key.name, key.namespace);
    name.truncate(name.floor_char_boundary(MAX_FILE_NAME - ".log".len()));
    name.push_str(".log");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kubelets() {
        let (root, uid, key) =
            (Path::new("/var/lib/kubelet"), PodUid::from("u-1"), PodKey::new("kube-system", "web-node1"));
        let text = |p: PathBuf| p.display().to_string();
        assert_eq!(text(hosts_file(root, &uid)), "/var/lib/kubelet/pods/u-1/etc-hosts");
        assert_eq!(
            text(termination_log(root, &uid, "app", 0xab)),
            "/var/lib/kubelet/pods/u-1/containers/app/000000ab"
        );
        assert_eq!(
            text(pod_logs_dir(Path::new("/var/log/pods"), &uid, &key)),
            "/var/log/pods/kube-system_web-node1_u-1"
        );
        assert_eq!(log_link_name(&key, "app", "c0ffee"), "web-node1_kube-system_app-c0ffee.log");
        assert_eq!(text(seccomp_profiles(root)), "/var/lib/kubelet/seccomp");
    }

    #[test]
    fn a_long_link_name_is_cut_before_its_suffix() {
        let name = log_link_name(&PodKey::new("n".repeat(63), "p".repeat(253)), "app", "c0ffee");
        assert_eq!(name.len(), 255);
        assert!(name.ends_with("p.log"));
    }

    #[test]
    fn a_restart_count_is_read_back_from_a_log_name() {
        for (name, count) in [
            ("0.log", Some(0)),
            ("12.log", Some(12)),
            ("3.log.20240102-030405", Some(3)),
            ("3.log.20240102-030405.gz", Some(3)),
            ("3.logs", None),
            ("x.log", None),
            ("log", None),
        ] {
            assert_eq!(log_restart_count(name), count, "{name}");
        }
    }
}
