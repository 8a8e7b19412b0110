//! What a pod leaves on the node: labels and annotations in the runtime, logs, files, cgroups; and that nothing
//! of it stays.

use std::fs;
use std::path::{Path, PathBuf};

use kube_model::Timestamp;
use serde_json::{Value, json};

use testkit::env::{Line, Run};

use crate::node::{Node, eventually, id_of, on_both_lines, uid_of};

on_both_lines! {
    /// The manifest, labels, annotations and hash are those of a recording of the kubelet.
    fn a_pod_is_to_the_runtime_what_the_kubelet_makes_it_and_goes_without_a_trace(node) {
        let recorded = recording("minimal");
        let create = request(&recorded, "CreateContainer");
        let image = create["config"]["image"]["user_specified_image"].as_str().unwrap();
        node.containerd.ctr(&["images", "tag", testkit::env::BUSYBOX, image]).unwrap();
        node.agent.write_manifest("minimal.json", &recorded["manifest"].to_string()).unwrap();
        let pod = node.until_ready("minimal");
        let uid = uid_of(&pod);

        let sandboxes = node.sandboxes(&uid);
        let [sandbox] = sandboxes.as_slice() else { panic!("{sandboxes:?}") };
        let config = &request(&recorded, "RunPodSandbox")["config"];
        let metadata = sandbox.metadata.clone().unwrap();
        let found = json!({"name": metadata.name, "uid": metadata.uid, "namespace": metadata.namespace});
        assert_eq!(found, with_uid(&config["metadata"], &uid));
        assert_eq!(metadata.attempt, 0);
        assert_eq!(json!(sandbox.labels), with_uid(&config["labels"], &uid));
        let mut annotations = json!(sandbox.annotations);
        let seen = annotations["kubernetes.io/config.seen"].take();
        assert!(seen.as_str().unwrap().parse::<Timestamp>().is_ok(), "{seen}");
        annotations["kubernetes.io/config.seen"] = json!("$TIME");
        assert_eq!(annotations, with_uid(&config["annotations"], &uid));

        let container = node.container_status(&id_of(&pod["status"]["containerStatuses"][0]));
        let config = &create["config"];
        assert_eq!(json!(container.labels), with_uid(&config["labels"], &uid));
        assert_eq!(json!(container.annotations), config["annotations"]);
        let log = node.log_path("minimal", &uid, "app", 0);
        assert_eq!(Path::new(&container.log_path), log);
        let mounts: Vec<_> = container.mounts.iter().map(|m| m.container_path.as_str()).collect();
        assert_eq!(json!(mounts), json!(["/etc/hosts", "/dev/termination-log"]));
        let link = link_of(&node, "minimal", "app", &container.id);
        assert_eq!(fs::read_link(&link).unwrap(), log);
        let pod_dir = node.agent.root().join("pods").join(&uid);
        let cgroup = pod_cgroup(&node, "besteffort", &uid);
        for path in [&pod_dir, &cgroup.join(&container.id)] {
            assert!(path.is_dir(), "{}", path.display());
        }

        fs::remove_file(node.agent.manifests().join("minimal.json")).unwrap();
        node.until_gone("minimal");
        assert!(node.sandboxes(&uid).is_empty());
        assert!(node.containers(&uid).is_empty());
        assert!(link.symlink_metadata().is_err(), "the link to the log is left");
        for path in [log.ancestors().nth(2).unwrap(), &pod_dir, &cgroup] {
            assert!(!path.exists(), "{} is left", path.display());
        }
    }

    fn logs_hosts_and_termination_messages_are_where_people_look(node) {
        node.apply("web", "
terminationGracePeriodSeconds: 0
hostAliases:
- {ip: 10.1.2.3, hostnames: [db, db.example]}
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'echo out; echo err >&2; printf part; sleep 3600']
");
        node.apply("words", "
restartPolicy: Never
containers:
- name: file
  image: $BUSYBOX
  command: [sh, -c, 'echo ignored; printf goodbye > /dev/termination-log']
- name: other-file
  image: $BUSYBOX
  command: [sh, -c, 'printf elsewhere > /tmp/words; exit 1']
  terminationMessagePath: /tmp/words
- name: log
  image: $BUSYBOX
  command: [sh, -c, 'echo from the log; exit 3']
  terminationMessagePolicy: FallbackToLogsOnError
- name: quiet
  image: $BUSYBOX
  command: [sh, -c, 'echo all is well']
  terminationMessagePolicy: FallbackToLogsOnError
");
        let pod = node.until_ready("web");
        let log = node.log_path("web", &uid_of(&pod), "app", 0);
        // A line is written when it is complete, its rest only when the stream ends.
        let lines = eventually("both lines are in the log", || {
            let text = fs::read_to_string(&log).unwrap();
            if text.lines().count() == 2 { Ok(text) } else { Err(text) }
        });
        let mut lines: Vec<_> = lines.lines().map(|line| line.split_once(' ').unwrap()).collect();
        for (time, _) in &lines {
            assert!(time.parse::<Timestamp>().is_ok(), "{time}");
        }
        lines.sort_by_key(|(_, rest)| *rest);
        assert_eq!(lines.iter().map(|(_, rest)| *rest).collect::<Vec<_>>(), ["stderr F err", "stdout F out"]);

        assert_eq!(node.exec("web", "app", "hostname"), "web-node1\n");
        let hosts = node.exec("web", "app", "cat /etc/hosts");
        assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n"), "{hosts}");
        let own = format!("{}\tweb-node1", pod["status"]["podIP"].as_str().unwrap());
        for line in ["127.0.0.1\tlocalhost", &own, "10.1.2.3\tdb\tdb.example"] {
            assert!(hosts.lines().any(|l| l == line), "no {line:?} in {hosts}");
        }

        let ended = node.until_phase("words", "Failed");
        let message = |name: &str| {
            let statuses = ended["status"]["containerStatuses"].as_array().unwrap();
            statuses.iter().find(|c| c["name"] == name).unwrap()["state"]["terminated"]["message"].clone()
        };
        assert_eq!(message("file"), "goodbye");
        assert_eq!(message("other-file"), "elsewhere");
        assert_eq!(message("log"), "from the log\n");
        assert_eq!(message("quiet"), Value::Null);
    }

    fn cgroups_hold_requests_and_limits(node) {
        let container = "
  image: $BUSYBOX
  command: [sleep, '3600']";
        let spec = |resources: &[&str]| {
            let containers: String = resources
                .iter()
                .enumerate()
                .map(|(i, r)| format!("- name: c{i}{container}\n  resources: {r}\n"))
                .collect();
            format!("terminationGracePeriodSeconds: 0\ncontainers:\n{containers}")
        };
        node.apply("guaranteed", &spec(&["{limits: {cpu: 100m, memory: 32Mi}}", "{limits: {cpu: 250m, memory: 64Mi}}"]));
        node.apply("burstable", &spec(&["{requests: {cpu: 50m}, limits: {memory: 48Mi}}", "{limits: {cpu: 1500m}}"]));
        node.apply("besteffort", &spec(&["{}"]));
        // Of these two the class has nothing: one was never taken, the other has ended.
        node.apply("greedy", &spec(&["{requests: {cpu: '1000'}}"]));
        node.apply("done", &format!("restartPolicy: Never\n{}", spec(&["{requests: {cpu: 70m}}"]).replace("'3600'", "'0'")));
        node.until_phase("greedy", "Failed");
        node.until_phase("done", "Succeeded");
        let pods = ["guaranteed", "burstable", "besteffort"].map(|name| {
            let pod = node.until_ready(name);
            assert_eq!(pod["status"]["qosClass"].as_str().unwrap().to_lowercase(), name);
            let class = if name == "guaranteed" { "" } else { name };
            (pod_cgroup(&node, class, &uid_of(&pod)), pod)
        });
        const MI: u64 = 1 << 20;
        // The class, the pod, then its containers: CPU in thousandths of a core as a share, as a limit; memory.
        let expected: [(&[Limits], _); 3] = [
            (&[(350, Some(350), Some(96 * MI)), (100, Some(100), Some(32 * MI)), (250, Some(250), Some(64 * MI))], "guaranteed"),
            (&[(1550, None, None), (50, None, Some(48 * MI)), (1500, Some(1500), None)], "burstable"),
            (&[(0, None, None), (0, None, None)], "besteffort"),
        ];
        // The burstable class has what its pods ask for, the best-effort one next to nothing.
        for (class, milli) in [("burstable", 1550), ("besteffort", 0)] {
            let cgroup = pods.iter().map(|(cgroup, _)| cgroup.parent().unwrap()).find(|c| c.ends_with(class));
            until_shares(cgroup.unwrap(), shares(milli));
        }
        for ((cgroup, pod), (expected, name)) in pods.iter().zip(expected) {
            let ids = pod["status"]["containerStatuses"].as_array().unwrap().iter().map(|c| cgroup.join(id_of(c)));
            let found: Vec<_> = [cgroup.clone()].into_iter().chain(ids).map(|c| limits(&c)).collect();
            let expected: Vec<_> = expected.iter().map(|(share, quota, memory)| (shares(*share), *quota, *memory)).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}

/// A share of the CPU and a limit of it, in thousandths of a core; a limit of memory in bytes.
type Limits = (u64, Option<u64>, Option<u64>);

fn recording(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/pods/{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The first request of this kind in a recording.
fn request<'a>(recording: &'a Value, call: &str) -> &'a Value {
    &recording["cri"].as_array().unwrap().iter().find(|c| c["call"] == call).unwrap()["request"]
}

fn with_uid(recorded: &Value, uid: &str) -> Value {
    serde_json::from_str(&recorded.to_string().replace("$UID", uid)).unwrap()
}

fn link_of(node: &Node, name: &str, container: &str, id: &str) -> PathBuf {
    let links = node.pod_logs().with_file_name("containers");
    links.join(format!("{name}-node1_default_{container}-{id}.log"))
}

/// Whether the machine has the unified hierarchy, where CPU and memory share one folder.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The cgroup of a pod, in the hierarchy of the CPU.
fn pod_cgroup(node: &Node, class: &str, uid: &str) -> PathBuf {
    let mount = Path::new("/sys/fs/cgroup").join(if unified() { "" } else { "cpu" });
    mount.join(node.run.name()).join("kubepods").join(class).join(format!("pod{uid}"))
}

#[test]
fn without_the_nodes_resolver_configuration_pods_that_need_it_wait_and_say_so() {
    let run = Run::new().unwrap();
    let resolv_conf = run.dir().join("resolv.conf");
    let node = Node::on(run, Line::V2_1, &[&format!("--resolv-conf={}", resolv_conf.display())]);
    let sleeps = "terminationGracePeriodSeconds: 0\ncontainers: [{name: app, image: $BUSYBOX, command: [sleep, '3600']}]";
    node.apply("own", &format!("dnsPolicy: None\ndnsConfig: {{nameservers: [10.9.8.7]}}\n{sleeps}"));
    node.apply("nodes", &format!("dnsPolicy: Default\n{sleeps}"));
    node.until_ready("own");
    let path = resolv_conf.display();
    let text = format!("Failed to create pod sandbox: open {path}: No such file or directory");
    node.until_event("nodes", "FailedCreatePodSandBox", &text);
    // Each sandbox gets what the file says at its time.
    fs::write(&resolv_conf, "nameserver 10.1.2.3\n").unwrap();
    node.until_ready("nodes");
    assert_eq!(node.exec("nodes", "app", "cat /etc/resolv.conf"), "nameserver 10.1.2.3\n");
    fs::write(&resolv_conf, "nameserver 10.1.2.4\n").unwrap();
    node.apply("later", &format!("dnsPolicy: Default\n{sleeps}"));
    node.until_ready("later");
    assert_eq!(node.exec("later", "app", "cat /etc/resolv.conf"), "nameserver 10.1.2.4\n");
}

/// What the kernel shows of a cgroup: the raw share, limits in the units of [`Limits`].
fn limits(cpu: &Path) -> Limits {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().to_owned()
    };
    let milli = |quota: &str, period: &str| {
        quota.parse().ok().map(|quota: u64| quota * 1000 / period.parse::<u64>().unwrap())
    };
    if unified() {
        let max = read(cpu.join("cpu.max"));
        let (quota, period) = max.split_once(' ').unwrap();
        let weight = read(cpu.join("cpu.weight")).parse().unwrap();
        return (weight, milli(quota, period), read(cpu.join("memory.max")).parse().ok());
    }
    let memory = Path::new("/sys/fs/cgroup/memory").join(cpu.strip_prefix("/sys/fs/cgroup/cpu").unwrap());
    let memory: u64 = read(memory.join("memory.limit_in_bytes")).parse().unwrap();
    let quota = milli(&read(cpu.join("cpu.cfs_quota_us")), &read(cpu.join("cpu.cfs_period_us")));
    // Without a limit the kernel shows the largest number of whole pages.
    (read(cpu.join("cpu.shares")).parse().unwrap(), quota, Some(memory).filter(|m| *m < 1 << 62))
}

/// Waits until the raw share is this: it follows the pods.
fn until_shares(cpu: &Path, expected: u64) {
    eventually(&format!("{} has a share of {expected}", cpu.display()), || match limits(cpu).0 {
        found if found == expected => Ok(()),
        found => Err(found.to_string()),
    });
}

/// The raw share of these thousandths of a core. Rule: upstream `pkg/kubelet/cm/helpers_linux.go`.
fn shares(milli: u64) -> u64 {
    let shares = (milli * 1024 / 1000).max(2);
    if unified() { 1 + (shares - 2) * 9999 / 262_142 } else { shares }
}
