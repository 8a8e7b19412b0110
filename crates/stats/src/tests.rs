//! Whole summaries from folders with what kernels write and messages that runtimes send.

mod found;

use std::fs;
use std::os::unix::fs::symlink;

use kube_model::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_model::stats::{ContainerStats, PodStats};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// Memory of the machine in the fixtures.
const TOTAL: u64 = 24_684_092 * 1024;

struct Node {
    dir: TempDir,
}

impl PodPaths for Node {
    fn pods_cgroup(&self) -> Option<String> {
        Some("kubepods".to_owned())
    }

    fn pod_cgroup(&self, uid: &PodUid) -> Option<String> {
        let cgroup = format!("kubepods/besteffort/pod{uid}");
        ["sys", "sys/memory"]
            .iter()
            .any(|sys| self.dir.path().join(sys).join(&cgroup).is_dir())
            .then_some(cgroup)
    }

    fn pod_logs(&self, pod: &PodReference) -> PathBuf {
        self.dir.path().join("logs").join(&pod.name)
    }

    fn hosts_file(&self, uid: &PodUid) -> PathBuf {
        self.dir.path().join("root").join(uid.as_str())
    }
}

fn put(dir: &TempDir, file: &str, text: &str) {
    let path = dir.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What `/proc` has whatever the version of cgroups is, and the files of the pod `web`.
fn node() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        (
            "proc/stat",
            "cpu  1676402 201479 435731 812375 32842 0 8996 188509 0 0\nbtime 1795440811\nprocesses 1\n",
        ),
        (
            "proc/meminfo",
            "MemTotal:       24684092 kB\nMemFree:        11876816 kB\nInactive(file):  6328632 kB\n\
             AnonPages:       1864140 kB\nSwapTotal:       2048 kB\nSwapFree:        1024 kB\n",
        ),
        ("proc/vmstat", "pgfault 607854209\npgmajfault 150869\n"),
        ("proc/loadavg", "7.98 7.52 7.08 12/209 24985\n"),
        ("proc/sys/kernel/pid_max", "32768\n"),
        ("proc/sys/kernel/threads-max", "192669\n"),
        (
            "proc/net/dev",
            "Inter-|\n face |\n lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n ens3: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n",
        ),
        ("proc/net/route", "Iface\nens3\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"),
        (
            "proc/self/stat",
            "9 (node-agent) S 1 1 0 0 -1 4194304 98 0 2 0 150 50 0 0 20 0 1 0 200 3133440 100 1",
        ),
        // The sandbox of `web` and a process on the node's network.
        (
            "proc/70/net/dev",
            " lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n eth0: 50 1 3 0 0 0 0 0 70 1 4 0 0 0 0 0\n",
        ),
        ("proc/80/net/dev", " ens3: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n"),
        ("root/web-uid", "127.0.0.1 localhost\n"),
        ("logs/web/app/0.log", "a line\n"),
        ("logs/web/app/0.log.20240102-030405", "an old line\n"),
    ];
    for (file, text) in files {
        put(&dir, file, text);
    }
    for (pid, namespace) in [("self", 1), ("70", 2), ("80", 1)] {
        fs::create_dir_all(dir.path().join("proc").join(pid).join("ns")).unwrap();
        symlink(format!("net:[{namespace}]"), dir.path().join("proc").join(pid).join("ns/net")).unwrap();
    }
    dir
}

/// A cgroup as v1 shows it.
fn v1_cgroup(dir: &TempDir, cgroup: &str, cpu: u64, limit: &str, pids: &str) {
    put(dir, &format!("sys/cpuacct/{cgroup}/cpuacct.usage"), &format!("{cpu}\n"));
    let memory = format!("sys/memory/{cgroup}");
    put(dir, &format!("{memory}/cgroup.procs"), pids);
    put(dir, &format!("{memory}/memory.usage_in_bytes"), "368640\n");
    put(dir, &format!("{memory}/memory.limit_in_bytes"), &format!("{limit}\n"));
    put(dir, &format!("{memory}/memory.memsw.limit_in_bytes"), &format!("{limit}\n"));
    put(
        dir,
        &format!("{memory}/memory.stat"),
        "cache 1\nrss 1\nswap 0\npgfault 1\ninactive_file 1\ntotal_cache 8192\ntotal_rss 118784\ntotal_swap 0\n\
         total_pgfault 818\ntotal_pgmajfault 2\ntotal_inactive_file 4096\n",
    );
}

