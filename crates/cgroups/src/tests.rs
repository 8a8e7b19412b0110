//! Both versions in a temporary folder, where a file holds what was written to it last.

use std::collections::BTreeMap;
use std::fs;

use kube_model::core::Pod;
use serde_json::json;
use tempfile::TempDir;

use super::*;

fn limits() -> NodeLimits {
    NodeLimits {
        milli_cpu: Some(2000),
        memory: Some(8 << 30),
        pids: Some(30_000),
        hugepages: Some(BTreeMap::from([(2 << 20, 4 << 20)])),
        cpus: Some("0-1".to_owned()),
    }
}

fn v2() -> (TempDir, Arc<Cgroups>) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma\n").unwrap();
    let cgroups = Cgroups::detect(dir.path(), Settings::default()).unwrap();
    (dir, Arc::new(cgroups))
}

fn v1() -> (TempDir, Arc<Cgroups>) {
    let dir = tempfile::tempdir().unwrap();
    for mount in ["cpu,cpuacct", "cpuset", "memory", "pids", "hugetlb", "systemd"] {
        fs::create_dir(dir.path().join(mount)).unwrap();
        fs::write(dir.path().join(mount).join("cgroup.procs"), "").unwrap();
    }
    std::os::unix::fs::symlink("cpu,cpuacct", dir.path().join("cpu")).unwrap();
    fs::create_dir(dir.path().join("not-mounted")).unwrap();
    fs::write(dir.path().join("cpuset/cpuset.cpus"), "0-1\n").unwrap();
    fs::write(dir.path().join("cpuset/cpuset.mems"), "0\n").unwrap();
    let cgroups = Cgroups::detect(dir.path(), Settings::default()).unwrap();
    (dir, Arc::new(cgroups))
}

