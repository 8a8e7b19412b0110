//! A runtime that hangs or loses answers, which a real one does not do on demand: the pod concerned waits and
//! says for what, everything else goes on.

use cri_client::v1::{
    ContainerStatusRequest, CreateContainerRequest, PodSandboxConfig, RunPodSandboxRequest,
    StartContainerRequest, StatusRequest, StopContainerRequest,
};
use serde_json::Value;
use testkit::fake_cri::Fault;

use crate::fake::FakeNode;
use crate::node::uid_of;
use crate::process::END;
use crate::survey::SLEEPER;

fn is_of(config: Option<&PodSandboxConfig>, name: &str) -> bool {
    config.and_then(|c| c.metadata.as_ref()).is_some_and(|m| m.name == format!("{name}-node1"))
}

#[test]
fn a_hung_create_holds_up_its_own_pod_only_and_removal_gets_through() {
    let node = FakeNode::new(&[]);
    node.runtime.fault(Fault::Hang, |r: &CreateContainerRequest| is_of(r.sandbox_config.as_ref(), "stuck"));
    node.apply("stuck", SLEEPER);
    node.until_told("stuck", "creating container app, for ");
    for name in ["one", "two"] {
        node.apply(name, SLEEPER);
        node.until_running(name);
    }
    node.until_told("stuck", "creating container app, for ");
    node.delete("stuck");
    node.until_gone("stuck");
    assert_eq!(node.runtime.sandboxes().len(), 2, "its sandbox is gone, too");

    node.apply("stuck", SLEEPER);
    node.until_told("stuck", "creating container app, for ");
    node.runtime.clear_faults();
    node.until_running("stuck");
    let names: Vec<_> = node.runtime.containers().into_iter().map(|c| c.metadata.unwrap().name).collect();
    assert_eq!(names.len(), 3, "one container each: {names:?}");
}

#[test]
fn a_hung_question_about_a_pod_is_a_visible_wait_too() {
    let node = FakeNode::new(&[]);
    node.apply("stuck", SLEEPER);
    node.until_running("stuck");
    let id = node.runtime.containers()[0].id.clone();
    let of_stuck = id.clone();
    node.runtime.fault(Fault::Hang, move |r: &ContainerStatusRequest| r.container_id == of_stuck);
    // Something to ask about.
    assert!(node.runtime.exit_container(&id, 1, "Error"));
    node.until_told("stuck", "asking the runtime about the pod, for ");
    node.apply("one", SLEEPER);
    node.until_running("one");
    node.runtime.clear_faults();
    let restarted = |pod: Option<&Value>| {
        pod.is_some_and(|p| {
            let status = &p["status"]["containerStatuses"][0];
            status["restartCount"] == 1 && status["state"]["running"].is_object()
        })
    };
    node.until("stuck", restarted);
}

#[test]
fn a_hung_question_about_one_pod_does_not_hold_up_the_start_of_the_agent() {
    let mut node = FakeNode::new(&[]);
    for name in ["stuck", "fine"] {
        node.apply(name, SLEEPER);
        node.until_running(name);
    }
    node.agent.kill9();
    let before = node.runtime.containers();
    let of_stuck = before[0].id.clone();
    node.runtime.fault(Fault::Hang, move |r: &ContainerStatusRequest| r.container_id == of_stuck);
    node.agent.start_again().unwrap();
    node.until_running("fine");
    node.apply("new", SLEEPER);
    node.until_running("new");
    node.until_told("stuck", "asking the runtime about the pod, for ");
    node.runtime.clear_faults();
    node.until_running("stuck");
    assert_eq!(node.runtime.containers()[..2], before, "nothing was restarted");
}

#[test]
fn a_hung_stop_is_told_and_tried_again_after_its_deadline() {
    let node = FakeNode::new(&["--runtime-request-timeout=1s"]);
    node.apply("stuck", SLEEPER);
    node.until_running("stuck");
    node.runtime.fault_once(Fault::Hang, |_: &StopContainerRequest| true);
    node.delete("stuck");
    node.until_told("stuck", "stopping container app");
    // The deadline of a stop is the grace period on top of that of every call.
    node.until_gone("stuck");
    assert_eq!(node.runtime.calls_of::<StopContainerRequest>().len(), 2);
}

#[test]
fn an_answer_that_is_lost_makes_nothing_twice() {
    let node = FakeNode::new(&["--runtime-request-timeout=1s"]);
    node.runtime.fault_once(Fault::LoseReply, |_: &RunPodSandboxRequest| true);
    node.runtime.fault_once(Fault::LoseReply, |_: &CreateContainerRequest| true);
    node.runtime.fault_once(Fault::LoseReply, |_: &StartContainerRequest| true);
    node.apply("lossy", SLEEPER);
    let uid = uid_of(&node.until_running("lossy"));
    node.tokio.block_on(
        node.runtime.wait_for("all three were lost", |r| r.calls_of::<StartContainerRequest>().len() == 1),
    );
    let sandboxes = node.runtime.sandboxes();
    assert_eq!(sandboxes.len(), 1, "{sandboxes:?}");
    assert_eq!(sandboxes[0].metadata.as_ref().map(|m| (m.uid.as_str(), m.attempt)), Some((uid.as_str(), 0)));
    let containers = node.runtime.containers();
    assert_eq!(containers.len(), 1, "{containers:?}");
    assert_eq!(containers[0].metadata.as_ref().map(|m| m.attempt), Some(0));
}

#[test]
fn a_broken_connection_is_made_anew_and_nothing_restarts() {
    let mut node = FakeNode::new(&[]);
    node.apply("one", SLEEPER);
    node.until_running("one");
    let before = node.runtime.containers();
    node.runtime.disconnect();
    node.apply("two", SLEEPER);
    node.until_running("two");
    node.tokio.block_on(node.runtime.stop());
    node.until_told("one", "RuntimeNotReady");
    node.tokio.block_on(node.runtime.start_again()).unwrap();
    node.apply("three", SLEEPER);
    node.until_running("three");
    assert_eq!(node.runtime.containers()[0], before[0]);
    assert_eq!(node.runtime.containers().len(), 3);
}

#[test]
fn a_runtime_that_hangs_altogether_leaves_the_agent_healthy() {
    let mut node = FakeNode::new(&["--runtime-request-timeout=1s"]);
    node.apply("one", SLEEPER);
    node.until_running("one");
    node.runtime.fault(Fault::Hang, |_: &StatusRequest| true);
    node.until_told("one", "RuntimeNotReady");
    node.agent.wait_healthy().unwrap();
    node.runtime.clear_faults();
    node.apply("two", SLEEPER);
    node.until_running("two");
    assert!(node.agent.sigterm(END).unwrap().success());
}
