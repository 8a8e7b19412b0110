//! What the agent did not create, it never touches.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cri_client::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, ListPodSandboxRequest, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, RunPodSandboxRequest, StartContainerRequest,
};
use kube_model::labels;
use testkit::env::{BUSYBOX, Tools};

use crate::node::{Node, on_both_lines, uid_of};
use crate::survey::{SLEEPER, prove_alive, until_no_trace};

on_both_lines! {
    fn foreign_containers_are_never_touched(node) {
        node.agent.kill9();
        foreign_in_another_namespace(&node);
        // One has no labels; one has a kubelet's labels, and the name of a pod of ours, but no kubelet's
        // annotation.
        foreign_in_cri(&node, "plain", BTreeMap::new());
        let of_kubelet = [
            (labels::POD_NAME, "ours-node1"),
            (labels::POD_NAMESPACE, "default"),
            (labels::POD_UID, "0c1f8a34-0000-4000-8000-000000000001"),
            (labels::CONTAINER_NAME, "app"),
        ];
        let of_kubelet = of_kubelet.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        foreign_in_cri(&node, "labelled", of_kubelet);
        let before = foreign(&node);

        node.apply("ours", SLEEPER);
        node.agent.start_again().unwrap();
        let uid = uid_of(&node.until_phase("ours", "Running"));
        assert_eq!(foreign(&node), before, "after the agent's start");

        node.agent.kill9();
        node.agent.start_again().unwrap();
        node.until_phase("ours", "Running");
        assert_eq!(foreign(&node), before, "after the agent's restart");

        node.delete("ours");
        node.until_gone("ours");
        until_no_trace(&node, &uid);
        prove_alive(&node);
        assert_eq!(foreign(&node), before, "after a pod was removed");
        let shown = node.agent.pods().unwrap();
        assert_eq!(shown["items"].as_array().map(Vec::len), Some(0), "foreign ones are not shown: {shown}");
    }
}

/// A container of containerd's that Kubernetes knows nothing of.
fn foreign_in_another_namespace(node: &Node) {
    let tools = Tools::ensure().unwrap();
    let rootfs = node.run.dir().join("foreign");
    std::fs::create_dir_all(rootfs.join("bin")).unwrap();
    std::fs::copy(tools.busybox(), rootfs.join("bin/busybox")).unwrap();
    let text = |path: PathBuf| path.display().to_string();
    let cgroup = format!("/{}/foreign", node.run.name());
    let runc = text(tools.runc());
    let runc_root = text(node.run.dir().join("foreign-runc"));
    let rootfs = text(rootfs);
    let args = [
        "--namespace",
        "other",
        "run",
        "--detach",
        "--cgroup",
        &cgroup,
        "--runc-binary",
        &runc,
        "--runc-root",
        &runc_root,
        "--rootfs",
        &rootfs,
        "foreign",
        "/bin/busybox",
        "sleep",
        "3600",
    ];
    node.containerd.ctr(&args).unwrap();
}

/// A pod that somebody else asked the runtime for, with a running container.
fn foreign_in_cri(node: &Node, name: &str, labels: BTreeMap<String, String>) {
    let network = NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() };
    let security = LinuxSandboxSecurityContext { namespace_options: Some(network), ..Default::default() };
    let sandbox = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        labels: labels.clone(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/{}/foreign", node.run.name()),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    };
    let run = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
    let id = node.cri(async |cri| cri.run_pod_sandbox(run).await).unwrap().pod_sandbox_id;
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "app".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
        command: ["sleep", "3600"].map(str::to_owned).to_vec(),
        labels,
        ..Default::default()
    };
    let create =
        CreateContainerRequest { pod_sandbox_id: id, config: Some(container), sandbox_config: Some(sandbox) };
    let container_id = node.cri(async |cri| cri.create_container(create).await).unwrap().container_id;
    node.cri(async |cri| cri.start_container(StartContainerRequest { container_id }).await).unwrap();
}

/// All that is not ours, with the processes.
fn foreign(node: &Node) -> Vec<String> {
    let of_other = node.containerd.ctr(&["--namespace", "other", "tasks", "ls"]).unwrap();
    let sandboxes = node.cri(async |cri| cri.list_pod_sandbox(ListPodSandboxRequest::default()).await);
    let sandboxes: Vec<_> = sandboxes
        .unwrap()
        .items
        .into_iter()
        .filter(|s| !s.annotations.contains_key(labels::CONFIG_SOURCE))
        .collect();
    let containers = node.all_containers();
    let mut ids: Vec<String> = sandboxes.iter().map(|s| s.id.clone()).collect();
    ids.extend(
        containers.into_iter().filter(|c| ids.contains(&c.pod_sandbox_id)).map(|c| c.id).collect::<Vec<_>>(),
    );
    let tasks = node.tasks().into_iter().filter(|task| ids.iter().any(|id| task.starts_with(id)));
    // How wide the columns are depends on what else runs.
    let words = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut all: Vec<_> = tasks.chain(of_other.lines().skip(1).map(str::to_owned)).map(words).collect();
    all.sort();
    assert_eq!(all.len(), 5, "one elsewhere, and two pods of a sandbox and a container: {all:?}");
    assert!(all.iter().all(|task| task.ends_with("RUNNING")), "{all:?}");
    all
}
