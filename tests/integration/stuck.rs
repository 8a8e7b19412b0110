//! Calls about one pod that fail each time: the pod is removed all the same.

use cri_client::Code;
use cri_client::v1::{ContainerStatusRequest, PodSandboxStatusRequest};
use testkit::fake_cri::{FakeCri, Fault};

use crate::fake::FakeNode;
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
