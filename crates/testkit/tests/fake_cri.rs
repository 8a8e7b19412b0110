//! The fake runtime keeps the promises that tests build on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use node_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use node_proto::cri::v1::*;
use testkit::fake_cri::{FakeCri, Fault};
use tonic::Code;
use tonic::transport::Channel;

async fn connect(runtime: &FakeCri) -> RuntimeServiceClient<Channel> {
    RuntimeServiceClient::connect(runtime.endpoint()).await.unwrap()
}

fn sandbox(name: &str, network: NamespaceMode) -> RunPodSandboxRequest {
    let metadata = PodSandboxMetadata { name: name.into(), ..Default::default() };
    let namespaces = NamespaceOption { network: network.into(), ..Default::default() };
    let security = LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    let linux = LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() };
    let labels = [("app".to_owned(), name.to_owned())].into();
    let config =
        PodSandboxConfig { metadata: Some(metadata), linux: Some(linux), labels, ..Default::default() };
    RunPodSandboxRequest { config: Some(config), ..Default::default() }
}

#[tokio::test]
async fn a_sandbox_cannot_run_twice_and_is_selected_by_its_labels() {
    let runtime = FakeCri::start().await.unwrap();
    let mut client = connect(&runtime).await;
    client.run_pod_sandbox(sandbox("a", NamespaceMode::Pod)).await.unwrap();
    let refused = client.run_pod_sandbox(sandbox("a", NamespaceMode::Pod)).await.unwrap_err();
    assert!(refused.message().contains("reserved"), "{refused}");
    client.run_pod_sandbox(sandbox("b", NamespaceMode::Pod)).await.unwrap();

    let label_selector = [("app".to_owned(), "b".to_owned())].into();
    let filter = Some(PodSandboxFilter { label_selector, ..Default::default() });
    let listed = client.list_pod_sandbox(ListPodSandboxRequest { filter }).await.unwrap().into_inner();
    assert_eq!(listed.items.len(), 1);
    let [a, b] = &runtime.sandboxes()[..] else { panic!("two sandboxes") };
    assert_eq!(listed.items[0].id, b.id);
    assert_ne!(a.network, b.network, "each has its own address");
}

#[tokio::test]
async fn without_a_network_only_the_nodes_own_will_do() {
    let runtime = FakeCri::start().await.unwrap();
    runtime.set_network_ready(false);
    let mut client = connect(&runtime).await;
    let refused = client.run_pod_sandbox(sandbox("a", NamespaceMode::Pod)).await.unwrap_err();
    assert!(refused.message().contains("cni plugin not initialized"), "{refused}");
    client.run_pod_sandbox(sandbox("b", NamespaceMode::Node)).await.unwrap();
    assert_eq!(runtime.sandboxes()[0].network, None);
}

#[tokio::test]
async fn a_lost_reply_has_its_effect() {
    let runtime = FakeCri::start().await.unwrap();
    let mut client = connect(&runtime).await;
    runtime.fault(Fault::LoseReply, |r: &RunPodSandboxRequest| {
        r.config.as_ref().is_some_and(|config| config.labels["app"] == "a")
    });
    let lost = tokio::spawn({
        let mut client = client.clone();
        async move { client.run_pod_sandbox(sandbox("a", NamespaceMode::Pod)).await }
    });
    runtime.wait_for("the sandbox runs", |r| r.sandboxes().len() == 1).await;
    // Another request of the same kind is not affected.
    client.run_pod_sandbox(sandbox("b", NamespaceMode::Pod)).await.unwrap();
    assert!(!lost.is_finished());
    runtime.clear_faults();
    lost.await.unwrap().unwrap();
}

#[tokio::test]
async fn states_only_go_forward() {
    let runtime = FakeCri::start().await.unwrap();
    let mut client = connect(&runtime).await;
    let pod_sandbox_id =
        client.run_pod_sandbox(sandbox("a", NamespaceMode::Pod)).await.unwrap().into_inner().pod_sandbox_id;
    let metadata = Some(ContainerMetadata { name: "app".into(), attempt: 0 });
    let image = Some(ImageSpec { image: "absent".into(), ..Default::default() });
    let config = Some(ContainerConfig { metadata, image, ..Default::default() });
    let create = CreateContainerRequest { pod_sandbox_id, config, sandbox_config: None };
    let refused = client.create_container(create.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");

    let mut images = image_service_client::ImageServiceClient::connect(runtime.endpoint()).await.unwrap();
    let image = create.config.clone().unwrap().image;
    images.pull_image(PullImageRequest { image, ..Default::default() }).await.unwrap();
    let container_id = client.create_container(create.clone()).await.unwrap().into_inner().container_id;
    let start = StartContainerRequest { container_id: container_id.clone() };
    client.start_container(start.clone()).await.unwrap();
    assert!(runtime.exit_container(&container_id, 1, "OOMKilled"));
    assert!(!runtime.exit_container(&container_id, 1, "OOMKilled"), "it has exited already");
    let refused = client.start_container(start).await.unwrap_err();
    assert!(refused.message().contains("CONTAINER_EXITED"), "{refused}");
    let status = &runtime.containers()[0];
    assert_eq!((status.exit_code, status.reason.as_str()), (1, "OOMKilled"));
    assert!(status.created_at < status.started_at && status.started_at < status.finished_at);

    runtime.kill_sandbox(&create.pod_sandbox_id);
    let refused = client.create_container(create).await.unwrap_err();
    assert!(refused.message().contains("not running"), "{refused}");
}