/// A cgroup as v2 shows it.
fn v2_cgroup(dir: &TempDir, cgroup: &str, cpu: u64, limit: &str, pids: &str) {
    let pressure =
        "some avg10=0.50 avg60=0.00 avg300=0.00 total=3\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n";
    let files = [
        ("cgroup.procs", pids.to_owned()),
        ("cpu.stat", format!("usage_usec {cpu}\nuser_usec 1\nsystem_usec 2\n")),
        ("memory.current", "368640\n".to_owned()),
        ("memory.max", format!("{limit}\n")),
        ("memory.stat", "anon 118784\nfile 8192\ninactive_file 4096\npgfault 818\npgmajfault 2\n".to_owned()),
        ("memory.swap.current", "1000\n".to_owned()),
        ("memory.swap.max", "5000\n".to_owned()),
        ("cpu.pressure", pressure.to_owned()),
        ("memory.pressure", pressure.to_owned()),
        ("io.pressure", pressure.to_owned()),
    ];
    for (file, text) in files {
        put(dir, &format!("sys/{cgroup}/{file}"), &text);
    }
}

fn v1_node() -> TempDir {
    let dir = node();
    v1_cgroup(&dir, "", 7_825_055_040_636, "9223372036854771712", "1\n");
    v1_cgroup(&dir, "kubepods", 95_290_905_281, &TOTAL.to_string(), "");
    v1_cgroup(&dir, "kubepods/besteffort/podweb-uid", 48_230_172, "9223372036854771712", "");
    v1_cgroup(&dir, "kubepods/besteffort/podweb-uid/5a4d", 1_000_000, "9223372036854771712", "70\n");
    v1_cgroup(&dir, "kubepods/besteffort/podweb-uid/c0ffee", 13_390_871, "67108864", "71\n72\n");
    dir
}

fn v2_node() -> TempDir {
    let dir = node();
    put(&dir, "sys/cgroup.controllers", "cpuset cpu io memory pids\n");
    put(&dir, "sys/cpu.stat", "usage_usec 7825055040\n");
    put(&dir, "proc/self/cgroup", "0::/system.slice/node-agent.service\n");
    for resource in ["cpu", "memory", "io"] {
        put(&dir, &format!("proc/pressure/{resource}"), "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n");
    }
    v2_cgroup(&dir, "system.slice/node-agent.service", 4000, "max", "9\n");
    v2_cgroup(&dir, "system.slice/containerd.service", 5000, "max", "10\n");
    v2_cgroup(&dir, "kubepods", 95_290_905, "max", "");
    v2_cgroup(&dir, "kubepods/besteffort/podweb-uid", 48_230, "max", "");
    v2_cgroup(&dir, "kubepods/besteffort/podweb-uid/5a4d", 1000, "max", "70\n");
    v2_cgroup(&dir, "kubepods/besteffort/podweb-uid/c0ffee", 13_390, "67108864", "71\n72\n");
    dir
}

fn provider(dir: TempDir) -> SummaryProvider {
    let at = |name: &str| dir.path().join(name);
    let settings = Settings {
        cgroup_mount: at("sys"),
        proc: at("proc"),
        root_dir: at("root"),
        system_cgroups: vec![("runtime", "/system.slice/containerd.service".to_owned())],
        ..Settings::new("node1")
    };
    SummaryProvider::new(settings, Box::new(Node { dir }))
}

fn sandbox(id: &str, name: &str, state: v1::PodSandboxState, created_at: i64) -> v1::PodSandbox {
    v1::PodSandbox {
        id: id.to_owned(),
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        state: state.into(),
        created_at,
        ..v1::PodSandbox::default()
    }
}

fn container(id: &str, sandbox: &str, name: &str, state: v1::ContainerState) -> v1::Container {
    v1::Container {
        id: id.to_owned(),
        pod_sandbox_id: sandbox.to_owned(),
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        state: state.into(),
        created_at: 1_795_440_902_000_000_000,
        ..v1::Container::default()
    }
}

