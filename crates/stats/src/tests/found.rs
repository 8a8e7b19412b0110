//! What is found where, and what is missed.

use super::*;

#[test]
fn a_pod_on_the_nodes_network_has_none_of_its_own() {
    let dir = v2_node();
    put(&dir, "sys/kubepods/besteffort/podweb-uid/5a4d/cgroup.procs", "80\n");
    let summary = provider(dir).measure(&answers(), Depth::Everything, at(0)).unwrap();
    assert_eq!(summary.pods[0].network, None);
}

#[test]
fn cgroups_of_containers_are_found_by_each_runtimes_names() {
    for name in ["c0ffee", "crio-c0ffee", "cri-containerd-c0ffee.scope"] {
        let dir = v2_node();
        let pod = dir.path().join("sys/kubepods/besteffort/podweb-uid");
        fs::rename(pod.join("c0ffee"), pod.join(name)).unwrap();
        assert!(!provider(dir).needs_container_stats(&answers()), "{name}");
    }
}

#[test]
fn the_cgroup_of_the_agent_is_not_the_root_and_one_for_all_hierarchies() {
    let (v1, v2) = (v1_node(), v2_node());
    let cases = [
        (&v2, "0::/a.service\n", Some("/a.service")),
        (&v2, "0::/\n", None),
        (&v1, "4:memory:/a\n2:cpu,cpuacct:/a\n0::/b\n", Some("/a")),
        (&v1, "4:memory:/a\n2:cpuacct:/\n0::/b\n", None),
        (&v1, "4:memory:/\n2:cpuacct:/\n", None),
        (&v1, "", None),
    ];
    for (dir, text, expected) in cases {
        let hierarchy = Hierarchy::detect(&dir.path().join("sys"));
        assert_eq!(hierarchy.of_process(text).as_deref(), expected, "{text:?}");
    }
}

#[test]
fn what_every_node_has_is_missed_by_its_path() {
    let cases = [
        ("proc/stat", "reading ", "proc/stat"),
        ("proc/meminfo", "reading ", "proc/meminfo"),
        ("sys/cpu.stat", "sys/ has no CPU usage", ""),
        ("root/web-uid", "measuring the file system of ", "root"),
    ];
    for (file, start, end) in cases {
        let dir = v2_node();
        fs::remove_file(dir.path().join(file)).unwrap();
        let _ = fs::remove_dir(dir.path().join("root"));
        let error = provider(dir).measure(&answers(), Depth::Everything, at(0)).unwrap_err().to_string();
        assert!(error.contains(start) && error.ends_with(end), "{file}: {error}");
    }
    let dir = v2_node();
    put(&dir, "proc/stat", "cpu 1\nbtime soon\n");
    let error = provider(dir).measure(&answers(), Depth::CpuAndMemory, at(0)).unwrap_err().to_string();
    assert!(error.ends_with("proc/stat has no btime"), "{error}");
}

#[test]
fn this_machine_can_be_measured() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { root_dir: dir.path().to_owned(), ..Settings::new("here") };
    let mut provider = SummaryProvider::new(settings, Box::new(Node { dir }));
    let summary = provider.measure(&RuntimeAnswers::default(), Depth::Everything, Timestamp::now()).unwrap();
    let memory = summary.node.memory.unwrap();
    assert!(memory.working_set_bytes.unwrap() <= memory.usage_bytes.unwrap());
    assert!(summary.node.cpu.unwrap().usage_core_nano_seconds.unwrap() > 0);
    assert!(summary.node.rlimit.unwrap().running.unwrap() > 0);
    assert!(summary.node.system_containers.iter().any(|c| c.name == "kubelet" && c.cpu.is_some()));
    assert!(summary.node.start_time.unwrap().0 < Timestamp::now());
    assert_eq!(summary.pods, []);
}
