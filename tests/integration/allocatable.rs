//! What the node has for pods is one thing to all who ask: the pods' cgroup, admission, the downward API. And what it
//! cannot give is a reason to reject a pod, not to keep it waiting.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::node::{eventually, on_both_lines, uid_of};

/// A value of the cgroup that all pods of this run are in.
fn of_all_pods(run: &str, v1: (&str, &str), v2: &str) -> String {
    let root = Path::new("/sys/fs/cgroup");
    let path = match root.join("cgroup.controllers").exists() {
        true => root.join(run).join("kubepods").join(v2),
        false => root.join(v1.0).join(run).join("kubepods").join(v1.1),
    };
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

fn number(path: &str, name: &str) -> i64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or(&text);
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// CPUs of the machine, counted by their folders.
fn cpus() -> i64 {
    let online = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let is_cpu = name.to_str()?.strip_prefix("cpu")?.parse::<u32>().is_ok();
        let file = fs::read_to_string(entry.path().join("online")).ok();
        (is_cpu && file.is_none_or(|text| text.trim() == "1")).then_some(())
    };
    fs::read_dir("/sys/devices/system/cpu").unwrap().filter_map(|entry| online(entry.unwrap())).count() as i64
}

on_both_lines! {
    fn all_who_ask_what_the_node_has_get_one_answer(node with
        "--system-reserved=cpu=150m,memory=64Mi,pid=100",
        "--kube-reserved=cpu=50m,memory=36Mi",
        "--eviction-hard=memory.available<100Mi"
    ) {
        let memory = number("/proc/meminfo", "MemTotal:") * 1024;
        let pids = number("/proc/sys/kernel/pid_max", "-").min(number("/proc/sys/kernel/threads-max", "-"));
        let milli = cpus() * 1000;
        let run = node.run.name();
        // The cgroup of all pods has what is not reserved; what is left against eviction is there to be noticed.
        let for_pods = memory - (100 << 20);
        let read = of_all_pods(run, ("memory", "memory.limit_in_bytes"), "memory.max");
        assert_eq!(read, (for_pods - for_pods % 4096).to_string());
        assert_eq!(of_all_pods(run, ("pids", "pids.max"), "pids.max"), (pids - 100).to_string());
        let shares = (milli - 200) * 1024 / 1000;
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        let read = of_all_pods(run, ("cpu", "cpu.shares"), "cpu.weight");
        assert!([shares, weight].map(|n| n.to_string()).contains(&read), "{read}");
        assert!(!of_all_pods(run, ("cpuset", "cpuset.cpus"), "cpuset.cpus").is_empty());

        // A container without limits is told of what it can have at most.
        node.apply("asks", "
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'echo $CPU $MEMORY $DISK; sleep 3600']
  env:
  - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
  - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
  - {name: DISK, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage}}}
");
        let uid = uid_of(&node.until_ready("asks"));
        let log = node.log_path("asks", &uid, "app", 0);
        eventually("the pod has said what it can have", || {
            let text = fs::read_to_string(&log).map_err(|e| e.to_string())?;
            let said: Vec<i64> =
                text.split_whitespace().rev().take(3).filter_map(|word| word.parse().ok()).collect();
            let huge = memory - said.get(1).copied().unwrap_or_default() - (200 << 20);
            let all = said.len() == 3 && said[2] == milli - 200 && huge >= 0 && huge % (1 << 20) == 0;
            if all && said[0] > 0 { Ok(()) } else { Err(text) }
        });

        // All that can be had is given, and no more.
        let request = |milli: i64| format!("
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, '3600']
  resources: {{requests: {{cpu: {milli}m}}}}
");
        node.apply("too-much", &request(milli - 199));
        let status = node.until_phase("too-much", "Failed")["status"].clone();
        // A static pod is critical, and nothing preempts for it.
        let message = "Pod was rejected: Unexpected error while attempting to recover from admission failure: \
            preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: \
            [(res: cpu, q: 1), ]";
        assert_eq!(json!([status["reason"], status["message"]]), json!(["UnexpectedAdmissionError", message]));
        node.apply("all", &request(milli - 200));
        let status = node.until_ready("all")["status"]["containerStatuses"][0].clone();
        assert_eq!(status["allocatedResources"]["cpu"].as_str().map(|cpu| cpu.ends_with('m')), Some(true));
    }

    fn what_the_node_cannot_give_is_a_reason_to_reject(node with "--allowed-unsafe-sysctls=kernel.msg*") {
        let spec = |extra: &str| format!("
{extra}
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start; sleep 3600']
");
        let sysctl = |name: &str| format!("securityContext: {{sysctls: [{{name: {name}, value: '0'}}]}}");
        for (name, extra, reason, message) in [
            (
                "windows",
                "os: {name: windows}".to_owned(),
                "PodOSNotSupported",
                "Failed to admit pod as the OS field doesn't match node OS",
            ),
            (
                "unsafe",
                sysctl("kernel.shmall"),
                "SysctlForbidden",
                "forbidden sysctl: \"kernel.shmall\" not allowlisted",
            ),
        ] {
            node.apply(name, &spec(&extra));
            let status = node.until_phase(name, "Failed")["status"].clone();
            let found = json!([status["reason"], status["message"]]);
            assert_eq!(found, json!([reason, format!("Pod was rejected: {message}")]));
        }
        if !Path::new("/sys/kernel/security/apparmor").exists() {
            node.apply("confined", &spec("securityContext: {appArmorProfile: {type: RuntimeDefault}}"));
            let status = node.until_phase("confined", "Failed")["status"].clone();
            let message = "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host";
            assert_eq!(json!([status["reason"], status["message"]]), json!(["AppArmor", message]));
        }
        // What may be set is set.
        let both = "securityContext: {sysctls: [{name: kernel/msgmax, value: '4321'}, \
             {name: net.ipv4.ip_unprivileged_port_start, value: '77'}]}";
        node.apply("allowed", &spec(both));
        let uid = uid_of(&node.until_ready("allowed"));
        let log = node.log_path("allowed", &uid, "app", 0);
        eventually("the parameters are as the pod wants them", || {
            let text = fs::read_to_string(&log).map_err(|e| e.to_string())?;
            let last = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
            let values: Vec<_> = text.lines().map(last).collect();
            if values == ["4321", "77"] { Ok(()) } else { Err(text) }
        });
    }
}