fn some(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

/// As containerd 1.6 answers: CPU time without a rate, a writable layer.
fn stats_of(id: &str, cpu: u64) -> v1::ContainerStats {
    let timestamp = 1_795_440_999_000_000_000;
    let attributes = v1::ContainerAttributes { id: id.to_owned(), ..v1::ContainerAttributes::default() };
    v1::ContainerStats {
        attributes: Some(attributes),
        cpu: Some(v1::CpuUsage { timestamp, usage_core_nano_seconds: some(cpu), ..v1::CpuUsage::default() }),
        memory: Some(v1::MemoryUsage {
            timestamp,
            working_set_bytes: some(1000),
            usage_bytes: some(2000),
            available_bytes: some(64),
            ..v1::MemoryUsage::default()
        }),
        writable_layer: Some(v1::FilesystemUsage {
            timestamp,
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: "/".to_owned() }),
            used_bytes: some(8192),
            inodes_used: some(5),
        }),
        swap: None,
        io: None,
    }
}

/// One pod that runs, with one container that does and one that does not, and what is left of another pod.
fn answers() -> RuntimeAnswers {
    use v1::ContainerState::{ContainerExited, ContainerRunning};
    use v1::PodSandboxState::{SandboxNotready, SandboxReady};
    RuntimeAnswers {
        sandboxes: vec![
            sandbox("5a4d", "web", SandboxReady, 1_795_440_901_000_000_000),
            sandbox("01d0", "web", SandboxReady, 1_795_440_900_000_000_000),
            sandbox("dead", "gone", SandboxNotready, 1_795_440_900_000_000_000),
        ],
        containers: vec![
            container("c0ffee", "5a4d", "app", ContainerRunning),
            container("beef", "5a4d", "init", ContainerExited),
            container("f00d", "dead", "app", ContainerRunning),
        ],
        container_stats: vec![stats_of("c0ffee", 99), stats_of("beef", 1)],
        file_systems: v1::ImageFsInfoResponse {
            image_filesystems: vec![v1::FilesystemUsage {
                timestamp: 1_795_440_999_000_000_000,
                fs_id: Some(v1::FilesystemIdentifier { mountpoint: "/".to_owned() }),
                used_bytes: some(222_670_848),
                inodes_used: some(5468),
            }],
            container_filesystems: Vec::new(),
        },
        volumes: BTreeMap::new(),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_441_000 + seconds).unwrap()
}

/// As JSON, without the parts that depend on the machine that the tests run on.
fn shown(mut value: Value) -> Value {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for machine in ["capacityBytes", "inodes", "inodesFree"] {
                    if fields.remove(machine).is_some() {
                        fields.remove("availableBytes");
                    }
                }
                fields.values_mut().for_each(clean);
            }
            Value::Array(items) => items.iter_mut().for_each(clean),
            _ => {}
        }
    }
    clean(&mut value);
    value
}

fn disk_usage(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap()) * 512
}

fn psi(some: u64, avg10: f64, full: u64) -> Value {
    let avg10 = if avg10 == 0.0 { json!(0) } else { json!(avg10) };
    json!({
        "some": {"total": some, "avg10": avg10, "avg60": 0, "avg300": 0},
        "full": {"total": full, "avg10": 0, "avg60": 0, "avg300": 0},
    })
}

