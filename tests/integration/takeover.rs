//! The swap: static pods that the Go kubelet left running, played by what it makes in the runtime and on disk.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

use cri_client::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, RunPodSandboxRequest, StartContainerRequest,
};
use kube_model::core;
use kube_model::hash::container_hash;
use kube_model::labels;
use testkit::env::{BUSYBOX, Line, Run, container_status};

use crate::node::{Node, eventually, manifest, on_both_lines, uid_of};
use crate::survey::{prove_alive, until_no_trace};

/// As the Go kubelet makes it of a manifest, a hash of the same length as ours.
const UID: &str = "6f1ed002ab5595859014ebf0951522d9";

/// It needs three seconds to end well, more than an orphan gets.
const SLOW: &str = "
hostNetwork: true
terminationGracePeriodSeconds: 20
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, \"trap 'sleep 3; echo ended well; exit 0' TERM; while :; do sleep 0.1; done\"]
";

on_both_lines! {
    fn a_static_pod_of_another_kubelet_is_taken_over_and_an_edit_replaces_it(node) {
        node.agent.kill9();
        node.apply("web", SLOW);
        let id = left_by_another(&node, "web");
        let (before, tasks) = (node.everything(), node.tasks());
        for start in ["the first", "the second"] {
            node.agent.start_again().unwrap();
            let pod = node.until_phase("web", "Running");
            assert_eq!(uid_of(&pod), UID, "{start}");
            assert_eq!(pod["metadata"]["annotations"][labels::CONFIG_HASH], UID);
            prove_alive(&node);
            assert_eq!((node.everything(), node.tasks()), (before.clone(), tasks.clone()), "{start} start");
            let view = node.agent.pods().unwrap();
            assert_eq!(container_status(&view, "web", "app").unwrap()["restartCount"], 3);
            let explained = node.try_explain("web-node1").unwrap().to_string();
            assert!(explained.contains("Running"), "{explained}");
            node.agent.kill9();
        }
        assert_eq!(log(&node).matches("is taken over").count(), 1, "{}", log(&node));

        node.agent.start_again().unwrap();
        node.apply("web", &SLOW.replace("0.1", "0.2"));
        let new = node.until_pod("web", "is replaced", |p| uid_of(p) != UID && p["status"]["phase"] == "Running");
        until_no_trace(&node, UID);
        assert!(node.containers(&uid_of(&new)).iter().all(|c| c.id != id));
    }

    fn one_that_differs_is_replaced_with_its_own_grace_period_and_the_field_is_logged(node) {
        for (to, field) in [
            (SLOW.replace("$BUSYBOX", "docker.io/library/busybox:other\n  imagePullPolicy: Never"), "spec.containers[app].image"),
            (SLOW.replace("hostNetwork: true", "hostNetwork: true\nhostPID: true"), "spec.hostPID"),
            (SLOW.replace("0.1", "0.2"), "spec.containers[app].command"),
        ] {
            node.agent.kill9();
            node.apply("web", &to);
            left_by_another(&node, "web");
            let said = node.log_path("web", UID, "app", 3);
            let file = std::fs::File::open(&said).unwrap();
            node.agent.start_again().unwrap();
            node.until_pod("web", "has another UID", |p| uid_of(p) != UID);
            eventually("the log names the field", || {
                let wanted = format!("{field} differs; it is replaced");
                if log(&node).contains(&wanted) { Ok(()) } else { Err(log(&node)) }
            });
            until_no_trace(&node, UID);
            let said = std::io::read_to_string(file).unwrap();
            assert!(said.contains("ended well"), "{field}: it had the time to: {said}");
            node.delete("web");
            node.until_gone("web");
        }
    }
}

/// An edit is not lost when the agent restarts while the pod of before still ends.
#[test]
fn a_pod_that_this_agent_replaces_is_not_taken_over_by_the_next_run() {
    let mut node = Node::on(Run::new().unwrap(), Line::V2_1, &[]);
    let patient = SLOW.replace("sleep 3;", "sleep 8;");
    node.apply("web", &patient);
    let old = uid_of(&node.until_phase("web", "Running"));
    // What the runtime does not tell.
    node.apply("web", &patient.replace("command:", "resources: {requests: {memory: 8Mi}}\n  command:"));
    eventually("the edit is seen", || {
        let kept = std::fs::read_to_string(node.agent.root().join("podsource/uids.json")).unwrap();
        if kept.contains(&format!("\"former\":[{old:?}]")) { Ok(()) } else { Err(kept) }
    });
    node.agent.kill9();
    node.agent.start_again().unwrap();
    node.until_pod("web", "is replaced", |p| uid_of(p) != old && p["status"]["phase"] == "Running");
    until_no_trace(&node, &old);
    assert!(!log(&node).contains("is taken over"), "{}", log(&node));
}

