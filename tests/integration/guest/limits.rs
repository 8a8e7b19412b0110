//! What the kernel holds pods to, by the cgroups of version 2.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::env::Line;

use crate::node::{Node, eventually, id_of, uid_of};

const CGROUPS: &str = "/sys/fs/cgroup";

/// A file in a cgroup below the one of all pods.
fn read(node: &Node, path: &str) -> String {
    let path = cgroup(node, path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

fn cgroup(node: &Node, path: &str) -> PathBuf {
    Path::new(CGROUPS).join(node.run.name()).join("kubepods").join(path)
}

/// The cgroup of a pod's first container.
fn of_container(class: &str, pod: &Value) -> String {
    format!("{class}pod{}/{}", uid_of(pod), id_of(&pod["status"]["containerStatuses"][0]))
}

#[test]
#[ignore = "for the guest"]
fn pods_and_containers_have_what_they_ask_for() {
    let node = Node::with(Line::V2_1, &["--pod-max-pids=200"]);
    for (name, resources) in [
        ("guaranteed", "{limits: {cpu: 500m, memory: 64Mi}}"),
        ("burstable", "{requests: {cpu: 100m, memory: 16Mi}, limits: {memory: 32Mi}}"),
        ("besteffort", "{}"),
    ] {
        node.apply(
            name,
            &format!(
                "
terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, '3600']
  resources: {resources}
"
            ),
        );
    }
    for (name, class, of_pod, of_app) in [
        (
            "guaranteed",
            "",
            [
                ("cpu.max", "50000 100000"),
                ("cpu.weight", "20"),
                ("memory.max", "67108864"),
                ("pids.max", "200"),
            ],
            [("cpu.max", "50000 100000"), ("memory.max", "67108864")],
        ),
        (
            "burstable",
            "burstable/",
            [("cpu.max", "max 100000"), ("cpu.weight", "4"), ("memory.max", "33554432"), ("pids.max", "200")],
            [("cpu.max", "max 100000"), ("memory.max", "33554432")],
        ),
        (
            "besteffort",
            "besteffort/",
            [("cpu.max", "max 100000"), ("cpu.weight", "1"), ("memory.max", "max"), ("pids.max", "200")],
            [("cpu.max", "max 100000"), ("memory.max", "max")],
        ),
    ] {
        let pod = node.until_ready(name);
        for (file, value) in of_pod {
            assert_eq!(read(&node, &format!("{class}pod{}/{file}", uid_of(&pod))), value, "{name}: {file}");
        }
        let app = of_container(class, &pod);
        for (file, value) in of_app {
            assert_eq!(read(&node, &format!("{app}/{file}")), value, "container of {name}: {file}");
        }
        assert!(!read(&node, &format!("{app}/cgroup.procs")).is_empty(), "{name} is in its cgroup");
    }
    assert_eq!(read(&node, "besteffort/cpu.weight"), "1");
    eventually("the burstable pods have what they ask for together", || {
        let weight = read(&node, "burstable/cpu.weight");
        if weight == "4" { Ok(()) } else { Err(weight) }
    });
    let uid = uid_of(&node.until_ready("guaranteed"));
    node.delete("guaranteed");
    node.until_gone("guaranteed");
    eventually("its cgroup goes with the pod", || {
        if cgroup(&node, &format!("pod{uid}")).exists() { Err(format!("{uid} is there")) } else { Ok(()) }
    });
}

#[test]
#[ignore = "for the guest"]
fn who_takes_more_memory_than_allowed_is_killed_and_it_is_said() {
    let node = Node::with(Line::V2_1, &[]);
    node.apply(
        "greedy",
        "
restartPolicy: Never
containers:
- name: app
  image: $BUSYBOX
  command: [tail, /dev/zero]
  resources: {limits: {memory: 24Mi}}
",
    );
    let pod = node.until_phase("greedy", "Failed");
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&terminated["reason"], &terminated["exitCode"]), (&"OOMKilled".into(), &137.into()), "{pod}");
}