#[test]
fn a_node_with_cgroup_v1_is_measured_whole() {
    let dir = v1_node();
    let [logs, old, hosts] = ["logs/web/app/0.log", "logs/web/app/0.log.20240102-030405", "root/web-uid"]
        .map(|f| disk_usage(&dir.path().join(f)));
    let mut provider = provider(dir);
    let summary = provider.measure(&answers(), Depth::Everything, at(0)).unwrap();
    let now = "2026-11-23T13:36:40Z";
    let memory = |available: Option<u64>| {
        let mut memory = json!({
            "time": now, "usageBytes": 368_640, "workingSetBytes": 364_544, "rssBytes": 118_784,
            "pageFaults": 818, "majorPageFaults": 2,
        });
        if let Some(available) = available {
            memory["availableBytes"] = json!(available);
        }
        memory
    };
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let rss = 100 * rustix::param::page_size() as u64;
    let pods = shown(serde_json::to_value(&summary.pods).unwrap());
    assert_eq!(
        pods,
        json!([{
            "podRef": {"name": "web", "namespace": "default", "uid": "web-uid"},
            "startTime": "2026-11-23T13:35:01Z",
            "containers": [{
                "name": "app",
                "startTime": "2026-11-23T13:35:02Z",
                "cpu": {"time": now, "usageCoreNanoSeconds": 13_390_871},
                "memory": memory(Some(67_108_864 - 364_544)),
                "rootfs": {"time": "2026-11-23T13:36:39Z", "usedBytes": 8192, "inodesUsed": 5},
                "logs": {"time": now, "usedBytes": logs + old, "inodesUsed": 2},
                // The limit of memory and swap is that of memory: no swap is left.
                "swap": {"time": now, "swapAvailableBytes": 0, "swapUsageBytes": 0},
            }],
            "cpu": {"time": now, "usageCoreNanoSeconds": 48_230_172},
            "memory": memory(None),
            "network": {
                "time": now, "name": "eth0", "rxBytes": 50, "rxErrors": 3, "txBytes": 70, "txErrors": 4,
                "interfaces": [{"name": "eth0", "rxBytes": 50, "rxErrors": 3, "txBytes": 70, "txErrors": 4}],
            },
            "ephemeral-storage": {"time": now, "usedBytes": 8192 + logs + old + hosts, "inodesUsed": 8},
            "process_stats": {"process_count": 2},
            "swap": {"time": now, "swapUsageBytes": 0},
        }])
    );

    let pods_made = summary.node.system_containers[1].start_time.clone();
    let mut node = shown(serde_json::to_value(&summary.node).unwrap());
    assert!(node["fs"]["usedBytes"].as_u64().unwrap() > 0);
    node.as_object_mut().unwrap().remove("fs");
    let image_fs = json!({"time": "2026-11-23T13:36:39Z", "usedBytes": 222_670_848, "inodesUsed": 5468});
    let network = json!({"name": "ens3", "rxBytes": 5, "rxErrors": 0, "txBytes": 7, "txErrors": 0});
    let mut with_interfaces = network.clone();
    with_interfaces["time"] = json!(now);
    with_interfaces["interfaces"] = json!([network]);
    assert_eq!(
        node,
        json!({
            "nodeName": "node1",
            "startTime": "2026-11-23T13:33:31Z",
            "systemContainers": [
                {
                    "name": "kubelet",
                    "startTime": "2026-11-23T13:33:33Z",
                    "cpu": {"time": now, "usageCoreNanoSeconds": 200 * tick},
                    "memory": {
                        "time": now, "usageBytes": rss, "workingSetBytes": rss, "rssBytes": rss,
                        "pageFaults": 100, "majorPageFaults": 2,
                    },
                },
                {
                    "name": "pods",
                    "startTime": pods_made,
                    "cpu": {"time": now, "usageCoreNanoSeconds": 95_290_905_281u64},
                    "memory": memory(Some(TOTAL - 364_544)),
                    "swap": {"time": now, "swapAvailableBytes": 0, "swapUsageBytes": 0},
                },
            ],
            "cpu": {"time": now, "usageCoreNanoSeconds": 7_825_055_040_636u64},
            "memory": memory(Some(TOTAL - 364_544)),
            "network": with_interfaces,
            "runtime": {"imageFs": image_fs, "containerFs": image_fs},
            "rlimit": {"time": now, "maxpid": 32768, "curproc": 209},
            "swap": {"time": now, "swapAvailableBytes": 1024 * 1024, "swapUsageBytes": 1024 * 1024},
        })
    );
}