/// Nothing is removed before every source has been read, however long that takes.
#[test]
fn a_pod_whose_source_is_slow_is_left_alone_and_taken_over_late() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/pods", slow.local_addr().unwrap());
    let mut node = Node::on(Run::new().unwrap(), Line::V2_1, &["--manifest-url", &url]);
    node.agent.kill9();
    left_by_another(&node, "web");
    let tasks = node.tasks();
    node.agent.start_again().unwrap();
    prove_alive(&node);
    assert_eq!(node.tasks(), tasks, "before the URL answered");
    let text = manifest("web", SLOW);
    std::thread::spawn(move || {
        for stream in slow.incoming() {
            let mut stream = stream.unwrap();
            let length = text.len();
            // Of a killed agent there may be one, too.
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
        }
    });
    assert_eq!(uid_of(&node.until_phase("web", "Running")), UID);
    prove_alive(&node);
    assert_eq!(node.tasks(), tasks);
}

fn log(node: &Node) -> String {
    std::fs::read_to_string(node.agent.log()).unwrap()
}

/// The pod of [`SLOW`] as the Go kubelet leaves it, its container after three restarts. Answers with the container's ID.
fn left_by_another(node: &Node, name: &str) -> String {
    let logs = node.pod_logs().join(format!("default_{name}-node1_{UID}"));
    std::fs::create_dir_all(logs.join("app")).unwrap();
    std::fs::create_dir_all(node.agent.root().join("pods").join(UID)).unwrap();
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let full_name = format!("{name}-node1");
    let mut pod_labels =
        text(&[(labels::POD_NAME, &full_name), (labels::POD_NAMESPACE, "default"), (labels::POD_UID, UID)]);
    let namespaces = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    };
    let security =
        LinuxSandboxSecurityContext { namespace_options: Some(namespaces.clone()), ..Default::default() };
    let sandbox = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: full_name,
            uid: UID.to_owned(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        log_directory: logs.display().to_string(),
        labels: pod_labels.clone(),
        annotations: text(&[
            (labels::CONFIG_HASH, UID),
            (labels::CONFIG_SEEN, "2026-07-04T10:11:12.123456789Z"),
            (labels::CONFIG_SOURCE, "file"),
        ]),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/{}/kubepods/besteffort/pod{UID}", node.run.name()),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    };
    let run = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
    let pod_sandbox_id = node.cri(async |cri| cri.run_pod_sandbox(run).await).unwrap().pod_sandbox_id;
    let wanted = core::Container {
        name: "app".to_owned(),
        image: Some(BUSYBOX.to_owned()),
        ..core::Container::default()
    };
    pod_labels.insert(labels::CONTAINER_NAME.to_owned(), "app".to_owned());
    let security =
        LinuxContainerSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    let script = "trap 'sleep 3; echo ended well; exit 0' TERM; while :; do sleep 0.1; done";
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "app".to_owned(), attempt: 3 }),
        image: Some(ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        labels: pod_labels,
        annotations: text(&[
            (labels::CONTAINER_HASH, &container_hash(&wanted)),
            (labels::CONTAINER_RESTART_COUNT, "3"),
            (labels::CONTAINER_TERMINATION_MESSAGE_PATH, "/dev/termination-log"),
            (labels::CONTAINER_TERMINATION_MESSAGE_POLICY, "File"),
            (labels::POD_TERMINATION_GRACE_PERIOD, "20"),
        ]),
        log_path: "app/3.log".to_owned(),
        linux: Some(LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
        ..Default::default()
    };
    let create =
        CreateContainerRequest { pod_sandbox_id, config: Some(container), sandbox_config: Some(sandbox) };
    let container_id = node.cri(async |cri| cri.create_container(create).await).unwrap().container_id;
    let start = StartContainerRequest { container_id: container_id.clone() };
    node.cri(async |cri| cri.start_container(start).await).unwrap();
    container_id
}
