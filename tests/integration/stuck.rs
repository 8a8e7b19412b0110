//! Calls about one pod that fail each time: the pod is removed all the same.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use cri_client::v1::{
    ContainerStatusRequest, PodSandboxStatusRequest, RemoveContainerRequest, RemovePodSandboxRequest,
    StopContainerRequest, StopPodSandboxRequest,
};
use testkit::fake_cri::{Code, FakeCri, Fault};

use crate::fake::FakeNode;
use crate::node::{eventually, uid_of};
use crate::survey::SLEEPER;

/// What containerd says of a network namespace that it cannot read.
const BUSY: &str = "failed to get sandbox ip: device or resource busy";

/// A runtime with a pod whose agent was killed: the next one has read nothing of it.
fn abandoned() -> FakeNode {
    let mut node = FakeNode::new(&[]);
    node.apply("stuck", SLEEPER);
    node.until_running("stuck");
    node.agent.kill9();
    node
}

fn busy() -> Fault {
    Fault::Fail(Code::Unknown, BUSY.to_owned())
}

fn is_kept_and_removed(node: &mut FakeNode) {
    let before = node.runtime.containers();
    node.agent.start_again().unwrap();
    node.until_told("stuck", BUSY);
    node.until_told("stuck", "what runs is kept");
    node.apply("fine", SLEEPER);
    node.until_running("fine");
    assert_eq!(node.runtime.containers()[..1], before, "what runs is kept");
    node.delete("stuck");
    node.until_gone("stuck");
    assert_eq!(node.runtime.sandboxes().len(), 1, "only that of the other pod is left");
    assert_eq!(node.runtime.containers().len(), 1);
}

#[test]
fn a_sandbox_that_never_tells_its_status_is_kept_and_removed() {
    let mut node = abandoned();
    let id = node.runtime.sandboxes()[0].id.clone();
    node.runtime.fault(busy(), move |r: &PodSandboxStatusRequest| r.pod_sandbox_id == id);
    is_kept_and_removed(&mut node);
}

#[test]
fn a_container_that_never_tells_its_status_is_kept_and_removed() {
    let mut node = abandoned();
    let id = node.runtime.containers()[0].id.clone();
    node.runtime.fault(busy(), move |r: &ContainerStatusRequest| r.container_id == id);
    is_kept_and_removed(&mut node);
}

#[test]
fn an_orphan_is_removed_though_nothing_of_it_tells_its_status() {
    let mut node = abandoned();
    node.runtime.fault(busy(), |_: &PodSandboxStatusRequest| true);
    node.runtime.fault(busy(), |_: &ContainerStatusRequest| true);
    node.delete("stuck");
    node.agent.start_again().unwrap();
    let empty = |r: &FakeCri| r.sandboxes().is_empty() && r.containers().is_empty();
    node.tokio.block_on(node.runtime.wait_for("nothing is left", empty));
}

/// A process in a cgroup that is made for it.
#[derive(Clone)]
struct Process(Arc<Mutex<Child>>);

impl Process {
    fn within(cgroup: &Path) -> Self {
        fs::create_dir_all(cgroup).unwrap();
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
        Self(Arc::new(Mutex::new(child)))
    }

