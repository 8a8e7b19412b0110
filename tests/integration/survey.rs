//! What there is of pods on a node, whoever tells: the runtime, its tasks, folders and cgroups.

use std::path::{Path, PathBuf};

use cri_client::v1::{
    Container, ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandboxState,
};
use kube_model::labels;

use crate::node::{Node, eventually, uid_of};

/// A pod that sleeps until it is told to end.
pub(crate) const SLEEPER: &str = "
terminationGracePeriodSeconds: 5
containers:
- name: app
  image: $BUSYBOX
  command: [sh, -c, \"trap 'exit 0' TERM; sleep 3600 & wait\"]
";

impl Node {
    /// All that the runtime has, one sorted line for each sandbox and container, dead ones too.
    pub(crate) fn everything(&self) -> Vec<String> {
        let sandboxes = self.cri(async |cri| cri.list_pod_sandbox(ListPodSandboxRequest::default()).await);
        let lines = sandboxes.unwrap().items.into_iter().map(|s| {
            let metadata = s.metadata.unwrap_or_default();
            format!(
                "{}#{} {:?} {}",
                metadata.name,
                metadata.attempt,
                PodSandboxState::try_from(s.state),
                s.id
            )
        });
        let mut lines: Vec<String> = lines.chain(lines_of(&self.all_containers())).collect();
        lines.sort();
        lines
    }

    pub(crate) fn all_containers(&self) -> Vec<Container> {
        let request = ListContainersRequest::default();
        self.cri(async |cri| cri.list_containers(request).await).unwrap().containers
    }

    /// Pod, container and attempt of each container that runs.
    pub(crate) fn containers_running(&self) -> Vec<String> {
        let mut all: Vec<String> = self.all_containers().iter().filter(|c| runs(c)).map(title).collect();
        all.sort();
        all
    }

    /// Container, process ID and state of each task of containerd, sorted.
    pub(crate) fn tasks(&self) -> Vec<String> {
        // How wide the columns are depends on all process IDs there are.
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut tasks: Vec<String> =
            self.containerd.ctr(&["tasks", "ls"]).unwrap().lines().skip(1).map(words).collect();
        tasks.sort();
        tasks
    }
}

pub(crate) fn runs(container: &Container) -> bool {
    container.state() == ContainerState::ContainerRunning
}

/// `pod/container#attempt`
pub(crate) fn title(container: &Container) -> String {
    let label = |key| container.labels.get(key).map_or("?", String::as_str);
    let attempt = container.metadata.as_ref().map_or(0, |m| m.attempt);
    format!("{}/{}#{attempt}", label(labels::POD_NAME), label(labels::CONTAINER_NAME))
}

pub(crate) fn lines_of(containers: &[Container]) -> Vec<String> {
    let line = |c: &Container| format!("{} {:?} {}", title(c), c.state(), c.id);
    let mut lines: Vec<String> = containers.iter().map(line).collect();
    lines.sort();
    lines
}

pub(crate) fn until_no_trace(node: &Node, uid: &str) {
    eventually(&format!("nothing is left of pod {uid}"), || {
        let (traces, sandboxes, containers) = (traces(node, uid), node.sandboxes(uid), node.containers(uid));
        if traces.is_empty() && sandboxes.is_empty() && containers.is_empty() {
            return Ok(());
        }
        Err(format!("{traces:?} {sandboxes:?} {containers:?}"))
    });
}

/// The folders and cgroups of a pod: all that carry its UID.
pub(crate) fn traces(node: &Node, uid: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    named_after(uid, &node.agent.root().join("pods"), &mut found);
    named_after(uid, &node.pod_logs(), &mut found);
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        named_after(uid, &hierarchy.join(node.run.name()), &mut found);
    }
    let links = std::fs::read_dir(node.pod_logs().with_file_name("containers")).into_iter().flatten();
    let dangling = links.map(|link| link.unwrap().path()).filter(|link| !link.exists());
    found.extend(dangling);
    found
}

fn named_after(uid: &str, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(uid) {
            found.push(path);
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            named_after(uid, &path, found);
        }
    }
}

/// Lets the agent start and remove a pod, after which it has had its chance to do anything wrong to others.
pub(crate) fn prove_alive(node: &Node) {
    node.apply("marker", &SLEEPER.replace("containers:", "hostNetwork: true\ncontainers:"));
    let uid = uid_of(&node.until_phase("marker", "Running"));
    node.delete("marker");
    node.until_gone("marker");
    until_no_trace(node, &uid);
}