#[test]
#[ignore = "for the guest"]
fn a_pod_starts_no_more_processes_than_it_may() {
    let node = Node::with(Line::V2_1, &["--pod-max-pids=20"]);
    node.apply(
        "many",
        "
restartPolicy: Never
terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'for i in $(seq 100); do sleep 3600 & done; wait']
",
    );
    let pod = node.until_pod("many", "runs or has ended", |pod| {
        ["Running", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
    });
    let path = format!("besteffort/pod{}", uid_of(&pod));
    eventually("the kernel has refused a process", || {
        let events = fs::read_to_string(cgroup(&node, &format!("{path}/pids.events"))).unwrap_or_default();
        let refused = events.lines().any(|line| line.starts_with("max ") && line != "max 0");
        if refused { Ok(()) } else { Err(events) }
    });
    let peak: u32 = read(&node, &format!("{path}/pids.peak")).parse().unwrap();
    assert!(peak <= 20, "{peak}");
}

mod own_kernel {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use testkit::env::{Run, until};

    use super::*;
    use crate::process::NOBODY;

    fn get(port: u16, path: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = ask().map_err(|error| error.to_string())?;
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.0 200") => Ok(body.to_owned()),
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => Err(text),
        }
    }

    /// The total of a line of a pressure file, in microseconds.
    fn total(node: &Node, path: &str) -> u64 {
        let text = read(node, path);
        let some = text.lines().find(|line| line.starts_with("some ")).unwrap();
        some.rsplit_once("total=").unwrap().1.parse().unwrap()
    }

    #[test]
    #[ignore = "for the guest"]
    fn the_summary_has_the_pressure_that_the_kernel_tells() {
        let run = Run::new().unwrap();
        let kubeconfig = run.dir().join("kubeconfig");
        fs::write(&kubeconfig, NOBODY).unwrap();
        let (port, read_only) = (run.free_port().unwrap(), run.free_port().unwrap());
        let args = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--port={port}"),
            format!("--read-only-port={read_only}"),
        ];
        let node = Node::on(run, Line::V2_1, &args.each_ref().map(String::as_str));
        // Held to a tenth of a CPU, so that it waits for one.
        node.apply(
            "pressed",
            "
terminationGracePeriodSeconds: 0
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, 'while :; do :; done']
  resources: {limits: {cpu: 100m, memory: 32Mi}}
",
        );
        let app = of_container("", &node.until_ready("pressed"));
        let pressure = format!("{app}/cpu.pressure");
        eventually("the container waits for a CPU", || match total(&node, &pressure) {
            total if total > 1_000_000 => Ok(()),
            total => Err(format!("{total} µs")),
        });
        let before = total(&node, &pressure);
        let told = eventually("the summary has it", || {
            let summary: Value =
                serde_json::from_str(&get(read_only, "/stats/summary")?).map_err(|e| e.to_string())?;
            let app = &summary["pods"][0]["containers"][0];
            let total = app["cpu"]["psi"]["some"]["total"].as_u64().filter(|total| *total >= before);
            total.ok_or_else(|| app.to_string())
        });
        let after = total(&node, &pressure);
        assert!((before..=after).contains(&told), "{before} <= {told} <= {after}");
    }

    /// A runtime that is interrupted in starting a container may be left with a process that it will not remove, and with
    /// cgroups that it makes once more: both go.
    #[test]
    #[ignore = "for the guest"]
    fn pods_that_go_while_they_start_leave_nothing() {
        let node = Node::with(Line::V2_1, &[]);
        for i in 0..10 {
            let name = format!("short{i}");
            node.apply(&name, crate::survey::SLEEPER);
            // Each is deleted at another moment of its start.
            std::thread::sleep(Duration::from_millis(150 * i));
            node.delete(&name);
        }
        until("nothing is left", Duration::from_secs(180), || {
            let classes = ["", "burstable", "besteffort"].map(|class| cgroup(&node, class));
            let cgroups = classes.iter().flat_map(|class| fs::read_dir(class).unwrap());
            let cgroups = cgroups.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let left: Vec<_> = cgroups
                .filter(|name| name.starts_with("pod"))
                .chain(node.everything())
                .chain(node.tasks())
                .collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }

    #[test]
    #[ignore = "for the guest"]
    fn a_pod_runs_on_the_cpus_that_all_pods_have() {
        let node = Node::with(Line::V2_1, &[]);
        node.apply("any", crate::survey::SLEEPER);
        let pod = node.until_phase("any", "Running");
        assert_eq!(read(&node, "cpuset.cpus"), "0-1");
        assert_eq!(
            read(&node, &format!("{}/cpuset.cpus.effective", of_container("besteffort/", &pod))),
            "0-1"
        );
    }
}