#[test]
fn a_node_with_cgroup_v2_is_measured_whole() {
    let mut provider = provider(v2_node());
    let summary = provider.measure(&answers(), Depth::Everything, at(0)).unwrap();
    let now = "2026-11-23T13:36:40Z";
    let cpu =
        |nanoseconds: u64| json!({"time": now, "usageCoreNanoSeconds": nanoseconds, "psi": psi(3, 0.5, 2)});
    let io = json!({"time": now, "psi": psi(3, 0.5, 2)});
    let swap = json!({"time": now, "swapAvailableBytes": 4000, "swapUsageBytes": 1000});
    let memory = json!({
        "time": now, "usageBytes": 368_640, "workingSetBytes": 364_544, "rssBytes": 118_784,
        "pageFaults": 818, "majorPageFaults": 2, "psi": psi(3, 0.5, 2),
    });
    let node = serde_json::to_value(&summary.node).unwrap();
    let roles: Vec<&str> = summary.node.system_containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(roles, ["runtime", "kubelet", "pods"]);
    assert_eq!(node["systemContainers"][1]["cpu"], cpu(4_000_000), "of the cgroup that this process is in");
    assert_eq!(node["systemContainers"][1]["startTime"], "2026-11-23T13:33:33Z");
    assert_eq!(node["systemContainers"][0]["cpu"], cpu(5_000_000));
    // The root cgroup has no memory: the machine's.
    let (usage, inactive) = (TOTAL - 11_876_816 * 1024, 6_328_632 * 1024);
    assert_eq!(
        node["memory"],
        json!({
            "time": now, "usageBytes": usage, "workingSetBytes": usage - inactive,
            "availableBytes": TOTAL - usage + inactive, "rssBytes": 1_864_140 * 1024,
            "pageFaults": 607_854_209, "majorPageFaults": 150_869, "psi": psi(9, 0.0, 0),
        })
    );
    assert_eq!(
        node["cpu"],
        json!({"time": now, "usageCoreNanoSeconds": 7_825_055_040_000u64, "psi": psi(9, 0.0, 0)})
    );
    assert_eq!(node["io"], json!({"time": now, "psi": psi(9, 0.0, 0)}));

    let pod = serde_json::to_value(&summary.pods[0]).unwrap();
    for (field, expected) in [("cpu", &cpu(48_230_000)), ("memory", &memory), ("swap", &swap), ("io", &io)] {
        assert_eq!(&pod[field], expected, "{field}");
    }
    let app = &pod["containers"][0];
    let mut limited = memory.clone();
    limited["availableBytes"] = json!(67_108_864 - 364_544);
    for (field, expected) in [("cpu", &cpu(13_390_000)), ("memory", &limited), ("swap", &swap), ("io", &io)] {
        assert_eq!(&app[field], expected, "{field} of the container");
    }
    assert_eq!(pod["process_stats"], json!({"process_count": 2}));
}

#[test]
fn without_depth_only_cpu_memory_and_swap_are_told() {
    let mut provider = provider(v2_node());
    let answers = RuntimeAnswers { container_stats: Vec::new(), ..answers() };
    let summary = provider.measure(&answers, Depth::CpuAndMemory, at(0)).unwrap();
    let fields = |value: Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        fields(serde_json::to_value(&summary.node).unwrap()),
        "cpu memory nodeName startTime swap systemContainers"
    );
    assert_eq!(
        fields(serde_json::to_value(&summary.pods[0]).unwrap()),
        "containers cpu memory podRef startTime swap"
    );
    assert_eq!(
        fields(serde_json::to_value(&summary.pods[0].containers[0]).unwrap()),
        "cpu memory name startTime swap"
    );
}

#[test]
fn rates_of_node_pods_and_containers_are_over_the_time_between_two_summaries() {
    let dir = v2_node();
    let path = dir.path().to_owned();
    let mut provider = provider(dir);
    provider.measure(&answers(), Depth::CpuAndMemory, at(0)).unwrap();
    for (file, microseconds) in [
        ("cpu.stat", 7_835_055_040u64),
        ("kubepods/besteffort/podweb-uid/cpu.stat", 5_048_230),
        ("kubepods/besteffort/podweb-uid/c0ffee/cpu.stat", 2_513_390),
    ] {
        fs::write(path.join("sys").join(file), format!("usage_usec {microseconds}\n")).unwrap();
    }
    let summary = provider.measure(&answers(), Depth::Everything, at(10)).unwrap();
    let rate = |cpu: &Option<kube_model::stats::CpuStats>| cpu.as_ref().unwrap().usage_nano_cores;
    let pod = &summary.pods[0];
    assert_eq!(rate(&summary.node.cpu), Some(1_000_000_000), "one core");
    assert_eq!(rate(&pod.cpu), Some(500_000_000));
    assert_eq!(rate(&pod.containers[0].cpu), Some(250_000_000));
    let of_kubelet = summary.node.system_containers.iter().find(|c| c.name == "kubelet").unwrap();
    assert_eq!(rate(&of_kubelet.cpu), Some(0), "idle");
}