/// All files below a folder with their text.
fn files(dir: &Path) -> BTreeMap<String, String> {
    fn walk(dir: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else if entry.file_type().unwrap().is_file() {
                found.insert(name, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, "", &mut found);
    found
}

fn expect(dir: &Path, want: &[(&str, &str)]) {
    let found = files(dir);
    for (file, text) in want {
        assert_eq!(found.get(*file).map(String::as_str), Some(*text), "{file} in {found:#?}");
    }
}

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
}

fn guaranteed() -> Pod {
    let all = json!({"cpu": "250m", "memory": "64Mi"});
    pod(json!({"containers": [{"name": "c", "resources": {"requests": all, "limits": all}}]}))
}

#[test]
fn the_base_has_the_nodes_limits_and_both_classes_on_v2() {
    let (dir, cgroups) = v2();
    assert_eq!(cgroups.version(), Version::V2);
    cgroups.ensure_base().unwrap();
    fs::write(dir.path().join("kubepods/hugetlb.2MB.max"), "max").unwrap();
    cgroups.limit_pods(&limits()).unwrap();
    let all = "+cpuset +cpu +io +memory +hugetlb +pids +rdma";
    expect(
        dir.path(),
        &[
            ("cgroup.subtree_control", all),
            ("kubepods/cgroup.subtree_control", all),
            ("kubepods/burstable/cgroup.subtree_control", all),
            ("kubepods/besteffort/cgroup.subtree_control", all),
            ("kubepods/cpu.weight", "79"),
            ("kubepods/memory.max", "8589934592"),
            ("kubepods/pids.max", "30000"),
            ("kubepods/hugetlb.2MB.max", "4194304"),
            ("kubepods/cpuset.cpus", "0-1"),
            ("kubepods/burstable/cpu.weight", "1"),
            ("kubepods/besteffort/cpu.weight", "1"),
        ],
    );
}

#[test]
fn the_base_has_the_nodes_limits_and_both_classes_on_v1() {
    let (dir, cgroups) = v1();
    assert_eq!(cgroups.version(), Version::V1);
    cgroups.ensure_base().unwrap();
    fs::write(dir.path().join("hugetlb/kubepods/hugetlb.2MB.limit_in_bytes"), "max").unwrap();
    cgroups.limit_pods(&limits()).unwrap();
    expect(
        dir.path(),
        &[
            ("cpu,cpuacct/kubepods/cpu.shares", "2048"),
            ("cpu,cpuacct/kubepods/burstable/cpu.shares", "2"),
            ("cpu,cpuacct/kubepods/besteffort/cpu.shares", "2"),
            ("memory/kubepods/memory.limit_in_bytes", "8589934592"),
            ("pids/kubepods/pids.max", "30000"),
            ("hugetlb/kubepods/hugetlb.2MB.limit_in_bytes", "4194304"),
            ("cpuset/kubepods/cpuset.cpus", "0-1"),
            ("cpuset/kubepods/besteffort/cpuset.cpus", "0-1"),
            ("cpuset/kubepods/besteffort/cpuset.mems", "0"),
        ],
    );
    assert!(dir.path().join("systemd/kubepods/burstable").is_dir());
    assert!(!dir.path().join("not-mounted/kubepods").exists());
}

#[test]
fn a_pod_gets_its_limits_on_v2() {
    let (dir, cgroups) = v2();
    cgroups.ensure_base().unwrap();
    for size in ["2MB", "1GB"] {
        for file in ["max", "rsvd.max"] {
            fs::write(dir.path().join(format!("kubepods/hugetlb.{size}.{file}")), "max").unwrap();
        }
    }
    let uid = PodUid::from("u1");
    let mut limits = PodLimits::of(&guaranteed());
    limits.hugepages.insert(2 << 20, 4 << 20);
    cgroups.ensure_pod(&uid, QosClass::Guaranteed, &limits).unwrap();
    expect(
        dir.path(),
        &[
            ("kubepods/podu1/cpu.weight", "10"),
            ("kubepods/podu1/cpu.max", "25000 100000"),
            ("kubepods/podu1/memory.max", "67108864"),
            ("kubepods/podu1/hugetlb.2MB.max", "4194304"),
            ("kubepods/podu1/hugetlb.1GB.max", "0"),
        ],
    );
    assert!(!dir.path().join("kubepods/podu1/hugetlb.2MB.rsvd.max").exists());
    assert!(!dir.path().join("kubepods/podu1/pids.max").exists());
}

#[test]
fn a_pod_gets_its_limits_on_v1() {
    let (dir, _) = v1();
    let settings = Settings { cgroup_root: "/slice/".into(), pod_pids_limit: 100, ..Settings::default() };
    let cgroups = Cgroups::detect(dir.path(), settings).unwrap();
    cgroups.ensure_base().unwrap();
    let class = QosClass::Guaranteed;
    cgroups.ensure_pod(&PodUid::from("u1"), class, &PodLimits::of(&guaranteed())).unwrap();
    expect(
        dir.path(),
        &[
            ("cpu,cpuacct/slice/kubepods/podu1/cpu.shares", "256"),
            ("cpu,cpuacct/slice/kubepods/podu1/cpu.cfs_period_us", "100000"),
            ("cpu,cpuacct/slice/kubepods/podu1/cpu.cfs_quota_us", "25000"),
            ("memory/slice/kubepods/podu1/memory.limit_in_bytes", "67108864"),
            ("pids/slice/kubepods/podu1/pids.max", "100"),
            ("cpuset/slice/kubepods/podu1/cpuset.cpus", "0-1"),
        ],
    );
}

#[test]
fn limits_of_a_pod_follow_its_class_and_containers() {
    let limits = |spec| {
        let limits = PodLimits::of(&pod(spec));
        (limits.cpu_shares, limits.milli_cpu, limits.memory)
    };
    let one = json!({"name": "a", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "1000000"}}});
    for (what, want, spec) in [
        ("best effort", (2, None, None), json!({"containers": [{"name": "a"}]})),
        ("every container limited", (102, Some(200), Some(1_000_000)), json!({"containers": [one]})),
        ("one without limits", (102, None, None), json!({"containers": [one, {"name": "b"}]})),
        (
            "limited as a whole",
            (1024, Some(2000), None),
            json!({"containers": [one, {"name": "b"}], "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}),
        ),
    ] {
        assert_eq!(limits(spec), want, "{what}");
    }
}

#[test]
fn without_cfs_quota_a_cpu_limit_is_lifted() {
    let settings = Settings { cpu_cfs_quota: false, ..Settings::default() };
    let limits = PodLimits { cpu_shares: 2, milli_cpu: Some(500), ..PodLimits::default() };
    let text = |version, file: &str| {
        let values = limits.values(version, &settings, &[]);
        values.into_iter().find(|v| v.file == file).map(|v| v.text)
    };
    assert_eq!(text(Version::V1, "cpu.cfs_quota_us").as_deref(), Some("-1"));
    assert_eq!(text(Version::V2, "cpu.max").as_deref(), Some("max 100000"));
}

#[test]
fn what_is_as_it_should_be_is_not_written_again() {
    for (dir, cgroups) in [v1(), v2()] {
        let uid = PodUid::from("u1");
        let ensure = || {
            cgroups.ensure_base().unwrap();
            cgroups.limit_pods(&limits()).unwrap();
            cgroups.ensure_pod(&uid, QosClass::Guaranteed, &PodLimits::of(&guaranteed())).unwrap();
        };
        ensure();
        // The kernel answers a read with the names alone, not with what was written.
        for class in ["", "/kubepods", "/kubepods/burstable", "/kubepods/besteffort"] {
            let file = format!("{}{class}/cgroup.subtree_control", dir.path().display());
            if let Ok(text) = fs::read_to_string(&file) {
                fs::write(&file, text.replace('+', "")).unwrap();
            }
        }
        let modified = |dir: &Path| -> Vec<_> {
            files(dir).keys().map(|f| fs::metadata(dir.join(f)).unwrap().modified().unwrap()).collect()
        };
        let before = modified(dir.path());
        ensure();
        assert_eq!(modified(dir.path()), before);

        let file = files(dir.path()).into_keys().find(|f| f.contains("podu1/memory.")).unwrap();
        fs::write(dir.path().join(&file), "1").unwrap();
        ensure();
        expect(dir.path(), &[(&file, "67108864")]);
    }
}

#[test]
fn burstable_shares_survive_a_restart() {
    let (dir, cgroups) = v1();
    cgroups.ensure_base().unwrap();
    cgroups.set_burstable_shares(1500).unwrap();
    cgroups.ensure_base().unwrap();
    expect(dir.path(), &[("cpu,cpuacct/kubepods/burstable/cpu.shares", "1536")]);
}

#[tokio::test]
async fn pods_are_found_in_every_class_and_removed_with_what_is_in_them() {
    let (dir, cgroups) = v1();
    cgroups.ensure_base().unwrap();
    for (path, uid) in [
        ("memory/kubepods/podg", "g"),
        ("cpu,cpuacct/kubepods/burstable/podb/container/nested", "b"),
        ("systemd/kubepods/besteffort/pode", "e"),
    ] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
        assert!(!cgroups.pod_exists(&PodUid::from(uid)), "{uid} is in one hierarchy only");
    }
    fs::create_dir(dir.path().join("memory/kubepods/other")).unwrap();
    assert_eq!(cgroups.pods().unwrap(), ["b", "e", "g"].map(PodUid::from));
    for uid in cgroups.pods().unwrap() {
        cgroups.remove_pod(&uid).await.unwrap();
    }
    assert_eq!(cgroups.pods().unwrap(), []);
    assert!(dir.path().join("memory/kubepods/other").is_dir());
    cgroups.remove_pod(&PodUid::from("never-was")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cgroup_that_stays_busy_is_an_error_that_names_it() {
    let (dir, cgroups) = v2();
    let pod = dir.path().join("kubepods/podu1/container");
    fs::create_dir_all(&pod).unwrap();
    // A file, as in no real cgroup, keeps the directory from being removed.
    fs::write(pod.join("kept"), "").unwrap();
    let error = cgroups.remove_pod(&PodUid::from("u1")).await.unwrap_err();
    assert!(error.is_retryable());
    let want = format!("removing cgroup {}: still in use after 5 tries by processes []", pod.display());
    assert_eq!(error.to_string(), want);
}

#[test]
fn the_cgroup_of_a_container_is_known_by_its_id() {
    for (name, is) in [
        ("c0ffee", true),
        ("crio-c0ffee", true),
        ("cri-containerd-c0ffee.scope", true),
        ("crio-conmon-c0ffee.scope", false),
        ("c0ffee.scope", true),
        ("xc0ffee", false),
        ("c0ffee1", false),
        ("c0ffee-1.scope", false),
        ("crio-", false),
    ] {
        assert_eq!(is_of_container(&Path::new("/pod").join(name), "c0ffee"), is, "{name}");
    }
    assert!(!is_of_container(Path::new("/pod/crio-"), ""));
}

/// A process that ends when the test does.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn new() -> Self {
        Self(std::process::Command::new("sleep").arg("600").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_in_the_cgroup_of_the_container_is_killed() {
    use std::os::unix::process::ExitStatusExt;
    let ((v1, on_v1), (v2, on_v2)) = (v1(), v2());
    let (mut inside, mut beside) = (Sleeper::new(), Sleeper::new());
    let put = |dir: PathBuf, sleeper: &Sleeper| {
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("cgroup.procs"), format!("{}\n", sleeper.0.id())).unwrap();
    };
    let uid = PodUid::from("u1");
    for root in [v1.path().join("memory"), v2.path().to_owned()] {
        let pod = root.join("kubepods/besteffort/podu1");
        put(pod.join("c1/nested"), &inside);
        put(pod.join("c2"), &beside);
    }
    assert!(!on_v1.kill_container(&uid, "c3").await.unwrap(), "there is none");
    assert!(!on_v2.kill_container(&PodUid::from("u2"), "c1").await.unwrap(), "it is another pod's");

    // What the kernel would do is not done here: neither of `cgroup.kill` nor with files of those that have died.
    let killer = v2.path().join("kubepods/besteffort/podu1/c1/cgroup.kill");
    fs::write(&killer, "").unwrap();
    let error = on_v2.kill_container(&uid, "c1").await.unwrap_err();
    assert_eq!(fs::read_to_string(killer).unwrap(), "1");
    assert_eq!(inside.0.try_wait().unwrap(), None);
    let (pid, dir) = (inside.0.id(), v2.path().display());
    let want =
        format!("processes [{pid}] in cgroup {dir}/kubepods/besteffort/podu1/c1 outlive 5 times SIGKILL");
    assert_eq!(error.to_string(), want);

    assert!(on_v1.kill_container(&uid, "c1").await.unwrap_err().is_retryable());
    assert_eq!(inside.0.wait().unwrap().signal(), Some(9));
    assert_eq!(beside.0.try_wait().unwrap(), None);
}

#[test]
fn only_an_empty_pod_is_removed_without_killing() {
    for (dir, cgroups) in [v1(), v2()] {
        cgroups.ensure_base().unwrap();
        let uid = PodUid::from("u1");
        assert!(cgroups.remove_empty_pod(&uid).unwrap(), "it is not there");
        let root =
            if cgroups.version() == Version::V1 { dir.path().join("pids") } else { dir.path().to_owned() };
        let container = root.join("kubepods/besteffort/podu1/c1");
        fs::create_dir_all(&container).unwrap();
        fs::write(container.join("cgroup.procs"), "1\n").unwrap();
        assert!(!cgroups.remove_empty_pod(&uid).unwrap(), "something runs in it");
        assert_eq!(cgroups.pods().unwrap(), std::slice::from_ref(&uid));
        // As a real cgroup, which has no file that could be removed.
        fs::remove_file(container.join("cgroup.procs")).unwrap();
        assert!(cgroups.remove_empty_pod(&uid).unwrap());
        assert_eq!(cgroups.pods().unwrap(), []);
    }
}

#[test]
fn a_pod_is_found_below_the_mount_point_in_the_class_that_it_has() {
    for (dir, cgroups) in [v1(), v2()] {
        cgroups.ensure_base().unwrap();
        assert_eq!(cgroups.pods_cgroup(), "kubepods");
        let limits = PodLimits { cpu_shares: 2, ..PodLimits::default() };
        for (class, expected) in [
            (QosClass::Guaranteed, "kubepods/podGuaranteed"),
            (QosClass::Burstable, "kubepods/burstable/podBurstable"),
            (QosClass::BestEffort, "kubepods/besteffort/podBestEffort"),
        ] {
            let uid = PodUid::from(format!("{class:?}").as_str());
            assert_eq!(cgroups.pod_cgroup(&uid), None);
            cgroups.ensure_pod(&uid, class, &limits).unwrap();
            assert_eq!(cgroups.pod_cgroup(&uid).as_deref(), Some(expected), "in {}", dir.path().display());
        }
        assert_eq!(cgroups.pod_cgroup(&PodUid::from("x/../../burstable")), None);
    }
}

#[test]
fn a_uid_that_leaves_its_folder_is_refused() {
    let (dir, cgroups) = v2();
    for uid in ["", "/../../x", "a/b", "a\0b"] {
        let uid = PodUid::from(uid);
        let error = cgroups.ensure_pod(&uid, QosClass::BestEffort, &PodLimits::default()).unwrap_err();
        assert!(matches!(&error, Error::BadUid { .. }) && !error.is_retryable(), "{error}");
        assert!(!cgroups.pod_exists(&uid));
    }
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn errors_name_path_and_value() {
    let (dir, cgroups) = v2();
    fs::create_dir_all(dir.path().join("kubepods/cpu.weight")).unwrap();
    cgroups.ensure_base().unwrap();
    let error = cgroups.limit_pods(&limits()).unwrap_err();
    let path = dir.path().join("kubepods/cpu.weight");
    assert_eq!(error.to_string(), format!("reading {}", path.display()));
    // The others are limited all the same.
    expect(dir.path(), &[("kubepods/memory.max", "8589934592"), ("kubepods/pids.max", "30000")]);
    fs::remove_dir(&path).unwrap();
    fs::remove_file(dir.path().join("kubepods/pids.max")).unwrap();
    fs::create_dir(dir.path().join("kubepods/pids.max")).unwrap();
    assert!(cgroups.limit_pods(&limits()).unwrap_err().to_string().contains("pids.max"));

    let empty = tempfile::tempdir().unwrap();
    let error = Cgroups::detect(empty.path(), Settings::default()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("no cgroups at {}", empty.path().display())));
}

#[test]
fn swap_is_accounted_where_a_file_says_so() {
    let (v1, _) = v1();
    assert_eq!(Version::at(v1.path()), Version::V1);
    assert!(!Version::V1.accounts_swap(v1.path(), &[]));
    fs::write(v1.path().join("memory/memory.memsw.limit_in_bytes"), "0").unwrap();
    assert!(Version::V1.accounts_swap(v1.path(), &[]));
    let (v2, cgroups) = v2();
    assert_eq!(Version::at(v2.path()), Version::V2);
    cgroups.ensure_base().unwrap();
    let looked_at = ["/".to_owned(), cgroups.pods_cgroup()];
    assert!(!Version::V2.accounts_swap(v2.path(), &looked_at));
    fs::write(v2.path().join("kubepods/memory.swap.max"), "max").unwrap();
    assert!(Version::V2.accounts_swap(v2.path(), &looked_at));
}