    fn runs(&self) -> bool {
        self.0.lock().unwrap().try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 1 {
            let mut child = self.0.lock().unwrap();
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A pod that runs, with processes where the runtime would have those of its container and its sandbox.
fn with_processes() -> (FakeNode, [(String, Process); 2]) {
    let node = FakeNode::new(&[]);
    node.apply("stuck", SLEEPER);
    let pod = format!("besteffort/pod{}", uid_of(&node.until_running("stuck")));
    let ids = [node.runtime.containers()[0].id.clone(), node.runtime.sandboxes()[0].id.clone()];
    let processes = ids.map(|id| (id.clone(), Process::within(&node.cgroup(&format!("{pod}/{id}")))));
    (node, processes)
}

#[test]
fn what_the_runtime_will_not_remove_while_a_process_is_left_is_killed() {
    let (node, [(container, init), (sandbox, pause)]) = with_processes();
    let running = Fault::Fail(Code::FailedPrecondition, "cannot delete running task".to_owned());
    let of_container = init.clone();
    node.runtime.fault(running.clone(), move |r: &RemoveContainerRequest| {
        r.container_id == container && of_container.runs()
    });
    let of_sandbox = pause.clone();
    node.runtime
        .fault(running, move |r: &RemovePodSandboxRequest| r.pod_sandbox_id == sandbox && of_sandbox.runs());
    node.delete("stuck");
    node.until_gone("stuck");
    assert!(node.runtime.sandboxes().is_empty() && node.runtime.containers().is_empty());
    assert!(!init.runs() && !pause.runs());
}

#[test]
fn what_the_runtime_cannot_stop_is_killed_after_its_grace() {
    let (node, [(container, app), (sandbox, pause)]) = with_processes();
    let unknown = Fault::Fail(Code::Unknown, "unknown error after kill: runc did not terminate".to_owned());
    let (of_container, of_sandbox) = (app.clone(), pause.clone());
    node.runtime.fault(unknown.clone(), move |r: &StopContainerRequest| {
        r.container_id == container && of_container.runs()
    });
    node.runtime
        .fault(unknown, move |r: &StopPodSandboxRequest| r.pod_sandbox_id == sandbox && of_sandbox.runs());
    node.delete("stuck");
    node.until_gone("stuck");
    assert!(!app.runs() && !pause.runs());
}

#[test]
fn a_sandbox_that_can_never_be_removed_holds_up_neither_its_pod_nor_the_same_pod_again() {
    let node = FakeNode::new(&[]);
    node.apply("stuck", SLEEPER);
    let uid = uid_of(&node.until_running("stuck"));
    let old = node.runtime.sandboxes()[0].id.clone();
    let of_old = old.clone();
    node.runtime.fault(busy(), move |r: &RemovePodSandboxRequest| r.pod_sandbox_id == of_old);
    node.delete("stuck");
    node.until_gone("stuck");
    assert_eq!(node.runtime.sandboxes().len(), 1);
    node.apply("stuck", SLEEPER);
    assert_eq!(uid_of(&node.until_running("stuck")), uid, "it is the same manifest");
    node.delete("stuck");
    node.until_gone("stuck");
    assert_eq!(node.runtime.sandboxes().iter().map(|s| &s.id).collect::<Vec<_>>(), [&old]);
    let folder = node.agent.root().join("pods").join(&uid);
    assert!(folder.is_dir(), "it tells that the sandbox is ours");
    node.runtime.clear_faults();
    eventually("what was left is removed", || match (node.runtime.sandboxes().is_empty(), folder.exists()) {
        (true, false) => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn a_pod_whose_own_name_is_too_long_for_the_kernel_waits_in_the_kubelets_words() {
    let node = FakeNode::new(&["--cluster-domain=cluster.local"]);
    let name = "h".repeat(50);
    let spec = format!("hostname: {name}\nsubdomain: s\nsetHostnameAsFQDN: true{SLEEPER}");
    node.apply("long", &spec);
    let domain = "s.default.svc.cluster.local";
    let text = format!(
        "Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain, FQDN \
         {name}.{domain} is too long (64 characters is the max, {} characters requested)",
        name.len() + 1 + domain.len()
    );
    node.until_told("long", &text);
    node.until_told("long", "FailedCreatePodSandBox");
}

#[test]
fn empty_cgroups_of_pods_that_are_gone_are_removed_and_no_others() {
    let node = FakeNode::new(&[]);
    node.apply("fine", SLEEPER);
    let known = node.cgroup(&format!("besteffort/pod{}", uid_of(&node.until_running("fine"))));
    assert!(known.is_dir());
    let (empty, used) = (node.cgroup("besteffort/podgone/c1"), node.cgroup("podused"));
    fs::create_dir_all(&empty).unwrap();
    let process = Process::within(&used);
    eventually("the empty one is removed", || match empty.parent().unwrap().exists() {
        true => Err("it is there".to_owned()),
        false => Ok(()),
    });
    assert!(process.runs() && used.is_dir() && known.is_dir());
}