#[test]
fn where_the_kernel_shows_no_containers_the_runtime_is_asked() {
    let mut all = answers();
    let shown = provider(v2_node());
    assert!(!shown.needs_container_stats(&all));
    all.sandboxes.push(sandbox("7a9e", "vm", v1::PodSandboxState::SandboxReady, 5));
    assert!(!shown.needs_container_stats(&all), "no container of it runs");
    for (id, name) in [("a1", "one"), ("b2", "two")] {
        all.containers.push(container(id, "7a9e", name, v1::ContainerState::ContainerRunning));
    }
    assert!(shown.needs_container_stats(&all));

    all.container_stats.extend([stats_of("a1", 30), stats_of("b2", 40)]);
    let mut provider = provider(v2_node());
    let summary = provider.measure(&all, Depth::Everything, at(0)).unwrap();
    let [vm, web] = &*summary.pods else { panic!("{:?}", summary.pods) };
    assert_eq!((&*vm.pod_ref.name, &*web.pod_ref.name), ("vm", "web"));
    let names: Vec<&str> = vm.containers.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["one", "two"]);
    let cpu = vm.cpu.as_ref().unwrap();
    assert_eq!(cpu.usage_core_nano_seconds, Some(70), "a pod without a cgroup is the sum of its containers");
    assert_eq!(cpu.time, Time(Timestamp::from_second(1_795_440_999).unwrap()));
    let memory = vm.memory.as_ref().unwrap();
    assert_eq!((memory.working_set_bytes, memory.available_bytes), (Some(2000), Some(128)));
    let ContainerStats { memory, rootfs, swap, logs, .. } = &vm.containers[0];
    assert_eq!(memory.as_ref().unwrap().usage_bytes, Some(2000));
    assert_eq!(rootfs.as_ref().unwrap().used_bytes, Some(8192));
    assert_eq!((swap, logs), (&None, &None), "nobody knows");
    let PodStats { network, process_stats, ephemeral_storage, .. } = vm;
    assert_eq!((network, process_stats), (&None, &None));
    assert_eq!(ephemeral_storage.as_ref().unwrap().used_bytes, Some(2 * 8192));
}

#[test]
fn the_runtimes_numbers_come_in_whole() {
    let psi_of = |total| v1::PsiStats {
        some: Some(v1::PsiData { total, avg10: 1.5, avg60: 0.5, avg300: 0.25 }),
        full: None,
    };
    let mut stats = stats_of("c0ffee", 30);
    if let (Some(cpu), Some(memory)) = (&mut stats.cpu, &mut stats.memory) {
        cpu.usage_nano_cores = some(77);
        cpu.psi = Some(psi_of(5));
        memory.rss_bytes = some(10);
        memory.page_faults = some(11);
        memory.major_page_faults = some(12);
    }
    stats.swap =
        Some(v1::SwapUsage { timestamp: 0, swap_available_bytes: some(1), swap_usage_bytes: some(2) });
    stats.io = Some(v1::IoUsage { timestamp: 1_795_440_999_000_000_000, psi: Some(psi_of(6)) });
    let cgroup::Reading { cpu, memory, swap, io } = cri::reading(&stats, at(0));
    let some_of = |total| json!({"total": total, "avg10": 1.5, "avg60": 0.5, "avg300": 0.25});
    let none = json!({"total": 0, "avg10": 0, "avg60": 0, "avg300": 0});
    let time = "2026-11-23T13:36:39Z";
    assert_eq!(
        json!([cpu, memory, swap, io]),
        json!([
            {"time": time, "usageNanoCores": 77, "usageCoreNanoSeconds": 30, "psi": {"full": none, "some": some_of(5)}},
            {
                "time": time, "availableBytes": 64, "usageBytes": 2000, "workingSetBytes": 1000, "rssBytes": 10,
                "pageFaults": 11, "majorPageFaults": 12,
            },
            {"time": "2026-11-23T13:36:40Z", "swapAvailableBytes": 1, "swapUsageBytes": 2},
            {"time": time, "psi": {"full": none, "some": some_of(6)}},
        ]),
        "a time that is left out is now"
    );
}
